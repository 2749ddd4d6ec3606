"""The results table of a study: one row per measured value, the same columns everywhere."""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from xai_lib.compendium import ledger
from xai_lib.compendium.tasks import made_with
from xai_lib.errors import InputError, StoreError

if TYPE_CHECKING:  # a run starts without torch, whose import takes seconds
    from xai_lib.types import Samples

COLUMNS = (
    "dataset",
    "model",
    "method",
    "method_parameters",
    "metric",
    "metric_parameters",
    "sample",
    "seed",
    "value",
    "seconds",
    "flag",
)
KEY = ["dataset", "model", "method", "metric", "sample", "seed"]
TEXTS = ("dataset", "model", "method", "method_parameters", "metric", "metric_parameters", "sample", "flag")
RESULTS, PROVENANCE = "results.csv", "provenance.json"


def save_results(
    frame: pd.DataFrame,
    *,
    samples: "Iterable[Samples]",
    models: Iterable[Any],
    extra: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Check a study's results and, inside a run, write them: the last act of a study notebook.

    Args:
        frame: one row per value, columns `COLUMNS` in any order. *_parameters are mappings or JSON text; sample is '' where the
            value is not of one image; flag is '' or the reason why a value is undefined.
        samples: the sample sets used (recorded with their fingerprints).
        models: the models used, from `models.load` (recorded with the hash of their weights).
        extra: further provenance, plain JSON; "quarantined" lists items that were left out, which makes the exit code 3.

    Returns:
        The checked table, columns in order. Outside a run nothing is written, and a line says so.

    Raises:
        InputError: columns, types, duplicates, or a value that is not finite and has no flag.
        StoreError: the table cannot be written.
    """
    table = checked(frame)
    folder = os.environ.get("XAI_RUN_DIR")
    if not folder:
        print(f"{len(table)} results checked; nothing is written outside `xai run`.")
        return table
    content = table.to_csv(index=False, lineterminator="\n")
    write(Path(folder) / RESULTS, content)
    record = {
        "data": _once(_data(item) for item in samples),
        "models": _once(_model(item) for item in models),
        **_machine(),
        "shards": {"n": len(ledger.shards), "seconds": round(sum(ledger.shards.values()), 3), "keys": sorted(ledger.shards)},
        "made_with": made_with(),
        "extra": {**({"quarantined": _quarantined()} if ledger.left_out else {}), **dict(extra or {})},
        "results_sha256": hashlib.sha256(content.encode()).hexdigest(),
    }
    write(Path(folder) / PROVENANCE, json.dumps(record, indent=1, sort_keys=True, allow_nan=False))
    print(f"{RESULTS}: {len(table)} results of {table['method'].nunique()} conditions and {table['metric'].nunique()} metrics.")
    return table


def _quarantined() -> list[dict[str, str]]:
    return [{"item": name, "reason": why} for name, why in sorted(ledger.left_out.items())]


def checked(frame: pd.DataFrame) -> pd.DataFrame:
    """The table in canonical form; see `save_results` for what is refused."""
    missing, extra = set(COLUMNS) - set(frame.columns), set(map(str, frame.columns)) - set(COLUMNS)
    if missing or extra:
        raise InputError(
            f"results: missing columns {sorted(missing) or 'none'}, unknown columns {sorted(extra) or 'none'};"
            f" expected exactly {', '.join(COLUMNS)}"
        )
    if not len(frame):
        raise InputError("results: the table is empty; a run needs at least one value")
    table = frame.loc[:, list(COLUMNS)].reset_index(drop=True)
    for column in ("method_parameters", "metric_parameters"):
        table[column] = [_canonical(column, value) for value in table[column]]
    for column in TEXTS:
        wrong = [value for value in table[column] if not isinstance(value, str)]
        if wrong:
            raise InputError(f"results: column {column!r} holds {wrong[0]!r}; expected text ('' for none)")
    for column in ("dataset", "model", "method", "metric"):
        if (table[column] == "").any():
            raise InputError(f"results: column {column!r} is empty in row {int((table[column] == '').argmax())}")
    if not all(isinstance(value, int | float) or hasattr(value, "__float__") for value in table["value"]):
        raise InputError("results: column 'value' must hold numbers")
    try:
        table = table.astype({"seed": "int64", "value": "float64", "seconds": "float64"})
    except (TypeError, ValueError) as error:
        raise InputError(f"results: seed must be whole, value and seconds numbers: {error}") from None
    _refuse_undefined_and_double(table)
    return table


def _refuse_undefined_and_double(table: pd.DataFrame) -> None:
    unflagged = table[~table["value"].map(math.isfinite) & (table["flag"] == "")]
    if len(unflagged):
        row = unflagged.iloc[0]
        raise InputError(
            f"results: {len(unflagged)} values are not finite and have no flag, the first {row['value']} of"
            f" {row['method']!r}, {row['metric']!r}, sample {row['sample']!r}; give the reason in `flag`"
        )
    double = table[table.duplicated(KEY, keep=False)]
    if len(double):
        row = double.iloc[0]
        raise InputError(
            f"results: {len(double)} rows repeat a key, the first {dict(row[KEY])}; one row per {', '.join(KEY)}"
            " (name the condition in `method`)"
        )


def _canonical(column: str, value: Any) -> str:
    """Parameters as JSON with sorted keys."""
    try:
        content = json.loads(value or "{}") if isinstance(value, str) else value
        if not isinstance(content, Mapping):
            raise TypeError(f"found {type(content).__name__}")
        return json.dumps(dict(content), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"results: column {column!r} must hold JSON objects: {error}") from None


def read_results(path: Path) -> pd.DataFrame:
    """A results.csv as it was written, to the last bit.

    Raises:
        StoreError: it is missing or is no results table.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        for column in ("value", "seconds"):  # float() is exact; the fast parsers of some pandas versions are not
            table[column] = [float(text or "nan") for text in table[column]]
        table["seed"] = [int(text) for text in table["seed"]]
        return checked(table)
    except (OSError, ValueError, KeyError, InputError) as error:
        raise StoreError(f"{path}: no results table: {error}") from None


def write(path: Path, content: str | bytes) -> None:
    """Write a file so that it is either as before or whole; text as UTF-8.

    Raises:
        StoreError: the place is read-only or full; nothing is left behind.
    """
    scratch = None
    try:
        with tempfile.NamedTemporaryFile("wb", dir=path.absolute().parent, prefix=".", delete=False) as file:
            scratch = Path(file.name)
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        scratch.chmod(0o644)
        scratch.replace(path)
    except OSError as error:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}; check space and permissions") from None


def _once(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without repetitions: two cases may share a model or its images."""
    found: list[dict[str, Any]] = []
    for record in records:
        if record not in found:
            found.append(record)
    return found


def _data(samples: "Samples") -> dict[str, Any]:
    return {
        "name": samples.name,
        "fingerprint": samples.fingerprint,
        "n": len(samples),
        "redistributable": samples.redistributable,
        "licence": samples.licence,
    }


def _model(model: Any) -> dict[str, Any]:
    return {"name": getattr(model, "name", type(model).__name__), "weights_sha256": getattr(model, "weights_sha256", None)}


def _machine() -> dict[str, Any]:
    import torch  # late: see above

    gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    return {"device": torch.cuda.get_device_name() if gpu else "cpu", "threads": torch.get_num_threads()}
