"""Which source a key depends on."""

import pytest

from xai_lib.compendium import made_with, tasks
from xai_lib.compendium.made_with import closure, code_sha256
from xai_lib.compendium.tasks import TASKS, Task
from xai_lib.errors import ConfigError

FILES = {
    "__init__.py": "",
    "a.py": "from xai_lib import b\n",
    "b.py": "def late():\n    import xai_lib.pack.d\n",
    "c.py": "from xai_lib.pack import e\n",
    "pack/__init__.py": "from xai_lib.pack.d import thing\nfrom xai_lib import c\n",
    "pack/d.py": "thing = 1\n",
    "pack/e.py": "from . import d\nfrom .d import thing\n",
    "named.py": "from xai_lib.pack import thing\n",
    "data/__init__.py": "from xai_lib import c\n",
    "user.py": "from xai_lib import data\nimport numpy\n",
    "compendium/run.py": "from xai_lib import a\n",
    "x_figures.py": "",
}


@pytest.fixture
def package(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("a", "a b pack/d"),  # an import inside a function counts
        ("c", "c pack/e pack/d"),  # a module of a package, not what its package imports
        ("named", "named pack/__init__ pack/d c pack/e"),  # a name of the package itself: all that it imports
        ("user", "user"),  # data sets are in keys by fingerprint
        ("data", "data/__init__ c pack/e pack/d"),  # but for those who ask for their source
        ("compendium.run", "compendium/run a b pack/d"),
    ],
)
def test_the_closure_by_hand(package, module, expected):
    made = {path.relative_to(package).with_suffix("").as_posix() for path in closure([f"xai_lib.{module}"], package)}
    assert made - {"__init__"} == set(expected.split())


def test_only_what_a_module_depends_on_changes_its_code(package):
    names = ["xai_lib.compendium.run"]
    before, whole = code_sha256(package, names), code_sha256(package)
    for name, own, all_of_it in (("c.py", False, True), ("pack/d.py", True, True), ("x_figures.py", False, False)):
        path = package / name
        old = path.read_text()
        path.write_text(old + "# changed\n")
        assert (code_sha256(package, names) != before) is own
        assert (code_sha256(package) != whole) is all_of_it
        path.write_text(old)
    path = package / "compendium" / "run.py"  # machinery, but named
    path.write_text(path.read_text() + "# changed\n")
    assert code_sha256(package, names) != before
    assert code_sha256(package) == whole


def test_an_unknown_module_is_refused(package):
    with pytest.raises(ConfigError, match=r"'xai_lib\.nothing': xai_lib has none"):
        closure(["xai_lib.nothing"], package)


def test_a_task_with_sources_has_their_versions_and_any_other_has_all():
    asked = {"case": {"net": ["lenet", {}]}, "method": ["smoothgrad", {"base": "integrated_gradients"}]}
    made = tasks.versions("order_pixels", asked)
    assert made == made_with.made_with(tuple(TASKS["order_pixels"].traits["sources"](asked)))
    assert made["code"] != tasks.made_with()["code"]
    assert tasks.versions("attribute", {}) == tasks.made_with() == tasks.versions("no such task", {})
    assert Task("train_net", (0,), {"case": {"net": ["lenet", {}]}}).request["made_with"]["code"] not in (
        made["code"],
        tasks.made_with()["code"],
    )


def test_sources_of_an_order_name_what_its_method_names():
    sources = TASKS["order_pixels"].traits["sources"]
    case = {"net": ["lenet", {}]}
    plain = sources({"case": case, "method": ["gradient", {}]})
    nested = sources({"case": case, "method": ["permuted_map", {"base": {"integrated_gradients": {"steps": 3}}}]})
    drawn = sources(
        {"case": case, "method": ["integrated_gradients", {"baseline": {"dataset_mean": {"reference": "mnist_5k"}}}]}
    )
    assert set(nested) - set(plain) == {"xai_lib.methods.control", "xai_lib.methods.path"}
    assert "xai_lib.data" in drawn
    assert "xai_lib.data" not in nested
    with pytest.raises(ConfigError, match="unknown net 'lennet'"):
        sources({"case": {"net": ["lennet", {}]}, "method": ["gradient", {}]})
