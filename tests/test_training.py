"""Training: falls, is seeded to the byte, leaves global state alone, refuses what cannot be trained."""

import hashlib
import json
import math

import pytest
import torch
from torch import nn

from xai_lib import data
from xai_lib.errors import ConfigError, InputError, ModelError
from xai_lib.hooks import global_seed
from xai_lib.models import load, nets, recipes
from xai_lib.models import training as training_module
from xai_lib.models.augmentation import random_shift
from xai_lib.models.training import accuracy, correct, rate, train
from xai_lib.models.weights import CHECKPOINTS
from xai_lib.models.wrapper import state_sha256

CENTRES = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 3.0]])
Y = torch.arange(90) % 3
X = CENTRES[Y] + 0.3 * torch.randn((90, 2), generator=torch.Generator().manual_seed(0))
GIVEN = {"epochs": 5, "batch": 16, "learning_rate": 0.02, "seed": 0}


def fresh() -> nn.Module:
    return nets.mlp(features=2, classes=3, hidden=(8,))


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_loss_falls_on_separable_data(optimiser, schedule):
    net = fresh()
    record = train(net, X, Y, **{**GIVEN, "epochs": 10}, validation=(X, Y), optimiser=optimiser, schedule=schedule)
    assert record.losses[-1] < 0.5 * record.losses[0]
    assert record.validation[-1] == accuracy(net, X, Y) > 0.95
    assert len(record.losses) == len(record.accuracies) == len(record.validation) == 10
    assert not net.training
    assert all(p.grad is None for p in net.parameters())


def test_one_full_batch_sgd_step_closed_form():
    """From zero weights the gradient of the mean cross-entropy is (softmax - onehot)^T x / n = (1/3 - onehot)^T x / n."""
    net = nn.Linear(2, 3)
    for parameter in net.parameters():
        parameter.data.zero_()
    record = train(net, X, Y, epochs=1, batch=90, learning_rate=0.5, seed=0, optimiser="sgd")
    gradient = (1 / 3 - nn.functional.one_hot(Y).float()).T @ X / 90
    torch.testing.assert_close(net.weight.data, -0.5 * gradient)
    assert record.losses[0] == pytest.approx(1.0986123, abs=1e-6)


def plainly(net, x, y, *, epochs, batch, learning_rate, seed, optimiser, schedule, drops=(), label_smoothing=0.0, **own):
    """The training loop with torch's optimiser, its scheduler and nothing else; returns the loss of each epoch."""
    precision = own.pop("precision", "float32")
    if optimiser == "sgd":
        mover = torch.optim.SGD(net.parameters(), lr=learning_rate, **{"momentum": 0.9, **own}, foreach=False)
    else:
        mover = torch.optim.Adam(net.parameters(), lr=learning_rate, **own)
    per_epoch = math.ceil(len(x) / batch)
    if schedule == "step":
        rates = torch.optim.lr_scheduler.MultiStepLR(mover, [epoch * per_epoch for epoch in drops])
    else:
        rates = torch.optim.lr_scheduler.LambdaLR(mover, lambda step: rate(schedule, step, epochs * per_epoch))
    generator, losses = torch.Generator().manual_seed(seed), []
    net.train()
    for _ in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(x), generator=generator).split(batch):
            mover.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                logits = net(x[rows])
            loss = nn.functional.cross_entropy(logits.float(), y[rows], label_smoothing=label_smoothing)
            loss.backward()
            mover.step()
            rates.step()
            total += loss.item() * len(rows)
        losses.append(total / len(x))
    return losses


@pytest.mark.parametrize(
    "own",
    [
        {"optimiser": "sgd", "schedule": "constant"},
        {"optimiser": "sgd", "schedule": "constant", "momentum": 0.0, "weight_decay": 0.01},
        {"optimiser": "sgd", "schedule": "one_cycle", "nesterov": True, "weight_decay": 5e-4},
        {"optimiser": "sgd", "schedule": "cosine", "nesterov": True, "precision": "bfloat16"},
        {"optimiser": "adam", "schedule": "constant"},
        {"optimiser": "adam", "schedule": "cosine", "weight_decay": 1e-3, "label_smoothing": 0.1},
    ],
)
def test_bits_are_those_of_a_plain_loop_with_torchs_optimisers(own):
    x, y = torch.rand((70, 1, 16, 16), generator=torch.Generator().manual_seed(0)), torch.arange(70) % 3
    given = {"epochs": 3, "batch": 16, "learning_rate": 0.05, "seed": 4, **own}
    first, second = nets.lenet(size=16, classes=3), nets.lenet(size=16, classes=3)
    record = train(first, x, y, **given)
    assert list(record.losses) == plainly(second, x, y, **given)
    assert state_sha256(first) == state_sha256(second) != state_sha256(nets.lenet(size=16, classes=3))


