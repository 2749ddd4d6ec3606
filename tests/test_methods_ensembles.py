"""SmoothGrad, SmoothGrad squared and VarGrad of any method: FIDELITY 3.11, TV-8 and closed forms."""

import functools

import pytest
import torch

from xai_lib import METHODS, randomness, toys
from xai_lib.errors import ConfigError, InputError, UnsupportedModelError
from xai_lib.methods.gradient import gradient
from xai_lib.models import cifar_nets
from xai_lib.randomness import digest, key

NAMES = ("smoothgrad", "smoothgrad_squared", "vargrad")


def run(name, model, x, **own):
    x = torch.as_tensor(x)
    return METHODS.bind(name, **own)(model, x, torch.zeros(len(x), dtype=torch.int64))


def rectified():
    return cifar_nets.vgg(widths=(6, "pool", 8), classes=4).eval().requires_grad_(False)


def moments(maps):
    """Mean, mean square and variance over the first dimension."""
    exact = maps.double()
    mean, square = exact.mean(0), (exact**2).mean(0)
    return {"smoothgrad": mean, "smoothgrad_squared": square, "vargrad": square - mean**2}


SAME = {"name": "gradient", "empty": {"gradient": {}}, "none": {"gradient": None}, "function": gradient}


@pytest.mark.parametrize("spelling", SAME)
@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_as_base_is_the_default_to_the_bit(name, spelling, images):
    expected = run(name, toys.TinyNet(), images, n_samples=4)
    assert torch.equal(run(name, toys.TinyNet(), images, n_samples=4, base=SAME[spelling]), expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_general_way_gives_the_default_to_rounding(name, images):
    base = lambda model, inputs, targets: gradient(model, inputs, targets)  # noqa: E731
    for max_batch in (1, 7, None):
        made = run(name, toys.TinyNet(), images, n_samples=4, base=base, max_batch=max_batch)
        torch.testing.assert_close(made, run(name, toys.TinyNet(), images, n_samples=4))


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("gradient", (0.5, 0.34, 0.09)),  # x + e: TV-8
        ("input_x_gradient", (0.34, 0.2218, 0.1062)),  # (x + e)^2: m = x^2 + s^2, E = x^4 + 6 x^2 s^2 + 3 s^4
        ({"integrated_gradients": {"steps": 2}}, (0.17, 0.05545, 0.02655)),  # (x + e)^2 / 2
    ],
)
def test_ensembles_of_half_square_meet_their_expectations(base, expected):
    x = torch.full((1, 4), 0.5)
    for name, value in zip(NAMES, expected, strict=True):
        made = run(name, toys.half_square([1.0] * 4), x, base=base, sigma=0.3, n_samples=4000)
        assert made.mean().item() == pytest.approx(value, rel=0.05)


def test_a_deterministic_base_on_a_linear_model_has_no_variance():
    """Integrated Gradients from black are w x; their mean over noise is w (x + mean e)."""
    model, x = toys.linear([[2.0, -3.0, 0.5]]), torch.rand(2, 3)
    assert not run("vargrad", model, x, base="guided_backprop").any()
    torch.testing.assert_close(run("smoothgrad_squared", model, x, base="deconvnet"), torch.tensor([[4.0, 9.0, 0.25]] * 2))


