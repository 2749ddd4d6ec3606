"""Algorithm 1 of document 001: FIDELITY 5.5, TV-15."""

import pytest
import torch

from xai_lib import toys
from xai_lib.desired import desired_baseline, push_away
from xai_lib.errors import ConfigError, InputError

ONE = toys.Formula(lambda x: x.flatten(1).sum(1))  # logits (x, 0): the distance of two pixels is that of their logits


def pixel(*values):
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


def one_pixel(start, *, steps=20, delta=0.0, objective="logit_l2"):
    """x = 0.5, eta = 0.05, absolute epsilon 0.06."""
    return desired_baseline(
        ONE, pixel(0.5), start=lambda x: torch.full_like(x, start), eta=0.05, epsilon=0.12, delta=delta, objective=objective,
        max_iterations=steps,
    )  # fmt: skip


@pytest.mark.parametrize("objective", ["logit_l2", "cross_entropy"])
def test_both_objectives_climb_from_below(objective):  # TV-15
    found = one_pixel(0.3, objective=objective)
    assert found.baselines.item() == pytest.approx(0.45)
    assert (found.iterations.item(), found.converged.item()) == (3, True)
    assert found.start_distance.item() == pytest.approx(0.2)
    assert found.distance.item() == pytest.approx(0.05)


def test_cross_entropy_walks_away_from_above_and_the_distance_does_not():  # TV-15: Lemma 1 refuted
    found = one_pixel(0.7)
    assert (found.baselines.item(), found.iterations.item(), found.converged.item()) == (pytest.approx(0.55), 3, True)
    lost = one_pixel(0.7, objective="cross_entropy")
    assert (lost.iterations.item(), lost.converged.item()) == (20, False)
    assert lost.baselines.item() == pytest.approx(0.7)  # the best it ever saw is where it began
    assert lost.distance.item() == lost.start_distance.item() == pytest.approx(0.2)


def test_a_push_that_undoes_the_step_cycles_until_the_bound():  # TV-15
    found = one_pixel(0.3, delta=0.1, steps=7)
    assert (found.iterations.item(), found.converged.item()) == (7, False)
    assert found.baselines.item() == pytest.approx(0.40)
    assert found.violations.item() == 0


def test_lines_5_to_7_as_printed_and_enforced():  # TV-15, last part
    x = pixel(0.5, 0.5, 0.5, 1.0, 0.98, 0.0)
    point = pixel(0.52, 0.45, 0.5, 0.99, 0.99, 0.0)
    printed = push_away(x, point, 0.1, "printed").flatten().tolist()
    assert printed == pytest.approx([0.62, 0.35, 0.5, 0.89, 1.0, 0.0])
    near = [abs(a - b) < 0.1 - 1e-6 for a, b in zip(x.flatten().tolist(), printed, strict=True)]
    assert near == [False, False, True, False, True, True]
    enforced = push_away(x, point, 0.1, "enforced").flatten().tolist()
    assert enforced == pytest.approx([0.62, 0.35, 0.4, 0.89, 0.88, 0.1])


def test_tables_are_not_clipped():
    x = torch.tensor([[3.0, -2.0]])
    assert push_away(x, torch.tensor([[3.05, -2.0]]), 0.1).tolist() == [[pytest.approx(3.15), pytest.approx(-1.9)]]


def plain_loop(model, x, start, *, eta, epsilon, delta, steps):
    """The same search for one image, feature by feature."""
    reference = model(x).detach()

    def push(points):
        out = points.clone().flatten()
        for i, value in enumerate(x.flatten().tolist()):
            side = (out[i] > value).item() - (out[i] < value).item() or (1 if value < 0.5 else -1)
            if abs(value - out[i].item()) < delta - 1e-6:
                out[i] += side * delta
            out[i] = min(1.0, max(0.0, out[i].item()))
            if abs(value - out[i].item()) < delta - 1e-6:
                out[i] = value - side * delta
        return out.reshape(points.shape)

    point, best, least, taken = push(start), None, float("inf"), 0
    for step in range(steps + 1):
        probe = point.clone().requires_grad_(True)
        away = (model(probe) - reference).norm()
        (gradient,) = torch.autograd.grad(away, probe)
        if away.item() < least:
            best, least = point, away.item()
        taken = step
        if away.item() <= epsilon * reference.norm().item() or step == steps:
            break
        point = push(point - eta * gradient.sign())
    return best, least, taken


