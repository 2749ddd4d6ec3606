"""Faults of requests and of data from outside (RELIABILITY F24-F26 F29-F31 F37): one line, nothing started, no code run."""

import ast
import io
import json
import re
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import nbformat
import pytest
import tiny_study
import toy_tasks  # noqa: F401  registers the toys
import yaml

from xai_lib.compendium import benchmark, cli, progress, tasks
from xai_lib.compendium.engine import Serial
from xai_lib.compendium.progress import Meter
from xai_lib.compendium.store import Store
from xai_lib.compendium.tasks import Task
from xai_lib.data.download import extract
from xai_lib.errors import DataError

ROOT = Path(__file__).parents[2]
NAMES = {"method": "gradient", "metric": "sparseness", "model": "mnist_cnn", "baseline": "black", "dataset": "photos"}
PARAMETERS = {
    **tiny_study.CONTENT["parameters"],
    "file": {"type": "path", "default": "data/x.csv", "help": "a file"},
    "methods": {"type": "list[str]", "default": ["gradient"], "registry": "methods", "help": "names"},
    **{name: {"type": "str", "default": own, "registry": f"{name}s", "help": "a name"} for name, own in NAMES.items()},
}
COMMANDS = {
    "run": ["run", "tiny"],
    "dry run": ["run", "tiny", "--dry-run"],
    "part": ["run", "tiny", "--shard", "1/2"],
    "plan": ["plan", "tiny"],
    "sweep": ["sweep", "tiny"],
}
every_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
run_and_sweep = pytest.mark.parametrize("command", [COMMANDS["run"], COMMANDS["sweep"]], ids=["run", "sweep"])


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with the study `tiny`, where starting any process is a failure."""
    monkeypatch.setitem(tiny_study.CONTENT, "parameters", PARAMETERS)
    place = tiny_study.write(tmp_path / "root")
    (tmp_path / "secret.csv").write_text("outside")
    (place / "link").symlink_to(tmp_path)
    monkeypatch.setenv("XAI_ROOT", str(place))
    monkeypatch.setenv("XAI_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(place)
    monkeypatch.setattr(subprocess.Popen, "__init__", lambda *_, **__: pytest.fail("a process was started"))
    return place


def refused(capsys, arguments, *words):
    """Exit 2 with one line that holds these words."""
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def untouched(root):
    assert sorted(path.name for path in root.iterdir()) == ["link", "notebooks"]
    assert sorted(path.name for path in root.parent.iterdir()) == ["root", "secret.csv"]


# --- F24 F25 F26 requests -----------------------------------------------------------------------------------------------------


@every_command
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("n_image", "did you mean 'n_images'?"),
        ("N_IMAGES", "Known: baseline, counts,"),
        ("shfit", "did you mean 'shift'?"),
        ("__class__", "Known: baseline, counts,"),
        ("print", "Known: baseline, counts,"),  # exists in the notebook, is no parameter
    ],
)
def test_f24_an_unknown_parameter_is_refused_by_every_command(root, capsys, command, name, hint):
    refused(capsys, [*command, "-p", f"{name}=3"], f"unknown parameter of tiny {name!r}", hint)
    untouched(root)


def test_f24_in_a_file_of_parameters_too(root, capsys, tmp_path):
    for content in ("n_image: 3", "shift: 0.5\nn_image: 3", "__class__: x"):
        path = tmp_path / "own.yml"
        path.write_text(content)
        refused(capsys, ["run", "tiny", "-f", str(path)], "unknown parameter of tiny")
        path.unlink()
    untouched(root)


@run_and_sweep
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("n_images=abc", "found 'abc', expected int in [1, 100]"),
        ("n_images=1000000000", "out of range"),
        ("n_images=0", "out of range"),
        ("n_images=5.0", "expected int in [1, 100]"),
        ("shift=nan", "not a finite number"),
        ("shift=inf", "not a finite number"),
        ("verbose=True", "expected bool"),
        ("verbose=1", "expected bool"),
        ("label=two\nlines", "expected str"),
        ("counts=1;x", "expected list[int]"),
        (f"file={'x' * 300}", "printable characters"),
    ],
)
def test_f25_a_value_that_does_not_fit_is_refused(root, capsys, command, text, words):
    refused(capsys, [*command, "-p", text], f"parameter {text.partition('=')[0]!r}", words)
    untouched(root)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_images", "abc"),
        ("n_images", 10**9),
        ("n_images", True),
        ("n_images", [3]),
        ("shift", float("nan")),
        ("shift", float("-inf")),
        ("verbose", "yes please"),
        ("verbose", 0),
        ("label", ["a"]),
        ("label", {"a": 1}),
        ("label", None),
        ("label", 3),
        ("counts", {"a": 1}),
        ("counts", [[1]]),
        ("method", ["gradient"]),
        ("methods", [["gradient"]]),
        ("file", 3),
    ],
)
def test_f25_in_a_file_of_parameters_too(root, capsys, tmp_path, name, value):
    path = tmp_path / "own.yml"
    path.write_text(yaml.safe_dump({name: value}))
    refused(capsys, ["run", "tiny", "-f", str(path)], f"parameter {name!r}: found ", "expected ")
    path.unlink()
    untouched(root)


@every_command
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("method=gradeint", "unknown method 'gradeint': did you mean 'gradient'? Known: "),
        ("method={smoothgrad: {sigmaa: 1}}", "did you mean 'sigma'?"),
        ("methods=[gradient, salency]", "unknown method 'salency': did you mean 'saliency'? Known: "),
        ("metric=sparsness", "unknown metric 'sparsness': did you mean 'sparseness'? Known: "),
        ("model=resnet8", "unknown model 'resnet8': did you mean 'resnet18'? Known: "),
        ("baseline=blck", "unknown baseline 'blck': did you mean 'black'? Known: "),
        ("dataset=phtos", "unknown data set 'phtos': did you mean 'photos'? Known: "),
        ("dataset=../../etc", "unknown data set '../../etc': Known: "),
        ("model=__import__('os').system('touch canary')", "unknown model"),
    ],
)
def test_f26_an_unknown_name_is_refused_with_the_closest_and_the_list(root, capsys, command, text, words):
    name = text.partition("=")[0]
    refused(capsys, [*command, "-p", text], f"parameter {name!r}: ", words)
    untouched(root)


@every_command
def test_f26_an_unknown_profile_or_study_is_refused_with_the_closest_and_the_list(root, capsys, command):
    refused(capsys, [*command, "--profile", "bok"], "unknown profile of tiny 'bok': did you mean 'book'? Known: book, smoke")
    refused(capsys, [command[0], "tyni", *command[2:]], "unknown study 'tyni': did you mean 'tiny'? Known: tiny")
    untouched(root)


# --- F29 paths ----------------------------------------------------------------------------------------------------------------

OUTSIDE = ["../../x", "..", "/etc/passwd", "a/../../../x", "link/secret.csv", "link", "a\0b", "x" * 300, "..\\x", "a\nb"]
INSIDE = ["{pm.__class__}", "{n_images}", "%(file)s", "$HOME/x", "~/x", "..\u2215..\u2215x", "\uff0fetc", "a/../b", "..."]


@run_and_sweep
@pytest.mark.parametrize("path", OUTSIDE, ids=repr)
def test_f29_a_path_out_of_the_repository_is_refused(root, capsys, command, path):
    refused(capsys, [*command, "-p", f"file={path}"], "path")
    untouched(root)


@pytest.mark.parametrize("path", INSIDE)
def test_f29_odd_names_are_names_and_nothing_is_filled_in(root, capsys, path):
    assert cli.main(["run", "tiny", "-p", f"file={path}", "--dry-run"]) == 0
    found = yaml.safe_load(capsys.readouterr().out)["file"]
    assert found == ("b" if path == "a/../b" else path)
    assert (root / found).resolve().is_relative_to(root)
    untouched(root)


@pytest.mark.parametrize("study", ["../notebooks/tiny.yml", "link/notebooks/tiny.yml", "absolute"])
def test_f29_a_study_out_of_the_repository_is_not_read(root, capsys, study):
    """It lies there, complete, and would do."""
    outside = tiny_study.write(root.parent)
    assert cli.main(["run", "notebooks/tiny.yml", "--dry-run"]) == 0
    capsys.readouterr()
    asked = str(outside / "notebooks" / "tiny.yml") if study == "absolute" else study
    folder = root / "runs" / "tiny" / "one"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"study": asked, "run_id": "one", "finished": "2026", "profile": None}))
    tiny_study.table({"a": [1.0], "b": [2.0]}).to_csv(folder / "results.csv", index=False)
    for arguments in (["run", asked, "--dry-run"], ["sweep", asked], ["show", str(folder)]):
        refused(capsys, arguments, "leaves", "name a place under it")


# --- F30 archives -------------------------------------------------------------------------------------------------------------


def tar(path, *members, mode="w"):
    with tarfile.open(path, mode) as file:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def sparse(path, claimed):
    """A GNU sparse member: one block in the archive, `claimed` bytes on the disk."""
    member = tarfile.TarInfo("holes")
    member.type, member.size = tarfile.GNUTYPE_SPARSE, 512
    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    head[386:410] = b"%011o\0%011o\0" % (0, 512)
    head[483:495] = b"%011o\0" % claimed
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    path.write_bytes(bytes(head) + bytes(512) + bytes(1024))
    return path


def zipped(path, name, content=b"x"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return path


def cut(path):
    path.write_bytes(path.read_bytes()[:700])
    return path


ARCHIVES = {
    "sparse": (lambda path: sparse(path, 10 * 2**30), ()),
    "bomb": (lambda path: tar(path, ("a", bytes(5_000_000)), mode="w:gz"), ()),
    "cut": (lambda path: cut(tar(path, ("a", bytes(900)))), ()),
    "backslash": (lambda path: tar(path, ("a", b"x"), ("..\\b", b"x")), ()),
    "zip": (lambda path: zipped(path, "a"), ()),
    "zip with a parent": (lambda path: zipped(path, "../out"), ()),
    "zip bomb": (lambda path: zipped(path, "a", bytes(5_000_000)), ()),
    "file and folder": (lambda path: tar(path, ("a", b"x"), ("a/b", b"x")), ()),
    "long name": (lambda path: tar(path, ("a", b"x"), ("x" * 300, b"x")), ()),
}


@pytest.mark.parametrize("made", [pytest.param(own, id=name, marks=marks) for name, (own, marks) in ARCHIVES.items()])
def test_f30_odd_archives_are_refused_and_nothing_is_left(tmp_path, made):
    path = made(tmp_path / "archive")
    try:
        with pytest.raises(DataError, match="refused"):
            extract(path, tmp_path / "set", 2000)
    finally:
        assert [own.name for own in tmp_path.iterdir()] == ["archive"]


def test_f30_archives_are_opened_in_one_module_and_only_tar_and_gzip():
    """Zip is not read at all; whoever adds it adds the twin of every case above."""
    found = {}
    for path in sorted((ROOT / "xai_lib").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        names |= {
            "unpack_archive" for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "unpack_archive"
        }
        used = names & {"zipfile", "tarfile", "gzip", "bz2", "lzma", "zlib", "unpack_archive", "py7zr"}
        if used:
            found[path.name] = used
    writer = (ROOT / "xai_lib" / "compendium" / "book_downloads.py").read_text(encoding="utf-8")
    written = re.findall(r"gzip\.(.*)", writer)  # it writes a download of the book, and reads nothing
    assert written == ['GzipFile("", "wb", 6, file, mtime=0) as stream:']
    assert found.pop("book_downloads.py") == {"gzip"}
    assert found == {"download.py": {"tarfile", "gzip"}, "mnist.py": {"gzip"}}  # the latter reads an installed package


# --- F31 data that would be code ----------------------------------------------------------------------------------------------

FORBIDDEN = {"eval", "exec", "compile", "__import__", "input"}
LOADERS = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads", "dill.load", "dill.loads"),
    *("joblib.load", "marshal.load", "marshal.loads", "shelve.open", "read_pickle", "torch.hub.load", "torch.jit.load"),
    *("yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "runpy.run_path", "os.system", "os.popen"),
}


def unsafe(source):
    """Calls that could turn data into code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        wrong = name in FORBIDDEN or any(name == own or name.endswith(f".{own}") for own in LOADERS)
        wrong &= name != "__import__" or not isinstance(node.args[0], ast.Constant)
        wrong |= name == "torch.load" and given.get("weights_only") != "True"
        wrong |= name in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False"
        wrong |= name == "yaml.load" and given.get("Loader") not in ("_UniqueKeys", "yaml.SafeLoader")
        wrong |= given.get("shell", "False") != "False"
        if wrong:
            found.append(f"{node.lineno}: {name}")
    return found


