"""run.json: what a run was asked, what made it, and what came out."""

import hashlib
import importlib.metadata
import json
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

import xai_lib
from xai_lib.compendium.claims import judge
from xai_lib.compendium.notebooks import NotebookNode
from xai_lib.compendium.study import Resolved, Study
from xai_lib.compendium.verify import code_cells

PACKAGES = ("numpy", "torch", "torchvision", "captum", "quantus")


def compose(
    study: Study,
    resolved: Resolved,
    *,
    run: Mapping[str, Any],
    provenance: Mapping[str, Any],
    table: pd.DataFrame,
    notebook: NotebookNode,
    files: Mapping[str, Path],
) -> dict[str, Any]:
    """The record of a run that counts.

    Args:
        study, resolved: what was asked.
        run: run_id, published, started, finished, seconds, and the commit at the start.
        provenance: what `save_results` wrote down in the kernel.
        table: results.csv; an exploratory run gives no verdicts.
        notebook: the executed notebook, for the seconds of each cell.
        files: "results" and "notebook", whose hashes are recorded.
    """
    verdicts = [] if resolved.exploratory else judge(study, table, profile=resolved.profile, exploratory=False)
    return {
        **run,
        "study": study.name,
        "profile": resolved.profile,
        "exploratory": resolved.exploratory,
        "parameters": resolved.values,
        "status": "finished",
        "versions": versions(),
        "device": provenance["device"],
        "threads": provenance["threads"],
        "cpu": cpu(),
        "seeds": sorted(int(seed) for seed in table["seed"].unique()),
        "data": provenance["data"],
        "models": provenance["models"],
        "shards": provenance.get("shards", {"n": 0, "seconds": 0.0, "keys": []}),
        "made_with": provenance.get("made_with", {}),
        "extra": provenance["extra"],
        "verdicts": [verdict.record() for verdict in verdicts],
        "cells": _cells(notebook),
        **{f"{name}_sha256": hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()},
        "command": command(study, resolved),
    }


def _cells(notebook: NotebookNode) -> list[dict[str, Any]]:
    timed = ((index, cell.metadata.get("papermill", {}).get("duration")) for index, cell in code_cells(notebook))
    return [{"index": index, "seconds": seconds or 0.0} for index, seconds in timed]


def text_of(record: Mapping[str, Any]) -> str:
    """run.json as it is written into a run folder."""
    return json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n"


def commit_of(root: Path) -> dict[str, Any]:
    """The commit of the repository and whether tracked files differ from it, now; None without git.

    Published runs do not count: several are made one after the other, and none depends on another.
    """
    commit = _git(root, "rev-parse", "HEAD")
    status = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ":(top)", ":(top,exclude)book/runs")
    return {"commit": commit, "dirty": None if status is None else bool(status)}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def versions() -> dict[str, str]:
    """Versions of what can change a number; "not installed" where a package is missing."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return {**found, "xai_lib": xai_lib.__version__}


def cpu() -> str:
    """Name of the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def command(study: Study, resolved: Resolved) -> str:
    """The command that makes this run again."""
    words: Sequence[str] = ["xai", "run", study.name, "--profile", resolved.profile or resolved.base]
    if resolved.profile is None:
        base = study.profile_values(resolved.base)
        for name, value in resolved.values.items():
            if value != base[name] or type(value) is not type(base[name]):
                text = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True, width=10**6)
                words = [*words, "-p", f"{name}={text.removesuffix(chr(10)).removesuffix('...').strip()}"]
    return shlex.join(words)
