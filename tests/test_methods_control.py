"""Controls that read the picture, or another method's values without their places."""

import torch

from xai_lib import METHODS, toys

X = torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(0)) - 0.3
T = torch.tensor([0, 1])


def test_intensity_is_the_size_of_the_picture():
    assert torch.equal(METHODS.bind("intensity")(toys.TinyNet(), X, T), X.abs())


def test_a_permuted_map_holds_the_values_of_its_base_elsewhere():
    """Each pixel keeps its channels together; nearly every pixel moves, to other places for another seed."""
    base = METHODS.bind("gradient")(toys.TinyNet(), X, T)
    made, again, other = (METHODS.bind("permuted_map", seed=seed)(toys.TinyNet(), X, T) for seed in (0, 0, 1))
    for one, moved in zip(base, made, strict=True):
        before, after = (sorted(map(tuple, part.flatten(1).T.tolist())) for part in (one, moved))
        assert before == after
        assert (one != moved).any(0).float().mean() > 0.7
    assert torch.equal(made, again)
    assert not torch.equal(made, other)
    assert not torch.equal(made[0].flatten(1).argsort(1), made[1].flatten(1).argsort(1))


def test_the_base_may_be_any_method():
    named = {"integrated_gradients": {"steps": 2}}
    base = METHODS.bind(named)(toys.TinyNet(), X, T)
    made = METHODS.bind("permuted_map", base=named)(toys.TinyNet(), X, T)
    torch.testing.assert_close(made.flatten(1).sort(1).values, base.flatten(1).sort(1).values)
