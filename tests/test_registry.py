"""Names, parameters and words are checked at once, and errors say what to do."""

import pytest

from xai_lib.errors import ConfigError, InputError
from xai_lib.registry import METHODS, Registry


@pytest.fixture
def toys() -> Registry:
    registry = Registry("toy")

    @registry.register(label="Scale", cite="none")
    def scale(inputs, targets=None, *, by: int = 2):
        """Multiply."""
        return inputs * by

    return registry


def test_bind_by_name_mapping_and_callable(toys):
    assert toys.bind("scale")(3) == 6
    assert toys.bind({"scale": {"by": 5}})(3) == 15
    assert toys.bind({"scale": {"by": 5}}, by=7)(3) == 21
    assert toys.bind({"scale": None})(3) == 6
    assert toys.bind(lambda x: x + 1)(3) == 4


@pytest.mark.parametrize("spec", ["scal", {"scale": {}, "other": {}}, {}, {"scale": 3}, 7, None])
def test_bad_specs_are_refused(toys, spec):
    with pytest.raises(ConfigError):
        toys.bind(spec)


def test_messages_name_the_closest_and_the_known(toys):
    with pytest.raises(ConfigError, match=r"did you mean 'scale'\? Known: scale"):
        toys.bind("scael")
    with pytest.raises(ConfigError, match=r"parameter of toy 'scale' 'bye': did you mean 'by'"):
        toys.bind("scale", bye=3)


def test_duplicates_and_open_signatures_are_refused(toys):
    def scale(inputs):
        return inputs

    with pytest.raises(ConfigError, match="twice"):
        toys.register(label="", cite="")(scale)

    def loose(inputs, **rest):
        return inputs

    with pytest.raises(ConfigError, match="name every parameter"):
        toys.register(label="", cite="")(loose)


def test_ask_passes_the_words_and_names_what_is_missing(toys):
    assert toys.ask("scale", {"inputs": 4, "masks": 1}) == 8
    assert toys.ask(toys.bind("scale", by=3), {"inputs": 4}) == 12
    with pytest.raises(InputError, match="needs inputs; the case has masks"):
        toys.ask("scale", {"masks": 1})


def test_resolved_lists_every_parameter(toys):
    assert toys.resolved({"scale": {"by": 9}}) == ("scale", {"by": 9})
    assert toys.resolved("scale") == ("scale", {"by": 2})
    name, parameters = METHODS.resolved("integrated_gradients", steps=7)
    assert (name, parameters["steps"], parameters["baseline"]) == ("integrated_gradients", 7, "black")


def test_registries_fill_themselves_on_the_first_look():
    assert "gradient" in METHODS
    assert METHODS["gradient"].summary.startswith("S_i = df_t(x)/dx_i")
    assert METHODS["gradient"].words == ("model", "inputs", "targets")
