"""A small repository with one invented study, executed by nobody: what the book needs and nothing more."""

import base64
import hashlib
import io
import json
import shutil
from pathlib import Path

import nbformat
import yaml
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
STUDY = "baseline_study"
HEAD = "dataset,model,method,method_parameters,metric,metric_parameters,sample,seed,value,seconds,flag"
RESULTS = [
    f"photos,small_net,{method},{{}},{metric},{{}},img{i},0,{value!r},0.1,"
    for i in range(12)
    for method, metric, value in (
        ("uniform x1 mean", "sparseness", 0.5 + i / 100),
        ("uniform x5 mean", "sparseness", 0.6 + i / 100),
        ("black", "completeness_gap", 0.001 * (i + 1)),
    )
]
CLAIMS = [
    {
        "id": "A3", "where": "Table 1", "statement": "The patch of the mean map is predicted with more confidence.",
        "metric": "contour_patch_prediction",
        "published": {"text": "0.956 (one), 0.973 (five)", "values": {"uniform x1 mean": 0.956, "uniform x5 mean": 0.973}},
        "rule": {
            "kind": "greater", "metric": "contour_patch_prediction", "method": "uniform x5 mean", "versus": "uniform x1 mean",
        },
    },
    {
        "id": "A5", "where": "section 4.4", "statement": "Mean beats median | as printed.", "metric": "sparseness",
        "published": {"text": "no number"},
        "rule": {"kind": "less", "metric": "sparseness", "method": "median", "versus": "mean", "min_n": 10},
    },
    {
        "id": "A6", "where": "Table 3", "statement": "Several baselines outperform a single one.", "metric": "all",
        "published": {"text": "six of eight"},
        "rule": {"kind": "at_least", "k": 2, "of": [
            {"kind": "less", "metric": "complexity", "method": "uniform x5 mean", "versus": "uniform x1 mean"},
            {"kind": "above", "metric": "sparseness", "method": "uniform x5 mean", "threshold": 0.5},
        ]},
    },
    {
        "id": "A9", "where": "figure 8", "statement": "The contour patch is classified correctly.", "metric": "accuracy",
        "published": {"text": "one image"},
        "rule": {"kind": "above", "metric": "accuracy", "method": "patch", "threshold": 0.5},
    },
    {
        "id": "A14", "where": "section 3.2.1", "statement": "Hooker et al. showed that IG works.", "metric": "none",
        "published": {"text": "cited"}, "rule": {"kind": "not_tested", "reason": "scale", "note": "needs retraining"},
    },
]  # fmt: skip
VERDICTS = [
    ("A3", "reproduced", "", 12, 0.021, 0.008, 0.034, 0.004),
    ("A5", "not reproduced", "", 12, 0.0004, -0.011, 0.012, None),
    ("A6", "reproduced in direction only", "", 12, 0.1, 0.09, 0.11, None),
    ("A9", "contradicted", "", 12, 0.31, 0.2, 0.44, None),
    ("A14", "not tested", "scale", 0, None, None, None, None),
]
PARAMETERS = {"n_images": 12, "baselines": ["black", "uniform"], "steps": 24, "seed": 0}


def study() -> dict:
    return {
        "title": "Baselines of Integrated Gradients",
        "document": {"id": "000", "title": "Investigating the Impact of Baselines", "authors": ["Ajay Shewale"], "year": 2023,
                     "cite": "shewale2023"},
        "question": "Does averaging several random baselines improve Integrated Gradients?",
        "why": "A baseline stands for the absence of evidence, and a map is a statement relative to it.",
        "minutes": {"smoke": 0.5, "book": 15},
        "prerequisites": ["Gradients and the chain rule", "What a logit is"],
        "goals": ["say what a baseline stands for", "read an interval as evidence"],
        "parameters": {
            "n_images": {"type": "int", "default": 4, "range": [1, 1000], "help": "number of images"},
            "baselines": {"type": "list[str]", "default": ["black", "uniform"], "help": "registered baselines"},
            "steps": {"type": "int", "default": 24, "range": [1, 500], "help": "steps of the path integral"},
            "seed": {"type": "int", "default": 0, "help": "seed of every draw"},
        },
        "profiles": {
            "smoke": {"minutes": 0.5, "verdicts": False, "values": {}},
            "book": {"minutes": 15, "verdicts": True, "values": {"n_images": 12}},
        },
        "claims": CLAIMS,
        "deviations": [{"what": "Model", "document": "ResNet-50", "here": "EfficientNet-Lite0", "reason": "runs on two cores",
                        "effect": "levels differ, directions should not"}],
        "limits": ["One architecture.", "Twelve images: small effects stay undecided."],
        "questions": [{"question": "Which pixels can a black baseline never credit?", "options": ["white ones", "black ones"],
                       "answer": "Black ones, because the factor x − x' is zero there."}],
    }  # fmt: skip


