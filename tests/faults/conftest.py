"""What the tests of store and engine share: child processes that know the toy tasks and no torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TOYS = {"XAI_TESTING": "1", "XAI_TASKS": "toy_tasks", "XAI_TOYS": "alone"}


@pytest.fixture(scope="session")
def toys():
    """The environment in which a process finds the toy tasks."""
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    return {**TOYS, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(toys):
    """start(code, *arguments, **popen) -> a Python process that finds `arguments` (as JSON) under the name `given`."""
    started = []

    def child(code, *arguments, fault="", **popen):
        top = f"import json, sys\ngiven = json.loads({json.dumps(arguments)!r})\n"
        environment = {**os.environ, **toys, "XAI_FAULT": fault, **popen.pop("env", {})}
        own = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **popen}
        process = subprocess.Popen([sys.executable, "-c", top + code], env=environment, **own)
        started.append(process)
        return process

    yield child
    for process in started:
        with process:
            process.kill()
