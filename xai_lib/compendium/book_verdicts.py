"""Generated cells at the end of a study chapter: results against the document, limits, questions, provenance, references."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from xai_lib.compendium.book_cells import Study, cite, claim_target, command, lesson, reported, runtime, section, threads
from xai_lib.compendium.book_runs import Run, decides
from xai_lib.compendium.book_words import badge, code, duration, headline, interval, number, table


def results(study: Study, run: Run) -> str:
    """Element 10: claim by claim, what the document reports, what we found, and how that was decided."""
    if lesson(study):
        return ""
    if run.exploratory:
        return section(
            run.prefix, "results", "Results against the document",
            "Exploratory: not a verdict. The parameters of this run are not a registered profile, so nothing is decided.",
        )  # fmt: skip
    if not decides(study, run):
        return section(
            run.prefix, "results", "Results against the document",
            f"The profile {code(run.profile)} is too small to decide a claim; it shows that every cell runs on this machine.",
        )  # fmt: skip
    by_id = {str(claim["id"]): claim for claim in study.get("claims") or []}
    rows, how = [], []
    for verdict in run.verdicts:
        claim = by_id[str(verdict["id"])]
        ours = interval(verdict.get("effect"), verdict.get("low"), verdict.get("high"))
        mark = badge(verdict["verdict"], verdict.get("reason"))
        link = f'<a href="#{claim_target(run.prefix, verdict["id"])}">{verdict["id"]}</a>'
        rows.append((link, reported(claim), ours, number(verdict.get("n")), number(verdict.get("difference")), mark))
        how.append(f"**{verdict['id']}** {mark}\n: {claim['statement']}\n: {decided(verdict)}")
    head = ["Claim", "Reported", "Ours [95 % interval]", "n", "Ours − reported", "Verdict"]
    body = (
        f"{headline(run.verdicts)}.{judged_again(run)}\n\n{table(head, rows)}\n\n### How each verdict was reached\n\n"
        + "\n\n".join(how)
    )
    return section(run.prefix, "results", "Results against the document", body)


def judged_again(run: Run) -> str:
    """What was changed when the verdicts of this run were computed again by corrected rules; empty when they never were."""
    told = ""
    for entry in run.record.get("judged_again") or []:
        moved = [one for one in entry["changed"] if one["before"] != one["after"]]
        kept = [one["id"] for one in entry["changed"] if one["before"] == one["after"]]
        parts = [
            f"{one['id']} went from {one['before']} to {one['after']}"
            if one["before"]
            else f"{one['id']} is new, {one['after']}"
            for one in moved
        ]
        parts += [f"the verdict of {', '.join(kept)} stayed"] if kept else []
        told += (
            f"\n\nOn {str(entry['when'])[:10]} rules that did not test what their claims say were corrected, and the verdicts "
            f"computed again from the same results: {'; '.join(parts) or 'none changed'}."
        )
    return told


def decided(verdict: Mapping[str, Any]) -> str:
    """One sentence on what decided."""
    detail = verdict.get("detail")
    return str(detail).strip() if detail else "No detail was recorded."


def limits(study: Study, run: Run) -> str:
    """Element 13."""
    listed = "\n".join(f"- {limit}" for limit in study.get("limits") or [])
    return section(run.prefix, "limits", "Limits, and what would change our mind", listed or "None stated.")


def questions(study: Study, run: Run) -> str:
    """Element 14: questions and exercises with folded answers; empty when the study file has neither."""
    parts = []
    for place, item in enumerate(study.get("questions") or [], start=1):
        options = "\n".join(f"   - {option}" for option in item.get("options") or item.get("choices") or [])
        answer = item.get("answer")
        why = item.get("why") or item.get("explanation") or ""
        text = f"{place}. {item['question']}" + (f"\n{options}" if options else "")
        folded = f"\n\n:::{{dropdown}} Answer to question {place}\n{answer} {why}\n:::" if answer is not None else ""
        parts.append(text + folded)
    exercises = [exercise(place, item) for place, item in enumerate(study.get("exercises") or [], start=1)]
    if exercises:
        parts.append(f"({run.prefix}-exercises)=\n### Exercises\n\n" + "\n\n".join(exercises))
    title = "Questions and exercises" if exercises else "Questions"
    return section(run.prefix, "questions", title, "\n\n".join(parts)) if parts else ""


LEVELS = {"predict": "predict, then look", "change": "change a parameter", "extend": "extend the code"}


def exercise(place: int, item: Mapping[str, Any]) -> str:
    """One exercise: level, minutes, the task in the open, the solution folded."""
    return (
        f"**Exercise {place}** ({LEVELS[item['level']]}, {item['minutes']} minutes). {str(item['task']).strip()}\n\n"
        f"::::{{dropdown}} Solution of exercise {place}\n{str(item['solution']).strip()}\n::::"
    )


def shards_row(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How many shards of the store the numbers come from, and the hash of their names."""
    shards = record.get("shards") or {}
    if not shards.get("n"):
        return []
    digest = hashlib.sha256("\n".join(shards["keys"]).encode()).hexdigest()
    return [("Shards", f"{shards['n']}; {code(digest)} over their names, which are in run.json")]