UNSAFE = [
    "eval('1')",
    "x = exec(text)",
    "__import__(name)",
    "pickle.load(f)",
    "pd.read_pickle('x')",
    "torch.load('x.pt')",
    "torch.load('x.pt', weights_only=False)",
    "np.load('x.npz', allow_pickle=True)",
    "yaml.load(text)",
    "yaml.load(text, Loader=yaml.Loader)",
    "subprocess.run(text, shell=True)",
    "os.system(text)",
    "torch.hub.load('a/b', 'c')",
]
SAFE = [
    "torch.load(f, weights_only=True)",
    "np.load('x.npz')",
    "yaml.safe_load(t)",
    "model.eval()",
    "re.compile('x')",
    "__import__('os')",
    "json.load(f)",
]


def test_f31_no_data_becomes_code_anywhere_in_the_repository():
    assert [source for source in UNSAFE if not unsafe(source)] == []
    assert [source for source in SAFE if unsafe(source)] == []
    folders = ["xai_lib", "benchmarks", "book"]
    sources = {path: path.read_text(encoding="utf-8") for folder in folders for path in (ROOT / folder).rglob("*.py")}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        sources[path] = "\n".join(line for cell in cells for line in cell.splitlines() if not line.startswith("%"))
    assert len(sources) > 60
    assert {path.relative_to(ROOT).as_posix(): found for path, own in sources.items() if (found := unsafe(own))} == {}


