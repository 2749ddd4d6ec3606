"""Nets of tables: scikit-learn's answers from PyTorch, splits, exact Shapley values and permutation importance."""

from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn import datasets
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from xai_lib import compute, tabular, tabular_importance, toys
from xai_lib.errors import ConfigError, InputError, ModelError
from xai_lib.models.training import accuracy


@pytest.mark.parametrize("table", tabular.TABLES)
def test_as_done_is_the_documents_classifier(table):
    classifier, x = tabular.fitted_classifier(table)
    fitted = tabular.as_done(table)
    asked = classifier.get_params()
    assert (asked["hidden_layer_sizes"], asked["max_iter"], asked["random_state"]) == ((64, 32), 500, 42)
    np.testing.assert_allclose(x, StandardScaler().fit_transform(getattr(datasets, f"load_{table}")().data), atol=1e-12)
    np.testing.assert_array_equal(fitted.train.inputs.numpy(), x)
    assert fitted.test is fitted.train
    made = compute.logits(fitted.net, fitted.train.inputs).softmax(dim=1).numpy()
    np.testing.assert_allclose(made, classifier.predict_proba(x), atol=1e-12)
    assert np.ptp(made, axis=0).min() > 0.9


def test_one_output_becomes_two_logits():
    x = np.random.default_rng(0).normal(size=(40, 3))
    classifier = MLPClassifier((5,), solver="lbfgs", random_state=1).fit(x, x[:, 0] > 0)
    out = tabular.net_of(classifier)(torch.from_numpy(x)).detach()
    assert out.shape == (40, 2)
    assert not out[:, 0].any()
    np.testing.assert_allclose(out.softmax(1).numpy(), classifier.predict_proba(x), atol=1e-12)


def test_other_classifiers_are_refused():
    x = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(ModelError, match="activation='tanh'"):
        tabular.net_of(MLPClassifier((2,), activation="tanh", solver="lbfgs").fit(x, x[:, 0] > 0))
    with pytest.raises(ModelError, match="2 labels at once"):
        tabular.net_of(MLPClassifier((2,), solver="lbfgs").fit(x, (x > 0).astype(int)))
    with pytest.raises(ConfigError, match="did you mean 'wine'"):
        tabular.as_done("wines")


