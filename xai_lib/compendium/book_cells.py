"""Generated cells in front of and inside a study chapter: card, question, claims, deviations, parameters, data and models.

Each function takes the study (the mapping of its YAML file) and the run and returns MyST. Labels begin with the run's
prefix, so that `baseline_study-claims` is the same anchor in every build.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from xai_lib.compendium.book_runs import Run, decides
from xai_lib.compendium.book_words import VERDICTS, badge, cell, code, duration, headline, number, rule_sentence, table, tally

Study = Mapping[str, Any]


def section(prefix: str, element: str, title: str, body: str) -> str:
    """A second-level section with its label."""
    return f"({prefix}-{element})=\n## {title}\n\n{body.strip()}\n"


def card(study: Study, run: Run, *, stale: str, downloads: Mapping[str, str]) -> str:
    """Element 1: the answer, where it comes from, and what the reader can do."""
    record = run.record
    facts = {
        "Profile": run.profile,
        "Executed": f"{str(record['finished'])[:10]}",
        "Runtime": runtime(record),
        "Device": f"{record.get('device', 'unknown')}, {threads(record)}",
        **({} if lesson(study) else {"Document": cite(study, style="plain")}),
    }
    lines = "\n".join(f"<div><dt>{name}</dt><dd>{html.escape(str(value))}</dd></div>" for name, value in facts.items())
    buttons = " ".join(f"{{download}}`{text} <{path}>`" for text, path in downloads.items())
    status = (
        ""
        if run.published
        else ('<p class="xai-local"><strong>Local run.</strong> Made on this machine, not part of the published ledger.</p>\n')
    )
    if stale:
        status += f'<p class="xai-stale"><strong>Stale.</strong> {html.escape(stale)}</p>\n'
    shown = f'{status}{_answer(study, run)}\n<dl class="xai-facts">\n{lines}\n</dl>'
    return (
        f"({run.prefix}-card)=\n:::::{{div}} xai-card\n{shown}\n\n"
        f"::::{{div}} xai-actions\n{buttons} [Rerun this study](#{run.prefix}-rerun)\n::::\n:::::\n"
    )


def runtime(record: Mapping[str, Any]) -> str:
    """How long a run took, and how long the shards took that it read from the store, in this run or before.

    >>> runtime({"seconds": 75.0}), runtime({"seconds": 75.0, "shards": {"n": 12, "seconds": 4000.0}})
    ('1 min 15 s', '1 min 15 s; its 12 shards 1 h 06 min of one worker')
    """
    own, shards = duration(record["seconds"]), record.get("shards") or {}
    return f"{own}; its {shards['n']} shards {duration(shards['seconds'])} of one worker" if shards.get("n") else own


def threads(record: Mapping[str, Any]) -> str:
    """How many threads a run had.

    >>> threads({"threads": 1}), threads({"threads": 2}), threads({})
    ('1 thread', '2 threads', '? threads')
    """
    count = record.get("threads", "?")
    return f"{count} thread{'' if count == 1 else 's'}"


def lesson(study: Study) -> bool:
    """Whether a study file has no source document: it tests no claim, and its page has no elements 3, 4 and 10."""
    return study.get("document") is None


def _answer(study: Study, run: Run) -> str:
    if lesson(study):
        return '<p class="xai-headline">Every number and figure of this page comes from this run</p>'
    if run.exploratory:
        return '<p class="xai-headline">Exploratory run: not a verdict</p>'
    if not decides(study, run):
        return '<p class="xai-headline">No verdict: this profile only shows that everything runs</p>'
    counts = {name: count for name, count in tally(run.verdicts).items() if count}
    badges = " ".join(f"<li>{badge(name, count=count)}</li>" for name, count in counts.items())
    return f'<p class="xai-headline">{headline(run.verdicts)}</p>\n<ul class="xai-tally">{badges}</ul>'


def cite(study: Study, style: str = "myst") -> str:
    """The source document: a citation in MyST, or authors and year in plain text."""
    document = study.get("document") or {}
    if style == "myst" and document.get("cite"):
        return f"{{cite:t}}`{document['cite']}`"
    authors = document.get("authors") or ""
    names = ", ".join(map(str, authors)) if isinstance(authors, list | tuple) else str(authors)
    return f"{names} ({document.get('year', 'n.d.')})"


def question(study: Study, run: Run) -> str:
    """Element 2: what is asked, why, how long it takes, what a reader should know and will know."""
    minutes = ", ".join(f"{name} {value:g}" for name, value in (study.get("minutes") or {}).items())
    goals = "\n".join(f"- {goal}" for goal in study.get("goals") or [])
    before = "\n".join(f"- {item}" for item in study.get("prerequisites") or [])
    parts = [
        f"**{str(study['question']).strip()}**",
        str(study.get("why") or "").strip(),
        "" if lesson(study) else f"*Source:* {cite(study)}, “{study['document']['title']}”.",
        f"*Minutes of computing by profile:* {minutes}." if minutes else "",
        f"*You should know*\n\n{before}" if before else "",
        f"*After this chapter you can*\n\n{goals}" if goals else "",
    ]
    return section(run.prefix, "question", "Question", "\n\n".join(part for part in parts if part))


def claims(study: Study, run: Run) -> str:
    """Element 3: what the document says and how each claim is decided, as fixed in the study file before the run."""
    if lesson(study):
        return ""
    listed = study.get("claims") or []
    if not listed:
        return section(run.prefix, "claims", "Claims", "This chapter tests no claim of a document; it reports observations.")
    rows = [
        (f"{anchor(run.prefix, claim['id'])}**{claim['id']}**", claim["statement"], claim.get("where"), reported(claim))
        for claim in listed
    ]
    rules = "\n".join(f"- **{claim['id']}**: {rule_sentence(claim['rule'])}." for claim in listed)
    body = (
        "The claims, the rule for each and its tolerance stand in the study file and were fixed before the run. "
        "An interval is the 95 % bootstrap interval over images; it decides, not the point estimate "
        "({doc}`how </book/how_to_read_a_verdict>`).\n\n"
        + table(["Claim", "Statement", "Where", "Reported"], rows)
        + f"\n\n:::{{dropdown}} How each claim is decided\n{rules}\n:::"
    )
    return section(run.prefix, "claims", "Claims of the document", body)


def anchor(prefix: str, claim_id: object) -> str:
    """A target for links from the verdict board: invisible, one per claim."""
    return f'<span id="{claim_target(prefix, claim_id)}"></span>'


def claim_target(prefix: str, claim_id: object) -> str:
    """The id of a claim on its chapter's page."""
    return f"{prefix}-claim-{str(claim_id).lower()}".replace("_", "-")