BASES = {
    "guided_backprop": "guided_backprop",
    "grad_cam": {"grad_cam": {"layer": "features"}},
    "integrated_gradients": {"integrated_gradients": {"steps": 3, "baseline": "white"}},
    "callable": METHODS.bind("saliency"),
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", NAMES)
def test_ensembles_equal_a_loop_over_noisy_images(name, base, images):
    model, maps = rectified(), []
    method = METHODS.bind(BASES[base])
    for j in range(3):
        generators = [torch.Generator().manual_seed(key(5, "smoothgrad", digest(image), j)) for image in images]
        noise = torch.stack([torch.randn(g.shape, generator=e) for g, e in zip(images, generators, strict=True)])
        maps.append(method(model, images + 0.2 * noise, torch.zeros(5, dtype=torch.int64)))
    made = run(name, model, images, base=BASES[base], n_samples=3, sigma=0.2, seed=5)
    expected = moments(torch.stack(maps))[name].to(made)
    torch.testing.assert_close(made / expected.abs().max(), expected / expected.abs().max(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("base", ["guided_backprop", {"expected_gradients": {"steps": 2, "seed": 1}}, "random_attribution"])
def test_company_order_and_batch_size_change_nothing(base, images):
    for name in NAMES:
        whole = run(name, rectified(), images, base=base, n_samples=3)
        order = torch.tensor([3, 0, 4])
        for other in (
            run(name, rectified(), images[order], base=base, n_samples=3),
            run(name, rectified(), images[order], base=base, n_samples=3, max_batch=1),
            torch.cat([run(name, rectified(), images[i : i + 1], base=base, n_samples=3) for i in order]),
        ):
            scale = whole.abs().max()
            torch.testing.assert_close(other / scale, whole[order] / scale, rtol=1e-4, atol=1e-5)


def test_the_base_runs_many_noisy_images_at_once_and_never_more_than_max_batch(images, spy):
    for max_batch, expected in ((4, [4] * 5), (20, [20])):
        model = spy(rectified())
        run("vargrad", model, images, base="guided_backprop", n_samples=4, max_batch=max_batch)
        assert model.calls == expected
    model = spy(rectified())
    run("vargrad", model, images, base={"integrated_gradients": {"steps": 2}}, n_samples=2, max_batch=5)
    assert sum(model.calls) == 20
    assert max(model.calls) == 5


# --- a base with a seed -------------------------------------------------------------------------------------------------------


def test_a_random_base_draws_anew_for_each_sample_even_without_noise():
    x = torch.full((1, 400), 0.5)
    made = run("vargrad", toys.mean_pixel(), x, base="random_attribution", n_samples=50, sigma=0.0)
    assert made.mean().item() == pytest.approx(49 / 50, abs=0.05)
    mean = run("smoothgrad", toys.mean_pixel(), x, base="random_attribution", n_samples=50, sigma=0.0)
    assert mean.std().item() == pytest.approx(50**-0.5, abs=0.02)


def test_both_seeds_count_and_equal_ones_repeat(images):
    def made(**own):
        seed = own.pop("base_seed", None)
        base = "random_attribution" if seed is None else {"random_attribution": {"seed": seed}}
        return run("smoothgrad", toys.TinyNet(), images, base=base, n_samples=2, sigma=0.0, **own)

    assert torch.equal(made(), made())
    assert torch.equal(made(), made(base_seed=0))
    for other in ({"seed": 1}, {"base_seed": 1}):
        assert not torch.allclose(made(), made(**other), atol=1e-3)


def test_the_draws_of_a_random_base_are_those_of_a_loop(images):
    expected = []
    for j in range(3):
        with randomness.drawn_as(images, [str(key("ensemble", 4, digest(image), j)) for image in images]):
            expected.append(run("random_attribution", toys.TinyNet(), images, seed=7))
    for name in NAMES:
        base = {"random_attribution": {"seed": 7}}
        made = run(name, toys.TinyNet(), images, base=base, n_samples=3, sigma=0.0, seed=4)
        torch.testing.assert_close(made, moments(torch.stack(expected))[name].to(made))


def test_a_perturbed_copy_draws_what_its_image_does(images):
    """So that sensitivity measures the explainer and not its noise: both draws, those of the ensemble and of its base."""
    model = toys.linear([[1.0] * 300])
    copies = images + 0.01
    for name, base in (("smoothgrad", "random_attribution"), ("vargrad", {"smoothgrad": {"n_samples": 2}})):
        own = {"base": base, "n_samples": 2, "sigma": 0.1}
        with randomness.drawn_as(copies, [digest(image) for image in images]):
            made = run(name, model, copies, **own)
        torch.testing.assert_close(made, run(name, model, images, **own))
    assert not torch.allclose(run("smoothgrad", model, copies, base="random_attribution", n_samples=2), made)


def test_an_ensemble_of_an_ensemble_averages_over_all_draws():
    x = torch.full((1, 50), 0.5)
    inner = {"smoothgrad_squared": {"sigma": 0.3, "n_samples": 20}}
    made = run("smoothgrad", toys.half_square([1.0] * 50), x, base=inner, sigma=0.4, n_samples=40)
    assert made.mean().item() == pytest.approx(0.25 + 0.09 + 0.16, rel=0.05)


def test_a_constant_image_which_has_no_noise_changes_nothing_for_its_company(images):
    company = torch.cat([images, torch.full_like(images[:1], 0.5)])
    for base in ("random_attribution", "guided_backprop"):
        made = run("vargrad", rectified(), company, base=base, n_samples=3)
        alone = run("vargrad", rectified(), images, base=base, n_samples=3)
        torch.testing.assert_close(made[:5] / alone.max(), alone / alone.max())
        assert bool(made[5].any()) == (base == "random_attribution")


# --- what the base is given ---------------------------------------------------------------------------------------------------


def test_score_and_max_batch_reach_a_base_that_takes_them_unless_it_has_its_own(images):
    seen = []

    def base(model, inputs, targets, *, score="logit", max_batch=None):
        seen.append((score, max_batch))
        return inputs

    own = {"n_samples": 2, "score": "prob", "max_batch": 10}
    run("smoothgrad", toys.TinyNet(), images, base=base, **own)
    run("smoothgrad", toys.TinyNet(), images, base=functools.partial(base, score="margin"), **own)
    run("smoothgrad", toys.TinyNet(), images, base=lambda model, inputs, targets: inputs, **own)
    assert seen == [("prob", 10), ("margin", 10)]
    run("smoothgrad", toys.TinyNet(), images, base=base, n_samples=2)
    assert seen[2:] == [("logit", 1024)]
    prob = run("smoothgrad", toys.TinyNet(), images, base={"saliency": {"score": "prob"}}, n_samples=2)
    torch.testing.assert_close(prob, run("smoothgrad", toys.TinyNet(), images, base="saliency", score="prob", n_samples=2))
    assert not torch.allclose(prob, run("smoothgrad", toys.TinyNet(), images, base="saliency", n_samples=2))


def test_the_base_gets_noisy_images_without_a_graph_and_each_its_target(images):
    seen = []

    def base(model, inputs, targets):
        seen.append((inputs.requires_grad, targets.tolist()))
        return inputs

    METHODS.bind("smoothgrad", base=base, n_samples=2)(
        toys.TinyNet(), images.requires_grad_(True), torch.tensor([0, 1, 2, 3, 0])
    )
    assert seen == [(False, [0, 0, 1, 1, 2, 2, 3, 3, 0, 0])]


@pytest.mark.parametrize("name", NAMES)
def test_a_base_that_cannot_be_is_refused(name, images):
    with pytest.raises(ConfigError, match="unknown method 'guided_backprob': did you mean 'guided_backprop'"):
        run(name, toys.TinyNet(), images, base="guided_backprob")
    with pytest.raises(ConfigError, match="unknown parameter of method 'integrated_gradients' 'step': did you mean 'steps'"):
        run(name, toys.TinyNet(), images, base={"integrated_gradients": {"step": 3}})
    with pytest.raises(ConfigError, match="expected a registered name"):
        run(name, toys.TinyNet(), images, base=None)
    with pytest.raises(InputError, match=r"base: expected attributions of shape \(10, 3, 10, 10\), got \(10, 10, 10\)"):
        run(name, toys.TinyNet(), images, base=lambda model, inputs, targets: inputs.sum(1), n_samples=2)
    with pytest.raises(InputError, match="got NoneType"):
        run(name, toys.TinyNet(), images, base=lambda model, inputs, targets: None)
    with pytest.raises(UnsupportedModelError, match="guided_backprop has no backward rule for Gelu"):
        run(name, toys.TinyNet(), images, base="guided_backprop")
    with pytest.raises(InputError, match="max_batch=0"):
        run(name, toys.TinyNet(), images, base="saliency", max_batch=0)
