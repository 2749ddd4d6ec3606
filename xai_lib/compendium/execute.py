"""Executes one notebook with Papermill, in a process of its own, and writes down what happened.

Run as a file (`python -P execute.py REQUEST`), so that it starts without the library. REQUEST is a JSON file: notebook, output,
parameters, cwd, events, parent. Each event is one JSON line; a run without a last line {"event": "end", "status": "finished"}
did not finish, whatever the notebook says (Papermill stamps every cell "completed" after a dead kernel).
"""

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil


def main(request: Path) -> int:
    """Execute the request; 0 when the notebook finished, 1 otherwise."""
    asked = json.loads(request.read_text(encoding="utf-8"))
    with Path(asked["events"]).open("a", encoding="utf-8", buffering=1) as stream:

        def tell(event: str, **fields: Any) -> None:
            stream.write(json.dumps({"event": event, "time": time.time(), **fields}) + "\n")

        threading.Thread(target=_follow, args=(asked["parent"],), daemon=True).start()
        try:
            _papermill(asked, tell)
        except BaseException as error:
            tell("end", status="failed", name=type(error).__name__, value=str(error)[:2000])
            return 1
        tell("end", status="finished")
        return 0


def _papermill(asked: dict[str, Any], tell: Any) -> None:
    # jsonschema would compile a grammar of addresses for three seconds; see xai_lib.compendium.notebooks
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    from papermill import execute_notebook
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines

    class Telling(NBClientEngine):
        """Papermill's engine, with each step told."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
            def started(cell: Any, cell_index: int) -> None:
                if cell_index == first:
                    tell("kernel", pid=client.km.provisioner.pid)
                tell("cell", index=cell_index, of=len(nb_man.nb.cells))

            def failed(cell: Any, cell_index: int, execute_reply: Any) -> None:
                content = execute_reply["content"]
                tell("error", index=cell_index, name=content["ename"], value=content["evalue"][:2000])

            first = next((k for k, cell in enumerate(nb_man.nb.cells) if cell.cell_type == "code"), 0)
            client = PapermillNotebookClient(
                nb_man,
                kernel_name=kernel_name,
                startup_timeout=options["start_timeout"],
                timeout=None,
                on_cell_start=started,
                on_cell_error=failed,
            )
            return client.execute()

    papermill_engines.register("telling", Telling)
    execute_notebook(
        _literal(asked["notebook"]),
        _literal(asked["output"]),
        parameters=asked["parameters"],
        engine_name="telling",
        kernel_name="python3",
        language="python",
        progress_bar=False,
        cwd=asked["cwd"],
    )


def _literal(path: str) -> str:
    """Papermill formats paths with the parameters; doubled braces come out as they were."""
    return path.replace("{", "{{").replace("}", "}}")


def _follow(parent: int) -> None:
    """When the runner is gone (kill -9), end the kernel, what it started, and this process."""
    while os.getppid() == parent:
        time.sleep(0.5)
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if each.pid != os.getpid() and each.environ().get("XAI_RUN_DIR") == os.environ["XAI_RUN_DIR"]:
                each.kill()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