def test_equals_a_plain_loop(images):
    model, small = toys.TinyNet(), images[:3, :, :6, :6].double()
    model = model.double()
    own = {"eta": 0.02, "epsilon": 0.05, "delta": 0.03}
    found = desired_baseline(model, small, start="uniform", max_iterations=12, seed=4, **own)
    starts = desired_baseline(model, small, start="uniform", max_iterations=0, constraint="printed", seed=4, delta=0.0)
    for i in range(3):
        best, least, taken = plain_loop(model, small[i : i + 1], starts.baselines[i : i + 1], steps=12, **own)
        torch.testing.assert_close(found.baselines[i : i + 1], best)
        assert found.distance[i].item() == pytest.approx(least)
        assert found.iterations[i].item() == taken
    assert found.iterations.max() > 0
    assert (found.distance < found.start_distance).any()


def test_what_is_reported_is_so(images, spy):
    watched = spy(toys.TinyNet())
    found = desired_baseline(watched, images, sigma=2.0, eta=0.01, epsilon=0.02, delta=0.05, max_iterations=9, max_batch=2)
    assert sum(watched.calls) == found.gradient_rows + 2 * len(images)  # besides: targets and reference
    assert max(watched.calls) == 2
    z, there = watched.model(images), watched.model(found.baselines)
    torch.testing.assert_close(found.distance, (z - there).norm(dim=1))
    torch.testing.assert_close(found.norm, z.norm(dim=1))
    torch.testing.assert_close(found.probability, there.softmax(1).gather(1, z.argmax(1)[:, None])[:, 0])
    assert torch.equal(found.converged, found.distance <= 0.02 * found.norm)
    assert ((images - found.baselines).abs() >= 0.05 - 1e-6).all()
    assert not found.violations.any()
    assert (found.baselines >= 0).all()
    assert (found.baselines <= 1).all()


def test_the_printed_constraint_leaves_features_too_near():
    flat = torch.full((1, 1, 8, 8), 0.5)
    printed = desired_baseline(toys.mean_pixel(), flat, sigma=1.0, constraint="printed", max_iterations=0, delta=0.1)
    assert printed.violations.item() == 1  # blurring a flat image changes nothing, and sgn(0) pushes nothing
    assert desired_baseline(toys.mean_pixel(), flat, sigma=1.0, max_iterations=0, delta=0.1).violations.item() == 0


def test_company_and_batches_change_nothing(images):
    own = {"sigma": 2.0, "epsilon": 0.05, "max_iterations": 6}
    whole = desired_baseline(toys.TinyNet(), images, **own)
    alone = desired_baseline(toys.TinyNet(), images[3:4], **own)
    torch.testing.assert_close(alone.baselines, whole.baselines[3:4], atol=1e-5, rtol=1e-4)
    assert alone.iterations.item() == whole.iterations[3].item()
    torch.testing.assert_close(desired_baseline(toys.TinyNet(), images, max_batch=1, **own).baselines, whole.baselines)


def test_targets_steer_the_cross_entropy_only(images):
    own = {"sigma": 2.0, "epsilon": 0.0, "max_iterations": 4}
    one, two = torch.zeros(5, dtype=torch.int64), torch.ones(5, dtype=torch.int64)
    towards = [desired_baseline(toys.TinyNet(), images, t, objective="cross_entropy", **own).probability for t in (one, two)]
    assert not torch.equal(*towards)
    by_distance = [desired_baseline(toys.TinyNet(), images, t, **own).baselines for t in (one, two)]
    assert torch.equal(*by_distance)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"objective": "l1"}, "objective='l1'"),
        ({"constraint": "none"}, "constraint='none'"),
        ({"eta": 0}, "eta=0"),
        ({"epsilon": -1}, "epsilon=-1"),
        ({"delta": 0.6}, "delta=0.6"),
        ({"max_iterations": -1}, "max_iterations=-1"),
        ({"max_iterations": True}, "max_iterations=True"),
    ],
)
def test_bad_parameters(images, own, message):
    with pytest.raises(ConfigError, match=message):
        desired_baseline(toys.TinyNet(), images, **own)


def test_a_table_needs_a_start():
    with pytest.raises(InputError, match="expected images"):
        desired_baseline(toys.linear([[1.0, 2.0]]), torch.ones(1, 2))
    found = desired_baseline(toys.linear([[1.0, 2.0]]), torch.ones(1, 2), start="black", epsilon=0.5, eta=0.1)
    assert found.converged.item()