def reported(claim: Mapping[str, Any]) -> str:
    """What the document reports, in its own words or numbers."""
    published = claim.get("published") or {}
    if isinstance(published, str):
        return published
    if published.get("text"):
        return str(published["text"])
    values = published.get("values") or {}
    return "; ".join(f"{label}: {value}" for label, value in values.items()) or "no number"


def deviations(study: Study, run: Run) -> str:
    """Element 4: what we did otherwise, and what that may change."""
    if lesson(study):
        return ""
    rows = [(d["what"], d["document"], d["here"], d["reason"], d["effect"]) for d in study.get("deviations") or []]
    body = table(["What", "Document", "Here", "Reason", "Expected effect"], rows) if rows else "None known."
    return section(run.prefix, "deviations", "Deviations from the document", body)


def parameters(study: Study, run: Run) -> str:
    """Element 6: all parameters of this run with their meaning, and how to run it again."""
    declared, profile = study.get("parameters") or {}, (study.get("profiles") or {}).get(run.profile) or {}
    rows = []
    for name, value in run.record["parameters"].items():
        known = declared.get(name) or {}
        origin = f"profile {run.profile}" if name in (profile.get("values") or {}) else "default"
        if run.exploratory:
            origin = "default" if value == known.get("default") else "chosen"
        rows.append((code(name), code(yaml_value(value)), known.get("help", ""), origin))
    listed = yaml.safe_dump(dict(run.record["parameters"]), sort_keys=False, allow_unicode=True).strip()
    body = (
        table(["Parameter", "Value", "Meaning", "From"], rows)
        + f"\n\n({run.prefix}-rerun)=\n### Run it again\n\n```bash\n{command(run)}\n```\n\n"
        + _other_value(study, run)
        + f":::{{dropdown}} The same parameters as YAML\n```yaml\n{listed}\n```\n:::"
    )
    return section(run.prefix, "parameters", "Parameters of this run", body)


