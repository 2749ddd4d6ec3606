"""Fixtures shared by all tests: toy inputs, a spy that counts rows, one thread (small nets are slower on two)."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _threads() -> None:
    torch.set_num_threads(1)


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
