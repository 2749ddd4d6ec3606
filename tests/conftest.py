"""Fixtures shared by all tests: toy inputs, a spy that counts rows, one thread (small nets are slower on two)."""

import signal
from collections.abc import Iterator

import pytest
import torch

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started in a shell's background, whose children never see Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _threads() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def module_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A store of the module's own, for tests of studies."""
    from xai_lib.compendium.store import Store
    from xai_lib.compendium.tasks import at_work

    token = at_work.set(Store(tmp_path_factory.mktemp("store")))
    yield
    at_work.reset(token)


@pytest.fixture
def images() -> torch.Tensor:
    """Five small colour images in [0, 1]."""
    return torch.rand(5, 3, 10, 10, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def zeros() -> torch.Tensor:
    """Targets for `images`."""
    return torch.zeros(5, dtype=torch.int64)


class Spy(torch.nn.Module):
    """Counts the forward calls and rows that reach a model."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model, self.calls = model, []
        self.eval()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(inputs))
        return self.model(inputs)


@pytest.fixture
def spy() -> type[Spy]:
    return Spy
