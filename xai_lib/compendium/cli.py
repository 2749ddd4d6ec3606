"""The `xai` command. Every refusal is one line on stderr; exit codes are those of RELIABILITY: 0, 1, 2, 3, 4, 5, 130, 143."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

import xai_lib
from xai_lib.compendium import compare, doctor, listing, processes, runner, study, sweep
from xai_lib.compendium.rejudge import rejudge
from xai_lib.errors import ConfigError, XaiError

INTERRUPTED, QUARANTINED = 130, 3
TABLES = ("methods", "metrics", "baselines", "datasets", "models")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = asked.command
    try:
        return command(asked)
    except XaiError as error:
        if asked.debug:
            raise
        _complain(f"xai: {' '.join(str(error).split())}")
        return error.exit_code
    except KeyboardInterrupt:
        _complain("xai: interrupted; nothing half-written is left")
        return INTERRUPTED


def say(text: str) -> None:
    """Print to stdout; a reader that has gone away is no error, and a letter the terminal lacks becomes '?'."""
    try:
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (AttributeError, ValueError, OSError):
        return


def _complain(text: str) -> None:
    try:
        encoding = sys.stderr.encoding or "ascii"
        sys.stderr.write(text.encode(encoding, "replace").decode(encoding) + "\n")
        sys.stderr.flush()
    except (AttributeError, ValueError, OSError):
        return


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = argparse.ArgumentParser(prog="xai", description="Run, list and show reproduced studies, and build their book.")
    parser.add_argument("--version", action="version", version=xai_lib.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        own = commands.add_parser(name, help=text, description=text, parents=[common])
        own.set_defaults(command=command)
        return own

    run = add("run", _run, "run a study and keep its results")
    run.add_argument("study", metavar="STUDY", help="name of a study (see `xai list`)")
    run.add_argument("--profile", help="registered set of parameters; smoke when not given")
    run.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="set one parameter")
    run.add_argument("-f", "--file", type=Path, metavar="FILE", help="YAML file of parameters; -p comes after it")
    run.add_argument("--publish", action="store_true", help="replace the run that the book shows (book/runs/)")
    run.add_argument("--timeout", type=float, metavar="SECONDS", help="wall-clock limit; three times the profile's minutes")
    run.add_argument("--dry-run", action="store_true", help="check everything, print the parameters as YAML, start nothing")
    run.add_argument("--engine", default="serial", metavar="ENGINE", help="serial, local:N, dask:ADDRESS or dask-file:PATH")
    run.add_argument("--shard", metavar="I/N", help="only compute the I-th of N parts into the store, without the notebook")
    run.add_argument("--task-timeout", type=float, metavar="SECONDS", help="limit for one shard (not with the serial engine)")
    plans = add("plan", _plan, "estimate what a study would compute, and how long it would take here")
    plans.add_argument("study", metavar="STUDY", help="name of a study (see `xai list`)")
    plans.add_argument("--profile", help="registered set of parameters; smoke when not given")
    plans.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="set one parameter")
    plans.add_argument("-f", "--file", type=Path, metavar="FILE", help="YAML file of parameters; -p comes after it")
    plans.add_argument("--engine", default="serial", metavar="ENGINE", help="for how many workers the minutes are shared out")
    status = add("status", _status, "what the store holds: sound, stale and damaged shards")
    status.add_argument("--delete-stale", action="store_true", help="delete shards that other versions made")
    add("verify", _verify, "read every shard of the store and compare it with its checksum")
    sweep.add_arguments(add("sweep", lambda asked: sweep.command(asked, say), "run a study for a grid of parameters"))
    compare.add_arguments(add("compare", lambda asked: compare.command(asked, say), "show how runs differ"))
    lists = add("list", _list, "list studies, or what is registered")
    kinds = lists.add_mutually_exclusive_group()
    for table in TABLES:
        kinds.add_argument(f"--{table}", dest="table", action="store_const", const=table, help=f"list the {table}")
    show = add("show", _show, "show the verdicts of a run")
    show.add_argument("run", metavar="RUN", help="a run folder, or a study (its latest run)")
    again = add("judge", _judge, "compute a run's verdicts again by the rules as they are now, and keep them")
    again.add_argument("run", metavar="RUN", help="a run folder, or a study (its latest run)")
    book = add("book", _book, "build the book")
    book.add_argument("--output", type=Path, default=Path("build"), help="folder for the built book (default: build)")
    book.add_argument("--fresh", action="store_true", help="first run the smoke profile of every study on this machine")
    book.add_argument(
        "--jobs", type=int, default=0, metavar="N", help="with --fresh: studies side by side (default: one for each core)"
    )
    book.add_argument("--no-local", action="store_true", help="only published runs, none of this machine's")
    data = add("data", _data, "list, get or check data sets")
    data.add_argument("action", choices=("list", "get", "check"))
    data.add_argument("names", nargs="*", metavar="NAME", help="data sets; for check all that are found when none is named")
    add("doctor", lambda asked: doctor.report(say), "check this installation")
    return parser


def _run(asked: argparse.Namespace) -> int:
    overrides = study.read_yaml(asked.file) if asked.file else {}
    overrides |= dict(_assignment(text) for text in asked.parameter)
    chosen: dict[str, Any] = {"profile": asked.profile, "overrides": overrides, "publish": asked.publish}
    if asked.dry_run:
        loaded, resolved = runner.prepare(asked.study, **chosen)
        kind = f"profile {resolved.profile}" if resolved.profile else "exploratory: gives no verdict"
        say(f"# {loaded.name}, {kind}\n{yaml.safe_dump(resolved.values, sort_keys=False, allow_unicode=True)}".rstrip())
        return 0
    if asked.shard or asked.engine != "serial":
        code = _compute(asked, chosen)
        if asked.shard or code not in (0, QUARANTINED):
            return code
    result = runner.run(asked.study, timeout=asked.timeout, **chosen)
    if result.record:
        say(result.message)
    else:
        _complain(f"xai: {result.message}")
    return result.exit_code


def _compute(asked: argparse.Namespace, chosen: dict[str, Any]) -> int:
    """Fill the store by an engine; the notebook then finds its results there."""
    from xai_lib.compendium import planning  # late: loads torch

    loaded, resolved = runner.prepare(asked.study, **chosen)
    runner.require_data(loaded, resolved)
    with processes.signals_raise():
        summary = planning.compute(loaded, resolved, engine=asked.engine, shard=asked.shard, timeout=asked.task_timeout)
    say(planning.report(summary))
    return QUARANTINED if summary.left_out or summary.lost else 0


def _plan(asked: argparse.Namespace) -> int:
    from xai_lib.compendium import benchmark, engine, planning  # late: loads torch

    overrides = study.read_yaml(asked.file) if asked.file else {}
    overrides |= dict(_assignment(text) for text in asked.parameter)
    loaded, resolved = runner.prepare(asked.study, profile=asked.profile, overrides=overrides)
    runner.require_data(loaded, resolved)
    workers = engine.workers_of(asked.engine)
    say(planning.table(planning.plan(planning.works_of(loaded, resolved), benchmark.default_store()), workers))
    return 0


def _status(asked: argparse.Namespace) -> int:
    from xai_lib.compendium import storage

    say(storage.status(delete_stale=asked.delete_stale))
    return 0


def _verify(asked: argparse.Namespace) -> int:
    from xai_lib.compendium import storage

    text, code = storage.verify()
    say(text)
    return code


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"-p {text!r}: expected NAME=VALUE")
    return name, value


def _list(asked: argparse.Namespace) -> int:
    say(listing.studies() if asked.table is None else listing.registered(asked.table))
    return 0


def _show(asked: argparse.Namespace) -> int:
    say(listing.verdicts(listing.find_run(asked.run)))
    return 0


def _judge(asked: argparse.Namespace) -> int:
    folder = listing.find_run(asked.run)
    changed = rejudge(folder)
    say(f"{folder}: {len(changed) or 'no'} changed")
    for one in changed:
        say(f"{one['id']}: {one['before'] or 'new'} -> {one['after']}")
    return 0


def _book(asked: argparse.Namespace) -> int:
    from xai_lib.compendium import book  # late: loads the whole of Sphinx

    if asked.fresh:
        from xai_lib.compendium.side_by_side import run_studies  # late: the engine

        code = run_studies(study.names(), profile=study.SMOKE, jobs=asked.jobs, say=say, complain=_complain)
        if code != 0:
            return code
    say(str(book.build(study.root(), asked.output.absolute(), local=not asked.no_local)))
    return 0


def _data(asked: argparse.Namespace) -> int:
    from xai_lib import data  # late: the other commands do without

    if asked.action == "list":
        say(listing.data_sets())
        return 0
    if asked.action == "get" and not asked.names:
        raise ConfigError("xai data get: name at least one data set (see `xai data list`)")
    names = asked.names or [entry.name for entry in data.listing() if entry.found_at]
    for name in names:
        if asked.action == "get":
            files = data.get(name)
            say(f"{name}: {f'{len(files)} files in {files[0].parent}' if files else 'packaged, nothing to get'}")
        else:
            found = data.check(name)
            counts = ", ".join(f"{split} {n}" for split, n in found.n.items())
            say(f"{name}: sound ({counts}), {found.found_at}" + "".join(f"\n  {remark}" for remark in found.remarks))
    return 0