def picture(text: str) -> str:
    image = Image.new("RGB", (640, 260), "white")
    draw = ImageDraw.Draw(image)
    for x in range(60, 600, 6):
        draw.rectangle((x, 230 - (x * 7 % 180), x + 3, 230), fill=(31, 90, 150))
    draw.line((60, 230, 600, 230), fill="black", width=2)
    draw.text((64, 20), text, fill="black")
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def notebook(*, figure: dict | None = None, here: str = "/srv/someone/repo") -> nbformat.NotebookNode:
    v4 = nbformat.v4
    facts = {
        "name": "fig-sparseness",
        "caption": "Sparseness by number of baselines; mean ⟦mean metric=sparseness; method=uniform x5 mean; format=.3f⟧.",
        "alt": "Bars of sparseness for twelve images; with five baselines the mean is 0.655, with one it is 0.555.",
    }
    image = v4.new_output("display_data", {"image/png": picture("sparseness"), "text/plain": "<Figure size 640x260>"})
    image.metadata = {"xai": facts if figure is None else figure}
    rows = ":::{table} Gap per image\n:name: tab-gap\n\n| image | gap |\n| --- | --- |\n| img0 | 0.001 |\n:::"
    listed = v4.new_output("display_data", {"text/markdown": rows, "text/plain": "table"})
    code = [
        v4.new_code_cell("n_images: int = 4  # number of images", metadata={"tags": ["parameters"]}),
        v4.new_code_cell("n_images = 12", metadata={"tags": ["injected-parameters"]}),
        v4.new_code_cell("plotting.show(fig)", outputs=[image]),
        v4.new_code_cell("plotting.table(frame)", outputs=[listed]),
        v4.new_code_cell(f"open('{here}/x')", outputs=[v4.new_output("stream", name="stderr", text="10%")]),
    ]
    for place, cell in enumerate(code, start=1):
        cell.execution_count = place
        cell.metadata["papermill"] = {"status": "completed", "duration": 0.5}
    method = (
        "## Method\n\nIntegrated Gradients {cite}`sundararajan2017` from a baseline $x'$:\n\n$$\nA_i = (x_i - x_i') \\int_0^1 "
        "\\partial_i F(x' + \\alpha (x - x'))\\, d\\alpha\n$$ (eq-ig)\n\nSee {eq}`eq-ig` and {numref}`fig-sparseness`."
    )
    cells = [
        v4.new_markdown_cell("# Baselines of Integrated Gradients"),
        code[0], code[1],
        v4.new_markdown_cell(method, metadata={"tags": ["after-method"]}),
        v4.new_markdown_cell("## Sanity checks\n\nGap: ⟦mean metric=completeness_gap; method=black⟧ ({numref}`tab-gap`)."),
        code[3],
        v4.new_markdown_cell("## Results\n\nFigure [below](#fig-sparseness), ⟦parameter n_images⟧ images."),
        code[2], code[4],
        v4.new_markdown_cell("## In words\n\nThe averaged map is sparser by ⟦claim A3 effect⟧: ⟦claim A3 verdict⟧."),
    ]  # fmt: skip
    book = v4.new_notebook(cells=cells)
    for place, cell in enumerate(book.cells):
        cell.id = f"cell-{place}"
    book.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
        "papermill": {"input_path": f"{here}/in.ipynb", "output_path": f"{here}/out.ipynb", "parameters": PARAMETERS},
    }
    return book


def write_run(
    folder: Path, *, profile: str | None = "book", book: nbformat.NotebookNode | None = None, **changes: object
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(book or notebook(), folder / "notebook.ipynb")
    (folder / "results.csv").write_text("\n".join([HEAD, *RESULTS]) + "\n")
    decides = profile not in (None, "smoke")
    names = ("id", "verdict", "reason", "n", "effect", "low", "high", "difference")
    detail = "Paired difference over 12 images; the interval decides."
    record = {
        "run_id": f"20261121-{profile or 'own'}-3f9a", "study": STUDY, "profile": profile, "exploratory": profile is None,
        "published": decides, "parameters": PARAMETERS, "started": "2026-11-21T10:00:00+00:00",
        "finished": "2026-11-21T10:14:30+00:00", "seconds": 870.5, "status": "finished",
        "commit": "0123456789abcdef", "dirty": False,
        "versions": {"python": "3.11.2", "torch": "2.10.0"}, "device": "cpu", "threads": 2, "cpu": "Example CPU", "seeds": [0],
        "data": [{"name": "photos", "fingerprint": "ab" * 32, "n": 12, "redistributable": True, "licence": "CC0"}],
        "models": [{"name": "small_net", "weights_sha256": "cd" * 32}],
        "verdicts": [{**dict(zip(names, v, strict=True)), "detail": detail} for v in VERDICTS] if decides else [],
        "cells": [{"index": 1, "seconds": 0.5}, {"index": 2, "seconds": 12.25}],
        "results_sha256": hashlib.sha256((folder / "results.csv").read_bytes()).hexdigest(),
        "notebook_sha256": hashlib.sha256((folder / "notebook.ipynb").read_bytes()).hexdigest(),
        "command": f"xai run {STUDY} --profile {profile}", **changes,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def repository(root: Path, *, published: bool = True, local: bool = True) -> Path:
    """The project's own pages and configuration around the invented study."""
    shutil.copytree(ROOT / "book", root / "book", ignore=shutil.ignore_patterns("runs"))
    shutil.copyfile(ROOT / "_config.yml", root / "_config.yml")
    (root / "CHANGELOG.md").write_text("# Changelog\n\n## 0.1.0\n\n- First study.\n")
    toc = yaml.safe_load((root / "book" / "_toc.yml").read_text())
    for part in toc["parts"]:
        part["chapters"] = [
            entry for entry in part["chapters"] if not entry["file"].startswith("notebooks/") or entry["file"].endswith(STUDY)
        ]
    toc["parts"] = [part for part in toc["parts"] if part["chapters"]]
    (root / "book" / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False))
    questions = ("against_random", "baseline_or_path", "removal", "concordance")
    (root / "book" / "cross_study.yml").write_text(yaml.safe_dump({key: [] for key in questions}))
    (root / "notebooks").mkdir()
    (root / "notebooks" / f"{STUDY}.yml").write_text(yaml.safe_dump(study(), sort_keys=False))
    nbformat.write(notebook(), root / "notebooks" / f"{STUDY}.ipynb")
    if published:
        write_run(root / "book" / "runs" / STUDY / "book")
    if local:
        write_run(root / "runs" / STUDY / "20261121-smoke-3f9a", profile="smoke")
    return root