def yaml_value(value: Any) -> str:
    """A value as it is written in YAML and after `-p name=`.

    >>> yaml_value([1, 5]), yaml_value(True), yaml_value("black")
    ('[1, 5]', 'true', 'black')
    """
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def command(run: Run) -> str:
    """The command that repeats the run, as the runner recorded it."""
    return str(run.record["command"])


def _other_value(study: Study, run: Run) -> str:
    declared = study.get("parameters") or {}
    name = next((key for key, known in declared.items() if (known or {}).get("type") == "int"), None)
    if name is None:
        return ""
    again = f"{command(run)} -p {name}={yaml_value((declared[name] or {}).get('default'))}"
    but = "" if lesson(study) else ", which gives numbers but no verdict"
    return f"Another value of any parameter makes an exploratory run{but}:\n\n```bash\n{again}\n```\n\n"


def data_card(run: Run) -> str:
    """Element 7: data and models with licence and checksum; a data set of which several selections were used has one row."""
    chosen: dict[str, list[Mapping[str, Any]]] = {}
    for one in run.record["data"]:
        chosen.setdefault(str(one["name"]), []).append(one)
    sets = [
        (name, _images(parts), parts[0].get("licence"),
         "yes" if parts[0].get("redistributable") else "no: drawn on a neutral ground", _fingerprint(parts))
        for name, parts in chosen.items()
    ]  # fmt: skip
    several = [
        (name, part.get("n"), code(str(part.get("fingerprint", ""))[:16]))
        for name, parts in chosen.items() if len(parts) > 1 for part in parts
    ]  # fmt: skip
    nets = [(m["name"], code(str(m.get("weights_sha256") or "untrained")[:16])) for m in run.record["models"]]
    listed = table(["Data set", "Images", "Fingerprint"], several)
    parts = [
        table(["Data set", "Images", "Licence", "May be shown", "Fingerprint"], sets) if sets else "No data set was recorded.",
        f":::{{dropdown}} Fingerprint of each selection\n{listed}\n:::" if several else "",
        table(["Model", "Weights (sha256)"], nets) if nets else "",
        "Fingerprints are the first 16 digits of a sha256 over ids, values and labels; see {doc}`/book/data_and_licences`.",
    ]
    return section(run.prefix, "data", "Data and models", "\n\n".join(part for part in parts if part))


def _images(parts: Sequence[Mapping[str, Any]]) -> str:
    """How many images, or of how many selections with how many each.

    >>> _images([{"n": 30}]), _images([{"n": 30}, {"n": 500}])
    ('30', '2 selections of 30 to 500')
    """
    counts = [part["n"] for part in parts if part.get("n") is not None]
    if len(parts) == 1 or not counts:
        return number(parts[0].get("n"))
    return f"{len(parts)} selections of {min(counts)} to {max(counts)}"


def _fingerprint(parts: Sequence[Mapping[str, Any]]) -> str:
    return code(str(parts[0].get("fingerprint", ""))[:16]) if len(parts) == 1 else "of each: below"


def not_run(name: str, study: Study) -> str:
    """The chapter of a study that has no published run yet."""
    profile = next((p for p, v in (study.get("profiles") or {}).items() if (v or {}).get("verdicts")), "book")
    rows = [(claim["id"], claim["statement"], reported(claim), badge("not tested")) for claim in study.get("claims") or []]
    listed = table(["Claim", "Statement", "Reported", "Verdict"], rows) if rows else ""
    return (
        f"# {cell(study['title'])}\n\n**{str(study['question']).strip()}**\n\n"
        ":::{admonition} No published run yet\n:class: note\n"
        f"Nothing has been computed for this chapter. This command makes its run:\n\n"
        f"```bash\nxai run {name} --profile {profile} --publish\n```\n:::\n\n{listed}\n"
    )


__all__ = ["VERDICTS", "Study", "card", "claims", "command", "data_card", "deviations", "not_run", "parameters", "question"]
