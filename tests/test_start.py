"""What a command waits for before it does anything."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SLOW = ("torch", "torchvision", "rfc3987_syntax", "papermill", "matplotlib")


def loaded_after(statement: str) -> set[str]:
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("statement", ["import xai_lib", "import xai_lib.compendium.cli", "import xai_lib.stats"])
def test_commands_start_without_the_slow_packages(statement: str) -> None:
    assert not loaded_after(statement) & set(SLOW)


def test_the_study_loads_without_torchvision() -> None:
    found = loaded_after("from xai_lib import data, models\nmodels.load('efficientnet_lite0')\ndata.load('photos', n=1)")
    assert "torch" in found
    assert not found & {"torchvision", "rfc3987_syntax"}


def test_nbformat_comes_without_the_grammar_and_leaves_no_trace() -> None:
    statement = "import xai_lib.compendium.notebooks as n\nassert 'rfc3987_syntax' not in sys.modules\nimport rfc3987_syntax"
    assert {"nbformat", "rfc3987_syntax"} <= loaded_after(statement)