def test_f31_the_metadata_of_a_notebook_starts_nothing(root, capsys, tmp_path):
    path = root / "notebooks" / "tiny.ipynb"
    notebook = nbformat.read(path, as_version=4)
    touch = f"import pathlib; pathlib.Path({str(tmp_path / 'canary')!r}).touch()"
    notebook.metadata["kernelspec"] = {
        "name": "../../evil",
        "display_name": touch,
        "language": "python",
        "argv": ["sh", "-c", touch],
    }
    notebook.metadata["papermill"] = {"parameters": {"n_images": touch}, "default_parameters": {"n_images": touch}}
    notebook.metadata["language_info"] = {"name": touch}
    notebook.cells[1].metadata["tags"] = ["parameters", touch]
    nbformat.write(notebook, path)
    assert cli.main(["run", "tiny", "--dry-run"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["n_images"] == 3
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("testing", ["", "0", "yes"])
def test_f31_a_module_of_tasks_is_imported_in_tests_only(tmp_path, monkeypatch, testing):
    (tmp_path / "evil_tasks.py").write_text("import pathlib\npathlib.Path(__file__).with_name('canary').touch()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XAI_TASKS", "evil_tasks")
    monkeypatch.delitem(sys.modules, "evil_tasks", raising=False)
    for value, expected in ((testing, False), ("1", True)):
        monkeypatch.setenv("XAI_TESTING", value)
        tasks.load_testing_tasks.cache_clear()
        list(Serial().run([Task("noop", (1,))], Store(tmp_path / f"store{value}")))
        assert (tmp_path / "canary").exists() is expected
    tasks.load_testing_tasks.cache_clear()


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("file", "content", "arguments", "code"),
    [
        pytest.param("notebooks/tiny.ipynb", '{"cells": ' + DEEP, ["run", "tiny"], 2),
        pytest.param("notebooks/tiny.yml", "title: " + DEEP[:1000], ["run", "tiny"], 2),
        pytest.param("own.yml", "counts: " + DEEP[:1000], ["run", "tiny", "-f", "own.yml"], 2),
        pytest.param("none", "", ["run", "tiny", "-p", "counts=" + DEEP[:1000]], 2),
        pytest.param("runs/tiny/one/run.json", DEEP, ["show", "tiny"], 5),
    ],
    ids=["notebook", "study file", "parameter file", "parameter", "record"],
)
def test_f31_nesting_without_end_is_refused_in_one_line(root, capsys, file, content, arguments, code):
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    assert cli.main(arguments) == code
    assert capsys.readouterr().err.count("\n") == 1


LAUGHS = (
    "["
    + ", ".join(["&a0 [x, x, x, x, x, x, x, x, x, x]", *(f"&a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 5))])
    + "]"
)


@pytest.mark.parametrize(
    ("file", "key", "arguments"),
    [("notebooks/tiny.yml", "title", ["run", "tiny"]), ("own.yml", "label", ["run", "tiny", "-f", "own.yml"])],
)
def test_f31_many_references_to_one_list_do_not_fill_the_memory(root, capsys, file, key, arguments):
    (root / file).write_text(f"{key}: {LAUGHS}\n")
    tracemalloc.start()
    try:
        refused(capsys, arguments, f"{key}", "found [")
        assert tracemalloc.get_traced_memory()[1] < 4e5  # 1.3 MB for 100,000 letters; each level more is ten times that
    finally:
        tracemalloc.stop()


# --- F37 where progress and answers go ----------------------------------------------------------------------------------------


class Stream(io.StringIO):
    """A stream that is or is no terminal, and breaks after some writes."""

    def __init__(self, terminal=False, breaks=None, after=10**9):
        super().__init__()
        self.terminal, self.breaks, self.after = terminal, breaks, after

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.after -= 1
        if self.after < 0:
            raise self.breaks
        return super().write(text)


def counted(stream):
    with Meter(stream, "ig", 4) as meter:
        for _ in range(4):
            meter.advance(1)
    return stream.getvalue() if isinstance(stream, Stream) and not stream.closed else ""


def test_f37_progress_without_a_terminal_is_plain_lines_now_and_then(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("XAI_RUN_DIR", raising=False)
    assert counted(Stream()) == ""  # over before the first line is due
    monkeypatch.setattr(progress, "EVERY", 0.0)
    lines = counted(Stream()).splitlines()
    assert [line.partition(" image")[0] for line in lines] == ["ig: 1/4", "ig: 2/4", "ig: 3/4", "ig: 4/4"]
    assert lines[-1].endswith(" images/s, 0:00 left")
    monkeypatch.setenv("TERM", "dumb")
    dumb = counted(Stream(terminal=True))
    assert "\r" not in dumb
    assert dumb.count("\n") == 4


def test_f37_progress_on_a_terminal_is_one_line_of_ascii(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("XAI_RUN_DIR", raising=False)
    text = counted(Stream(terminal=True))
    assert "\r" in text
    assert "\n" not in text
    assert text.isascii()


BROKEN = [
    None,
    Stream(breaks=BrokenPipeError(32, "Broken pipe")),
    Stream(breaks=OSError(28, "No space left on device"), after=1),
    Stream(breaks=ValueError("I/O operation on closed file")),
    Stream(breaks=UnicodeEncodeError("ascii", "ü", 0, 1, "ordinal not in range(128)")),
    Stream(terminal=True, breaks=OSError(5, "Input/output error"), after=2),
    Stream(terminal=True, breaks=ValueError("I/O operation on closed file"), after=1),
]


@pytest.mark.parametrize("stream", BROKEN, ids=lambda s: "none" if s is None else f"{type(s.breaks).__name__} {s.terminal}")
def test_f37_a_computation_goes_on_when_its_progress_cannot_be_written(monkeypatch, tmp_path, stream):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("XAI_RUN_DIR", raising=False)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    wanted = [Task("powers", (k,)) for k in range(4)]
    summary = benchmark.calculate(wanted, Store(tmp_path), Serial(), label="powers", progress=stream)
    assert (summary.done, summary.lost) == (4, {})


def test_f37_answers_to_no_stream_or_to_one_without_the_letters_are_no_error(root, monkeypatch):
    (root / "notebooks" / "tiny.yml").write_text((root / "notebooks" / "tiny.yml").read_text().replace("A tiny study", "Äpfel"))
    plain = io.BytesIO()
    for stream in (None, io.TextIOWrapper(plain, encoding="ascii")):
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        assert cli.main(["list"]) == 0
        assert cli.main(["run", "tyni"]) == 2
    text = plain.getvalue().decode("ascii")
    assert "?pfel" in text
    assert "did you mean 'tiny'" in text
