"""Contrastive gradient: known answers on linear nets, and what it has in common with the gradient."""

import pytest
import torch

from xai_lib import METHODS, toys
from xai_lib.errors import ConfigError, InputError

W = torch.tensor([[2.0, -3.0, 0.0], [1.0, 1.0, 4.0], [0.0, 5.0, -1.0]])
NET = toys.linear(W)
X = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
"""Logits: (2, 1, 0), (-3, 1, 5), (0, 4, -1)."""


def contrast(model, x, targets, **own):
    return METHODS.bind("contrastive_gradient", **own)(model, x, torch.tensor(targets))


@pytest.mark.parametrize(("targets", "others"), [([0, 2, 1], [1, 1, 0]), ([1, 0, 2], [0, 2, 1]), ([2, 1, 0], [0, 2, 1])])
def test_linear_nets_give_the_difference_of_their_weights(targets, others):
    """Against the runner-up of each row: the largest logit but the target's."""
    torch.testing.assert_close(contrast(NET, X, targets), W[targets] - W[others])


def test_a_named_class_is_the_same_for_all_rows():
    torch.testing.assert_close(contrast(NET, X, [0, 1, 0], other=2), W[[0, 1, 0]] - W[2])


def test_among_equal_logits_the_first_is_the_runner_up():
    torch.testing.assert_close(contrast(NET, torch.zeros(1, 3), [0]), W[:1] - W[1])
    torch.testing.assert_close(contrast(NET, torch.zeros(1, 3), [1]), W[1:2] - W[0])


def test_it_is_the_difference_of_two_gradients_and_odd_in_its_classes():
    net = toys.TinyNet()
    x = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    gradient = METHODS.bind("gradient")
    one = contrast(net, x, [1, 1], other=3)
    torch.testing.assert_close(one, gradient(net, x, torch.tensor([1, 1])) - gradient(net, x, torch.tensor([3, 3])))
    torch.testing.assert_close(one, -contrast(net, x, [3, 3], other=1))
    top = net(x).argmax(1).tolist()
    torch.testing.assert_close(contrast(net, x, top), gradient(net, x, torch.tensor(top), score="margin"))


def test_a_step_along_it_moves_the_difference_of_logits():
    net = toys.TinyNet().double()
    x = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(1)).double()
    made = contrast(net, x, [0], other=2)
    step = 1e-6 * made / made.norm()
    gained = (net(x + step) - net(x))[0]
    assert (gained[0] - gained[2]).item() == pytest.approx(1e-6 * made.norm().item(), rel=1e-4)


def test_odd_classes_are_refused():
    for other in ("second", -1, True, 1.0, None):
        with pytest.raises(ConfigError, match="other="):
            contrast(NET, X, [0, 1, 2], other=other)
    with pytest.raises(InputError, match=r"other=1: it is the target of rows \[1, 2\]"):
        contrast(NET, X, [0, 1, 1], other=1)
    with pytest.raises(InputError, match="3 classes"):
        contrast(NET, X, [0, 1, 2], other=3)
    with pytest.raises(InputError, match="1 class;"):
        contrast(toys.linear(W[:1]), X, [0, 0, 0])