def test_steps_equal_torchs_step_schedule():
    """MultiStepLR multiplies what it has by 0.1, `rate` computes 0.1^k: equal up to rounding."""
    given = {
        "epochs": 5,
        "batch": 16,
        "learning_rate": 0.05,
        "seed": 1,
        "optimiser": "sgd",
        "schedule": "step",
        "drops": (2, 3),
    }
    first, second, third = fresh(), fresh(), fresh()
    record = train(first, X, Y, **given)
    assert record.losses == pytest.approx(plainly(second, X, Y, **given), rel=1e-6)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    train(third, X, Y, **{**given, "drops": (2,)})
    assert not torch.allclose(next(first.parameters()), next(third.parameters()), rtol=1e-5, atol=1e-7)


def test_rates_of_the_step_schedule():
    assert [rate("step", step, 10, (4, 8)) for step in range(10)] == pytest.approx([1.0] * 4 + [0.1] * 4 + [0.01] * 2)
    assert rate("step", 0, 10, (1,)) == 1.0


def test_smoothed_labels_in_closed_form():
    """From zero weights the gradient is (1/3 - label)^T x / n, with 1 - a + a / 3 for the true class and a / 3 for others."""
    net = nn.Linear(2, 3)
    for parameter in net.parameters():
        parameter.data.zero_()
    record = train(net, X, Y, epochs=1, batch=90, learning_rate=0.5, seed=0, optimiser="sgd", label_smoothing=0.3)
    labels = 0.7 * nn.functional.one_hot(Y).float() + 0.1
    torch.testing.assert_close(net.weight.data, -0.5 * (1 / 3 - labels).T @ X / 90)
    assert record.losses[0] == pytest.approx(math.log(3), abs=1e-6)
    net.weight.data = torch.eye(3)[:, :2].contiguous()
    values = -(labels * (X @ net.weight.data.T + net.bias.data).log_softmax(1)).sum(1).mean().item()
    assert train(net, X, Y, epochs=1, batch=90, learning_rate=0.5, seed=0, label_smoothing=0.3).losses[0] == pytest.approx(
        values
    )


def test_freed_memory_is_kept_on_a_cpu(monkeypatch):
    called = []
    monkeypatch.setattr(training_module, "keep_freed_memory", lambda: called.append(1))
    train(fresh(), X, Y, **GIVEN)
    assert called


def scripted(monkeypatch, net, scores):
    """`train` sees these validation accuracies; returns the state of the net after each epoch."""
    states, given = [], iter(scores)

    def measured(*_):
        states.append({name: value.clone() for name, value in net.state_dict().items()})
        return next(given)

    monkeypatch.setattr(training_module, "accuracy", measured)
    return states


@pytest.mark.parametrize(
    ("scores", "patience", "epochs", "best"),
    [
        ((0.1, 0.5, 0.4, 0.3, 0.9), 2, 4, 2),  # the fifth epoch is never reached
        ((0.1, 0.5, 0.4, 0.6, 0.5), 2, 5, 4),  # a gain in time starts the count anew
        ((0.5, 0.5, 0.5, 0.5, 0.5), 3, 4, 1),  # equal is no gain
        ((0.1, 0.2, 0.3, 0.4, 0.5), 1, 5, 5),
        ((0.5, 0.4, 0.9, 0.9, 0.9), 1, 2, 1),
    ],
)
def test_early_stopping_ends_in_time_and_goes_back_to_the_best_epoch(monkeypatch, scores, patience, epochs, best):
    net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    states = scripted(monkeypatch, net, scores)
    record = train(net, X, Y, **GIVEN, validation=(X, Y), patience=patience)
    assert (len(record.losses), len(record.validation), record.best_epoch) == (epochs, epochs, best)
    found = net.state_dict()
    assert all(torch.equal(found[name], value) for name, value in states[best - 1].items())
    assert not net.training
    assert all(p.grad is None for p in net.parameters())


def test_patience_that_is_never_used_up_changes_nothing_but_the_weights_kept():
    one, two = fresh(), fresh()
    plain = train(one, X, Y, **GIVEN, validation=(X, Y))
    patient = train(two, X, Y, **GIVEN, validation=(X, Y), patience=5)
    assert (plain.losses, plain.validation) == (patient.losses, patient.validation)
    assert plain.best_epoch == len(plain.losses)
    assert patient.validation[patient.best_epoch - 1] == max(patient.validation) == accuracy(two, X, Y)


