"""`xai doctor`: is this installation fit to run studies and to build the book?"""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from xai_lib.compendium.record import cpu
from xai_lib.compendium.study import root

PACKAGES = ("torch", "torchvision", "captum", "quantus", "papermill", "ipykernel", "jupyter-book", "pydantic")
OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
OLDEST = (3, 11)
FREE_GB = 2.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at; a finding that is not `ok` fails the check unless it is `optional`."""

    name: str
    ok: bool
    text: str
    optional: bool = False


def report(say: Callable[[str], None]) -> int:
    """Say every finding; 0 when nothing required is wrong, 1 otherwise."""
    findings = list(examine())
    for finding in findings:
        mark = "ok" if finding.ok else "note" if finding.optional else "WRONG"
        say(f"{mark:5}  {finding.name:10}  {finding.text}")
    return int(any(not finding.ok and not finding.optional for finding in findings))


def examine() -> Iterator[Finding]:
    """All findings, one after another."""
    python = f"{platform.python_version()} at {sys.executable}, {platform.platform()}, {cpu()}, {os.cpu_count()} cores"
    yield Finding("python", sys.version_info >= OLDEST, python)
    for package in PACKAGES:
        version = _version(package)
        yield Finding(package, version is not None, version or "not installed; run: pip install -e .")
    yield opencv()
    yield _device()
    for variable, use in (("XAI_DATA", "real data sets"), ("XAI_WEIGHTS", "weight files")):
        yield _folder(variable, use)
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    yield Finding("chromium", browser is not None, browser or "not found; only the browser tests need it", optional=True)
    free = shutil.disk_usage(root()).free / 1e9
    yield Finding("disk", free >= FREE_GB, f"{free:.1f} GB free at {root()}; {FREE_GB:g} are enough")


def opencv() -> Finding:
    """Exactly one OpenCV must be installed: two builds overwrite each other's files."""
    found = [f"{package} {version}" for package in OPENCV if (version := _version(package))]
    text = ", ".join(found) or "not installed; run: pip install -e ."
    return Finding("opencv", len(found) == 1, text if len(found) < 2 else f"{text}: keep one, uninstall the others")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device() -> Finding:
    import torch  # late: a broken torch must still let the other findings be shown

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return Finding("device", True, f"{gpu or 'cpu'}, {torch.get_num_threads()} threads")


def _folder(variable: str, use: str) -> Finding:
    chosen = os.environ.get(variable)
    if not chosen:
        return Finding(variable, False, f"not set; only profiles that need {use} use it", optional=True)
    there = Path(chosen).is_dir()
    return Finding(variable, there, chosen if there else f"{chosen}: no such folder")