def test_as_meant_splits_by_class_and_scales_by_the_training_rows():
    one, other = (tabular.as_meant("iris", seed=seed, epochs=1) for seed in (0, 1))
    assert (len(one.train), len(one.test)) == (120, 30)
    assert torch.bincount(one.test.targets).tolist() == [10, 10, 10]
    assert not set(one.train.ids) & set(one.test.ids)
    assert set(one.train.ids) | set(one.test.ids) == set(tabular.as_done("iris").train.ids)
    assert set(one.test.ids) != set(other.test.ids)
    torch.testing.assert_close(one.train.inputs.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(one.train.inputs.std(0, correction=0), torch.ones(4), atol=1e-5, rtol=0)
    raw = datasets.load_iris().data
    rows = [int(name[-3:]) for name in one.train.ids]
    row = int(one.test.ids[0][-3:])
    expected = (raw[row] - raw[rows].mean(0)) / raw[rows].std(0)
    np.testing.assert_allclose(one.test.inputs[0].numpy(), expected, atol=1e-5)
    assert one.test.targets[0] == datasets.load_iris().target[row]


def test_as_meant_learns_and_repeats_itself():
    fitted = tabular.as_meant("iris", seed=3, epochs=60)
    assert accuracy(fitted.net, fitted.test.inputs, fitted.test.targets) > 0.85
    tabular.as_meant.cache_clear()
    again = tabular.as_meant("iris", seed=3, epochs=60)
    assert (
        again.net.weights_sha256 == fitted.net.weights_sha256 != tabular.as_meant("iris", seed=4, epochs=60).net.weights_sha256
    )
    assert not any(p.requires_grad for p in fitted.net.parameters())
    assert not fitted.net.training


def test_a_constant_column_is_not_divided_by_zero():
    made, mean, deviation = tabular.standardised(np.array([[1.0, 5.0], [3.0, 5.0]]), slice(None))
    assert made.tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert (mean.tolist(), deviation.tolist()) == ([2.0, 5.0], [1.0, 1.0])


# --- Shapley values -----------------------------------------------------------------------------------------------------------

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
REST = torch.randn(5, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
T = torch.tensor([0, 1, 0])
NET = tabular.mlp(features=4, classes=2, hidden=(6,), seed=0).double().requires_grad_(False).eval()


def test_shapley_of_a_linear_model_is_the_weight_times_the_distance_from_the_mean():
    w = torch.tensor([[1.0, -2.0, 0.5, 0.0], [0.0, 3.0, 0.0, 1.0]], dtype=torch.float64)
    made = tabular_importance.shapley_rows(toys.linear(w, [4.0, 5.0]), X, T, background=REST, score="logit")
    torch.testing.assert_close(made, w[T] * (X - REST.mean(0)))


def slow_shapley(f, x, rest):
    """Mean over all orders of what each column changes when its turn comes."""
    d, total = len(x), np.zeros(len(x))
    orders = list(permutations(range(d)))
    for order in orders:
        rows = rest.clone()
        before = f(rows).mean()
        for j in order:
            rows[:, j] = x[j]
            after = f(rows).mean()
            total[j] += float(after - before)
            before = after
    return total / len(orders)


def test_shapley_is_the_mean_over_all_orders_and_adds_up():
    made = tabular_importance.shapley_rows(NET, X, T, background=REST)
    for i in range(3):
        expected = slow_shapley(lambda rows, t=int(T[i]): NET(rows).softmax(1)[:, t], X[i], REST)
        np.testing.assert_allclose(made[i].numpy(), expected, atol=1e-12)
    scores = NET(X).softmax(1).gather(1, T[:, None])[:, 0]
    floor = NET(REST).softmax(1).mean(0)[T]
    torch.testing.assert_close(made.sum(1), scores - floor)
    for size in (1, 7):
        torch.testing.assert_close(tabular_importance.shapley_rows(NET, X, T, background=REST, max_batch=size), made)
    torch.testing.assert_close(tabular_importance.shapley_rows(NET, X[1:2], T[1:2], background=REST), made[1:2])


def test_shapley_without_background_starts_from_the_mean_of_a_standardised_table():
    made = tabular_importance.shapley_rows(NET, X, T)
    torch.testing.assert_close(made, tabular_importance.shapley_rows(NET, X, T, background=torch.zeros_like(X[:1])))
    assert made.abs().min() > 0


def test_thirteen_columns_are_exact():
    w = torch.linspace(-1, 1, 13)[None].repeat(2, 1)
    x = torch.ones(1, 13)
    made = tabular_importance.shapley_rows(toys.linear(w), x, torch.tensor([0]), score="logit")
    torch.testing.assert_close(made, w[:1], atol=1e-5, rtol=0)


def test_shapley_refuses_what_it_cannot_do():
    one = torch.tensor([0])
    with pytest.raises(ConfigError, match=r"15 columns mean 2\^15"):
        tabular_importance.shapley_rows(toys.linear(torch.ones(2, 15)), torch.ones(1, 15), one)
    with pytest.raises(InputError, match="expected a table"):
        tabular_importance.shapley_rows(toys.linear(torch.ones(2, 4)), torch.ones(1, 1, 2, 2), one)
    for wrong in (REST[:, :3], REST[:0], REST[0], "iris"):
        with pytest.raises(InputError, match=r"background: expected a table \(m, 4\)"):
            tabular_importance.shapley_rows(NET, X, T, background=wrong)
    with pytest.raises(InputError, match="NaN"):
        tabular_importance.shapley_rows(NET, X, T, background=REST * torch.nan)


# --- permutation importance ---------------------------------------------------------------------------------------------------


def test_permutation_importance_is_the_loss_of_a_shuffled_column():
    net = toys.linear([[0.0, 0.0, 0.0], [4.0, -1.0, 0.0]])
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    y = compute.logits(net, x).argmax(1)
    made = tabular_importance.permutation_importance(net, x, y, measure="loss", n_repeats=200)

    def loss(rows):
        return torch.nn.functional.cross_entropy(net(rows).double(), y).item()

    generator, twin = np.random.default_rng(3), np.zeros(3)
    for j in range(3):
        for _ in range(200):
            rows = x.clone()
            rows[:, j] = x[torch.from_numpy(generator.permutation(60)), j]
            twin[j] += (loss(rows) - loss(x)) / 200
    np.testing.assert_allclose(made.numpy(), twin, rtol=0.1, atol=1e-12)
    assert made[0] > made[1] > made[2] == 0
    by_accuracy = tabular_importance.permutation_importance(net, x, y, n_repeats=50)
    assert 0.3 < by_accuracy[0] <= 1 > by_accuracy[1] > by_accuracy[2] == 0
    again = tabular_importance.permutation_importance(net, x, y, n_repeats=50, seed=1)
    assert not torch.equal(again, by_accuracy)
    with pytest.raises(ConfigError, match="unknown measure 'los'"):
        tabular_importance.permutation_importance(net, x, y, measure="los")