class Plain(nn.Module):
    """A net whose `training_forward` is out of sight."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.net(inputs)


def digits_with_flat_parts(n: int = 50) -> torch.Tensor:
    """Noise whose lower half is one value: windows of equal values, as removed pixels leave them."""
    made = torch.rand((n, 1, 28, 28), generator=torch.Generator().manual_seed(3))
    made[:, :, 14:] = 0.3
    return made


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_training_forward_of_lenet_is_its_forward(layout):
    net = nets.lenet().to(memory_format=layout)
    x, y = digits_with_flat_parts().requires_grad_(True), torch.arange(50) % 10
    found = []
    for forward in (net, net.training_forward):
        logits = forward(x)
        gradients = torch.autograd.grad(nn.functional.cross_entropy(logits, y), [x, *net.parameters()])
        found.append([logits, *gradients])
    for slow, fast in zip(*found, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-7)


def test_training_uses_it_and_ends_at_the_same_weights():
    x, y = digits_with_flat_parts(), torch.arange(50) % 10
    given = {"epochs": 4, "batch": 16, "learning_rate": 0.05, "seed": 0, "optimiser": "sgd"}
    fast, slow = nets.lenet(), nets.lenet()
    seen = []
    fast.act1.register_forward_hook(lambda *_: seen.append(1))
    records = [train(fast, x, y, **given), train(Plain(slow), x, y, **given)]
    assert bool(seen) is not torch.backends.mkldnn.is_available()
    assert records[0].losses == pytest.approx(records[1].losses, rel=1e-5)
    for one, other in zip(fast.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_other_precisions_take_the_plain_forward():
    x, seen = digits_with_flat_parts(4), []
    for net, inputs in ((nets.lenet().double(), x.double()), (nets.lenet(), x)):
        net.act1.register_forward_hook(lambda *_: seen.append(1))
        with torch.autocast("cpu", torch.bfloat16, enabled=inputs.dtype == torch.float32):
            torch.testing.assert_close(net.training_forward(inputs), net(inputs))
    assert len(seen) == 4


def test_a_last_smaller_batch_is_used():
    seen = []

    class Spy(nn.Linear):
        def forward(self, x):
            seen.append(len(x))
            return super().forward(x)

    train(Spy(2, 3), X, Y, **{**GIVEN, "epochs": 1, "batch": 40})
    assert seen == [40, 40, 10]


def dropout_net() -> nn.Module:
    with global_seed(0):
        return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def test_same_seed_same_bytes_and_global_generator_untouched():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second, third = dropout_net(), dropout_net(), dropout_net()
    one = train(first, X, Y, **GIVEN)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    two = train(second, X, Y, **GIVEN)
    train(third, X, Y, **{**GIVEN, "seed": 1})
    assert state_sha256(first) == state_sha256(second) != state_sha256(third)
    assert one.losses == two.losses


def test_the_order_of_batches_comes_from_the_seed():
    nets_made = [fresh(), fresh(), fresh()]
    for net, seed in zip(nets_made, [0, 0, 1], strict=True):
        train(net, X, Y, **{**GIVEN, "epochs": 1, "seed": seed})
    first, second, third = map(state_sha256, nets_made)
    assert first == second != third


def test_inputs_are_not_changed():
    x, y = X.clone(), Y.clone()
    train(fresh(), x, y, **GIVEN)
    assert torch.equal(x, X)
    assert torch.equal(y, Y)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"epochs": 0}, ConfigError, "epochs=0"),
        ({"batch": 0}, ConfigError, "batch=0"),
        ({"batch": 91}, ConfigError, "1 to 90"),
        ({"learning_rate": -1.0}, ConfigError, "learning_rate=-1.0"),
        ({"learning_rate": float("nan")}, ConfigError, "learning_rate=nan"),
        ({"momentum": 1.0}, ConfigError, "momentum=1.0"),
        ({"optimiser": "adan"}, ConfigError, "adan"),
        ({"schedule": "linear"}, ConfigError, "linear"),
        ({"label_smoothing": 1.0}, ConfigError, "label_smoothing=1.0"),
        ({"label_smoothing": -0.1}, ConfigError, "label_smoothing=-0.1"),
        ({"label_smoothing": float("nan")}, ConfigError, "label_smoothing=nan"),
        ({"drops": (2,)}, ConfigError, "only 'step' takes drops"),
        ({"schedule": "step"}, ConfigError, "rising epochs from 1 to 4"),
        ({"schedule": "step", "drops": (5,)}, ConfigError, "rising epochs from 1 to 4"),
        ({"schedule": "step", "drops": (0,)}, ConfigError, "rising epochs from 1 to 4"),
        ({"schedule": "step", "drops": (3, 2)}, ConfigError, "rising epochs from 1 to 4"),
        ({"schedule": "step", "drops": (2, 2)}, ConfigError, "rising epochs from 1 to 4"),
        ({"schedule": "step", "drops": (2.5,)}, ConfigError, "rising epochs from 1 to 4"),
        ({"inputs": X.to(torch.uint8)}, InputError, "float inputs"),
        ({"inputs": X * torch.nan}, InputError, "NaN"),
        ({"targets": Y.float()}, InputError, "int64"),
        ({"targets": Y[:5]}, InputError, "int64 targets"),
        ({"targets": Y - 1}, InputError, "negative"),
        ({"validation": (X, Y[:5])}, InputError, "int64 targets"),
        ({"patience": 3}, ConfigError, "early stopping needs validation"),
        ({"patience": 0, "validation": (X, Y)}, ConfigError, "patience=0: expected a whole number"),
        ({"patience": 1.5, "validation": (X, Y)}, ConfigError, "patience=1.5"),
        ({"targets": Y + 1}, InputError, r"class 3 asked, the net returns logits \(16, 3\)"),
    ],
)
def test_bad_requests_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        train(fresh(), **{"inputs": X, "targets": Y, **GIVEN, **change})


def test_frozen_nets_and_exploding_losses_are_refused():
    with pytest.raises(ModelError, match="frozen"):
        train(load("mnist_cnn"), torch.zeros(2, 1, 28, 28), torch.zeros(2, dtype=torch.int64), **{**GIVEN, "batch": 2})
    with pytest.raises(ModelError, match="lower learning_rate"):
        train(fresh(), X, Y, **{**GIVEN, "learning_rate": 1e38}, optimiser="sgd")


def test_accuracy_counts():
    model = nn.Identity().eval()
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    targets = torch.tensor([0, 1, 0])
    assert correct(model, logits, targets).tolist() == [True, True, False]
    assert accuracy(model, logits, targets, max_batch=1) == pytest.approx(2 / 3)


def test_random_shift_moves_and_keeps_the_generator_in_charge():
    x = torch.zeros(64, 1, 5, 5)
    x[:, 0, 2, 2] = 1
    moved = random_shift(1)(x, torch.Generator().manual_seed(0))
    assert torch.equal(moved, random_shift(1)(x, torch.Generator().manual_seed(0)))
    places = {tuple(image[0].nonzero()[0].tolist()) for image in moved}
    assert places == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3)}
    assert torch.equal(random_shift(0)(x, torch.Generator()), x)
    with pytest.raises(ConfigError, match="pixels=-1"):
        random_shift(-1)


def test_nets_are_seeded_and_check_their_sizes():
    assert state_sha256(nets.lenet(seed=3)) == state_sha256(nets.lenet(seed=3)) != state_sha256(nets.lenet(seed=4))
    coloured = nets.lenet(channels=3, size=32, classes=7, mean=(0.5,) * 3, std=(0.2,) * 3)
    assert coloured(torch.rand(2, 3, 32, 32)).shape == (2, 7)
    with pytest.raises(ConfigError, match="3 numbers each"):
        nets.lenet(channels=3)


def test_the_card_tells_the_truth_about_the_checkpoint():
    card = json.loads((CHECKPOINTS / "mnist_cnn.json").read_text(encoding="utf-8"))
    content = (CHECKPOINTS / "mnist_cnn.safetensors").read_bytes()
    samples = data.load("mnist_5k")
    assert card["sha256"] == hashlib.sha256(content).hexdigest() == load("mnist_cnn").weights_sha256
    assert card["bytes"] == len(content) < 1_000_000
    assert card["data"]["fingerprint"] == samples.fingerprint
    assert card["accuracy"]["held_out"]["value"] > 0.97
    assert {key: card["recipe"][key] for key in recipes.MNIST_RECIPE} == recipes.MNIST_RECIPE


def test_the_recipe_runs_and_repeats_itself(tmp_path):
    one = recipes.mnist_cnn(tmp_path / "a", epochs=1, n_train=256)
    two = recipes.mnist_cnn(tmp_path / "b", epochs=1, n_train=256)
    assert one == two
    assert load("mnist_cnn", weights=tmp_path / "a").weights_sha256 == one["sha256"]
    assert one["accuracy"]["held_out"]["n"] == 1000
    assert one["data"]["n_train"] == 256


def test_the_command_refuses_unknown_recipes(capsys):
    threads = torch.get_num_threads()
    assert recipes.main(["mnist_cmm"]) == 2
    assert "did you mean 'mnist_cnn'" in capsys.readouterr().err
    torch.set_num_threads(threads)