def _data_rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """One row per data set: its fingerprint, or the sha256 over those of its selections."""
    chosen: dict[str, list[str]] = {}
    for one in record["data"]:
        chosen.setdefault(str(one["name"]), []).append(str(one.get("fingerprint", "–")))
    rows = []
    for name, own in chosen.items():
        joint = hashlib.sha256("\n".join(own).encode()).hexdigest()
        rows.append(
            (f"Data {name}", code(own[0]) if len(own) == 1 else f"{len(own)} selections; {code(joint)} over their fingerprints")
        )
    return rows


def provenance(study: Study, run: Run, sources: Sequence[str]) -> str:
    """Element 16: which run made this page, on what, how long each cell took, and how to check it."""
    record = run.record
    commit = str(record.get("commit") or "unknown")[:12] + (" (with uncommitted changes)" if record.get("dirty") else "")
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    seeds = record.get("seeds")
    rows = [
        ("Run", code(record["run_id"])),
        ("Commit", code(commit)),
        ("Started, finished", f"{record.get('started', '–')}, {record['finished']}"),
        ("Runtime", runtime(record)),
        (
            "Device",
            f"{record.get('device', '–')}; {record.get('cpu', 'CPU not recorded')}; {threads(record)}",
        ),
        ("Versions", versions),
        ("Seeds", code(seeds) if seeds not in (None, [], {}) else "none"),
        *_data_rows(record),
        *((f"Weights {m['name']}", code(m.get("weights_sha256") or "untrained")) for m in record["models"]),
        *shards_row(record),
        ("results.csv", code(record.get("results_sha256") or "–")),
        ("notebook.ipynb", code(record.get("notebook_sha256") or "–")),
    ]
    times = [(str(c["index"]), duration(c["seconds"])) for c in record.get("cells") or []]
    seconds = f"\n\n:::{{dropdown}} Seconds per cell\n{table(['Cell', 'Time'], times)}\n:::" if times else ""
    body = (
        table(["What", "Value"], rows)
        + seconds
        + "\n\n**To verify:** check out the commit, run the command below and compare `results.csv`; on the same machine, with "
        "the same versions and number of threads, the values agree to the last digit, elsewhere within the tolerance of each "
        "method.\n\n" + f"```bash\n{command(run)}\n```\n\nFiles of this run: {', '.join(sources)}."
    )
    return section(run.prefix, "provenance", "Provenance", body)


def history(study: Study, run: Run, runs: Sequence[Run]) -> str:
    """Element 17: the source, how to cite, and all published runs of this study."""
    rows = [
        (code(other.record["run_id"]), other.profile, str(other.record["finished"])[:10],
         code(str(other.record.get("commit") or "unknown")[:12]),
         *([] if lesson(study) else [headline(other.verdicts) if decides(study, other) else "no verdict"]))
        for other in runs
    ]  # fmt: skip
    head = ["Run", "Profile", "Date", "Commit", *([] if lesson(study) else ["Verdicts"])]
    past = table(head, rows) if rows else "No published run yet."
    tested = "" if lesson(study) else f"This chapter tests {cite(study)}. "
    body = (
        f"{tested}Works cited on this page are listed under {{doc}}`/book/references`.\n\n"
        f"### Published runs of this study\n\n{past}\n\n"
        "A published number that changes is an entry of the {doc}`/book/changelog`."
    )
    return section(run.prefix, "references", "References and history", body)
