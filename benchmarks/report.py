"""Where benchmark results go: one JSON file per script, with the machine they were measured on."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def write(found: list[dict[str, Any]], path: Path) -> None:
    """Print each measurement as a JSON line and write all of them with the machine's facts."""
    for row in found:
        print(json.dumps(row), flush=True)
    machine = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": os.getloadavg()[0],
        "versions": {name: version(name) for name in ("torch", "captum", "quantus", "numpy")},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "results": found}, indent=2) + "\n")
