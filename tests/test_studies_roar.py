"""The study `roar`: its experiments, its rows, and what its plan computes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from xai_lib import METHODS, METRICS, compute
from xai_lib.compendium import benchmark, study
from xai_lib.compendium.retraining import Plan, Removal
from xai_lib.compendium.retraining_tasks import left, trained
from xai_lib.compendium.rules import parts
from xai_lib.errors import ConfigError
from xai_lib.removal import HOOKER, LORETH_GREY
from xai_lib.retrain import accuracy_as_published
from xai_lib.studies import roar, roar_evaluations, roar_figures, roar_plans, roar_rows

RECIPE = {"epochs": 1, "batch": 20, "learning_rate": 0.05, "optimiser": "sgd", "momentum": 0.9}
DIGITS = {"name": "mnist_5k"}
PLAN = Plan(
    {**DIGITS, "split": "train", "n": 60}, {**DIGITS, "split": "test", "n": 40}, ["lenet", {"widths": [2, 3]}], RECIPE,
    fractions=(0.2, 0.6), seeds=(0, 1),
)  # fmt: skip
EXPERIMENTS = {
    "untouched": roar.Experiment(PLAN, None),
    "random": roar.Experiment(PLAN, Removal(roar.RANDOM)),
    "ink": roar.Experiment(PLAN, Removal(("intensity", {}))),
}

pytestmark = pytest.mark.usefixtures("module_store")


@pytest.fixture(scope="module")
def frame():
    return roar_rows.training_rows(EXPERIMENTS)


def value(frame, method, metric, seed=0):
    own = frame[(frame.method == method) & (frame.metric == metric) & (frame.seed == seed)].value
    assert len(own) == 1
    return own.item()


def test_rows_are_the_trainings(frame):
    truth = PLAN.samples("test").targets.numpy()
    found = benchmark.gather(EXPERIMENTS["ink"].works()[0.6]).arrays
    for seed in (0, 1):
        assert value(frame, "ink", "accuracy at 60 %", seed) == (found["predicted"][seed] == truth).mean()
        assert value(frame, "ink", "training loss at 60 %", seed) == pytest.approx(found["losses"][seed, -1])
    chance = np.bincount(truth).max() / 40 + roar_rows.MARGIN
    for method, metric in (("ink", "accuracy at 60 %"), ("random", "accuracy at 20 %")):
        expected = float(value(frame, method, metric) <= chance)
        assert value(frame, method, metric.replace("accuracy", "at chance")) == expected
    assert set(frame[frame.method == "untouched"].metric) == {"accuracy", "training loss"}
    assert set(frame["sample"]) == {"seed 0", "seed 1"}


def test_area_change_and_published_accuracy_follow_from_them(frame):
    area = roar_rows.area_rows(frame, EXPERIMENTS, "random")
    assert set(area.method) == {"ink"}
    gaps = [value(frame, "random", m) - value(frame, "ink", m) for m in ("accuracy at 20 %", "accuracy at 60 %")]
    assert value(area, "ink", roar_rows.BELOW_RANDOM) == pytest.approx(np.mean(gaps))
    change = roar_rows.change_rows(frame, EXPERIMENTS, "untouched")
    expected = value(frame, "ink", "accuracy at 20 %", 1) - value(frame, "untouched", "accuracy", 1)
    assert value(change, "ink", "accuracy minus untouched at 20 %", 1) == pytest.approx(expected)
    published = roar_rows.published_rows({"ink": EXPERIMENTS["ink"]})
    samples = PLAN.samples("test")
    names = [int(name.split("-")[1]) for name in samples.ids]
    found = benchmark.gather(EXPERIMENTS["ink"].works()[0.2]).arrays["predicted"][1]
    expected = accuracy_as_published(found, samples.targets.numpy(), names)
    assert value(published, "ink", "accuracy as published at 20 %", 1) == expected


def test_what_retraining_takes_back_by_hand():
    made = roar_rows.shift_rows("ink", EXPERIMENTS["ink"])
    samples = PLAN.samples("test")
    net = trained(PLAN.case, 1)
    pictures = left(PLAN.case, PLAN.removal(EXPERIMENTS["ink"].removal, 0.6), "test")
    before, after = (
        (compute.logits(net, x).argmax(1) == samples.targets).double().mean().item() for x in (samples.inputs, pictures)
    )
    assert value(made, "ink, without retraining", "accuracy lost at 60 %", 1) == pytest.approx(before - after)


def test_spread_between_methods_by_hand(frame):
    experiments, frames = {}, []
    for prefix, shift in (("panel: ", 0.3), ("KAR: ", 0.1)):
        for name, base in (("a", 0.5), ("b", 0.5 + shift)):
            label = prefix + name
            experiments[label] = EXPERIMENTS["ink"]
            own = frame[(frame.method == "ink") & frame.metric.str.startswith("accuracy")].copy()
            frames.append(own.assign(method=label, value=base))
    made = roar_rows.spread_rows(pd.concat(frames), experiments, ["a", "b"])
    assert value(made, "ROAR", roar_rows.SPREAD) == pytest.approx(0.3 / np.sqrt(2))
    assert value(made, "KAR", roar_rows.SPREAD, 1) == pytest.approx(0.1 / np.sqrt(2))


def test_orders_of_two_groups_by_hand(frame):
    """Group two has the order of group one in seed 0 and the reverse in seed 1."""
    own = frame[(frame.method == "ink") & frame.metric.str.startswith("accuracy")]
    parts = []
    for k in range(3):
        parts.append(own.assign(method=f"one {k}", value=0.1 * k))
        parts.append(own.assign(method=f"two {k}", value=np.where(own.seed == 0, 0.1 * k, -0.1 * k)))
    labels = [{str(k): f"{group} {k}" for k in range(3)} for group in ("one", "two")]
    made = roar_rows.order_rows(pd.concat(parts), *labels, EXPERIMENTS["ink"])
    assert made.set_index("seed").value.to_dict() == {0: 1.0, 1: -1.0}
    fewer = pd.concat([part for part in parts if "2" not in part.method.iloc[0]])
    made = roar_rows.order_rows(fewer, *labels, EXPERIMENTS["ink"])
    assert made.set_index("seed").value.to_dict() == {0: 1.0, 1: -1.0}
    alone = roar_rows.order_rows(pd.concat(parts[:2]), *labels, EXPERIMENTS["ink"])
    assert alone.empty
    assert list(alone.columns) == list(own.columns)


def test_orders_are_compared_at_shares_that_both_groups_have(frame):
    """The groups agree at the one share in common; the reverse order at a share of the second group alone must not count."""
    own = frame[(frame.method == "ink") & frame.metric.str.startswith("accuracy at")]
    first, second = sorted(own.metric.unique())[:2]
    parts = []
    for k in range(3):
        parts.append(own[own.metric == second].assign(method=f"one {k}", value=0.1 * k))
        parts.append(own[own.metric == second].assign(method=f"two {k}", value=0.1 * k))
        parts.append(own[own.metric == first].assign(method=f"two {k}", value=-10.0 * k))
    labels = [{str(k): f"{group} {k}" for k in range(3)} for group in ("one", "two")]
    made = roar_rows.order_rows(pd.concat(parts), *labels, EXPERIMENTS["ink"])
    assert set(made.value) == {1.0}
    apart = [part for part in parts if "one" in part.method.iloc[0] or set(part.metric) == {first}]
    assert roar_rows.order_rows(pd.concat(apart), *labels, EXPERIMENTS["ink"]).empty


def test_the_steps_differ_by_what_they_say():
    steps = roar.differences(PLAN, ["as coded", "class predicted", "true mean", "both", "black baseline, ties at random"])
    rules = {name.removeprefix("step: "): each.removal.rules for name, each in steps.items()}
    assert rules["as coded"] == LORETH_GREY
    assert rules["class predicted"] == replace(LORETH_GREY, target="predicted")
    assert (rules["true mean"].fill, rules["true mean"].saved_as, rules["true mean"].target) == ("mean", None, "label")
    assert rules["black baseline, ties at random"] == HOOKER
    with pytest.raises(KeyError):
        roar.differences(PLAN, ["no step"])


def test_an_unknown_method_of_the_panel_is_refused():
    with pytest.raises(ConfigError, match="method of the panel"):
        roar.compared(PLAN, ["random", "IGG"])


def test_every_method_of_the_panel_is_registered_and_bound():
    for name, parameters in {**roar.panel("act2"), **roar.judged_panel()}.values():
        METHODS.bind(name, **parameters)


def test_the_recipes_differ_by_one_thing():
    plan = replace(PLAN, recipe={**RECIPE, "epochs": 4, "augment": {"pixels": 2, "flip": True}, "nesterov": True})
    made = {name.removeprefix("recipe: "): each.plan.recipe for name, each in roar.recipes(plan).items()}
    plain = made.pop("as in the document")
    assert "augment" not in plain
    assert (plain["schedule"], plain["drops"], plain["nesterov"]) == ("step", [3], False)
    for own in made.values():
        keys = {k for k in {*own, *plain} if own.get(k) != plain.get(k)}
        assert keys in ({"augment"}, {"label_smoothing"}, {"schedule", "drops"})


@pytest.fixture(scope="module")
def case():
    return roar_evaluations.judged(PLAN, 6)


def test_evaluations_of_a_perfect_and_a_reversed_map(case):
    """Under insertion and deletion the true order of a linear model's pixels wins, its reverse loses."""

    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(784, 2, bias=False)
            torch.nn.init.zeros_(self.fc.weight)
            self.fc.weight.data[0] = torch.linspace(0.2, 0.0, 784)

        def forward(self, x):
            return self.fc(x.flatten(1))

    model = Linear().eval()
    own = replace(case, model=model, targets=torch.zeros(6, dtype=torch.int64))
    true = METHODS.bind("input_x_gradient")(model, case.samples.inputs, own.targets)
    made = roar_evaluations.perturbation_rows(own, {"true": true, "reversed": -true}, n_draws=2)
    for metric in (roar_evaluations.GAME, roar_evaluations.AOPC):
        table = made[made.metric == metric].pivot_table(index="sample", columns="method", values="value")
        assert (table["true"] > table["reversed"]).all()
    game = made[(made.metric == roar_evaluations.GAME) & (made.method == "true")].value
    assert len(game) == 6


def test_a_control_does_not_notice_random_parameters(case):
    panel = {"edges": ("edge_detector", {}), "gradient": ("gradient", {})}
    made = roar_evaluations.attributions(case, panel)
    rows = roar_evaluations.sanity_rows(case, panel, made, stages=2)
    name = roar_evaluations.check_name("Spearman", "cascading", "all")
    table = rows[rows.metric == name].pivot_table(index="sample", columns="method", values="value")
    assert table["edges"].to_numpy() == pytest.approx(1.0)
    assert table["gradient"].abs().max() < 0.9
    assert {roar_evaluations.check_name("SSIM, absolute", "independent", stage) for stage in ("1", "all")} <= set(rows.metric)


def test_pictures_with_two_labels_need_two_nets():
    size = {"size": 16}
    plan = Plan(
        {"name": "shapes", "split": "train", "n": 64, **size}, {"name": "shapes", "split": "test", "n": 12, **size},
        ["small_resnet", {"classes": 6, "widths": [4, 8]}], RECIPE, seeds=(0,),
    )  # fmt: skip
    rows = roar_evaluations.bam_rows(plan, {"edges": ("edge_detector", {}), "gradient": ("gradient", {})}, 12, patch_steps=1)
    assert set(rows.metric) == {"model contrast score", "input dependence rate", "input independence rate"}
    contrast = rows[(rows.metric == "model contrast score") & (rows.method == "edges")].value.dropna()
    assert (contrast == 0).all()  # it asks neither net


def test_agreement_of_evaluations_and_its_interval():
    """Two evaluations that always order three methods alike, and one that reverses them."""
    up = pd.DataFrame({"a": [1.0, 1.1, 0.9], "b": [2.0, 2.1, 1.9], "c": [3.0, 3.1, 2.9]})
    made = roar_evaluations.agreement_rows({"one": up, "two": 2 * up, "three": -up, "few": up[["a", "b"]]}, resamples=50)
    found = {(row.first, row.second): (row.tau, row.low, row.high, row.methods) for row in made.itertuples()}
    assert found["one", "two"] == (1.0, 1.0, 1.0, 3)
    assert found["one", "three"] == (-1.0, -1.0, -1.0, 3)
    assert found["one", "few"][3] == 2
    noisy = pd.DataFrame(np.random.default_rng(0).normal(size=(5, 3)), columns=list("abc"))
    row = roar_evaluations.agreement_rows({"one": up, "noise": noisy}, resamples=200).iloc[0]
    assert row.low < row.high


def test_the_book_profile_has_every_row_that_a_rule_reads():
    """Labels and metrics of the rules exist among the experiments of the book profile, without training anything."""
    loaded = study.load("roar")
    p = {**{k: v.default for k, v in loaded.parameters.items()}, **loaded.profiles["book"].values}
    p |= {
        "dataset": "mnist_5k",
        "n_train": 100,
        "n_quick": 90,
        "colour_dataset": "shapes",
        "n_colour_train": 80,
        "n_colour_test": 40,
    }
    experiments = roar.experiments(p)
    shares = {label: [f"{100 * f:g} %" for f in each.plan.fractions] for label, each in experiments.items()}
    for claim in loaded.claims:
        for rule in parts(claim.rule):
            for label in (rule.method, getattr(rule, "versus", None)):
                if label in experiments and " at " in rule.metric and rule.metric.startswith(("accuracy", "at chance")):
                    assert rule.metric.rsplit(" at ", 1)[1] in shares[label], (claim.id, label)
            prefixed = [label for label in (rule.method, getattr(rule, "versus", None)) if label and ": " in label]
            assert all(label in experiments for label in prefixed), claim.id


def test_a_matrix_with_an_undefined_column_is_drawn_and_says_so(case, monkeypatch):
    """No picture is classified rightly by both nets of a smoke run: its metrics are undefined, and the figure is made."""
    shown = {}
    monkeypatch.setattr(roar_figures.plotting, "show", lambda figure, **words: shown.update(words))
    frame = pd.concat(
        [
            roar_evaluations.rows(case, label, metric, [value] * 6)
            for label, own in (("a", (0.1, np.nan)), ("b", (0.2, np.nan)))
            for metric, value in zip(("one", "two"), own, strict=True)
        ]
    )
    roar_figures.bam(frame)
    assert shown["alt"].startswith("Largest value one: b, two: none (undefined); n = 6 each")


def test_the_documents_network_is_trained_by_the_documents_recipe():
    """Section 6.4: rate 0.175, momentum 0.9, weight decay 0.0001, 31 epochs of batches of 64, a tenth of the rate after 30."""
    loaded = study.load("roar")
    p = {**{k: v.default for k, v in loaded.parameters.items()}, **loaded.profiles["paper"].values}
    p |= {"dataset": "mnist_5k", "n_train": 200, "n_quick": 200, "colour_dataset": "shapes", "object_dataset": "shapes"}
    made = roar_plans.plans(p)
    assert made.colour.net[0] == "resnet50"
    expected = {"epochs": 31, "batch": 64, "learning_rate": 0.175, "optimiser": "sgd", "momentum": 0.9, "weight_decay": 1e-4}
    assert made.colour.recipe == {**expected, "schedule": "step", "drops": [30]}
    assert made.objects.net[0] == "small_resnet"
    assert made.objects.recipe["precision"] == "bfloat16"


def test_region_perturbation_is_read_above_that_of_regions_in_random_order(case):
    words = {"model": case.model, "inputs": case.samples.inputs, "targets": case.targets}
    made = roar_evaluations.perturbation_rows(case, {"ink": case.samples.inputs}, n_draws=2)
    own = made[(made.metric == roar_evaluations.AOPC) & (made.method == "ink")]
    asked = own.metric_parameters.iloc[0]
    found = [
        METRICS.ask(METRICS.bind("region_perturbation", order=order, **asked), {**words, "attributions": case.samples.inputs})
        for order in ("morf", "random")
    ]
    assert not torch.equal(found[1], torch.zeros(6))
    assert own.value.to_numpy() == pytest.approx((found[0] - found[1]).numpy())


def test_what_each_evaluation_says_is_larger_where_it_is_better():
    """One method is better in everything: it loses more under ROAR, keeps more under KAR, and changes with the net."""

    def frame(metric, values, prefix=""):
        return pd.DataFrame(
            [{"metric": metric, "method": prefix + k, "sample": s, "value": v} for k, v in values.items() for s in ("s0", "s1")]
        )

    check = roar_evaluations.check_name("Spearman, absolute", "cascading", "all")
    scores = roar_evaluations.scores_of(
        frame(roar_rows.BELOW_RANDOM, {"good": 0.3, "bad": 0.1}, "panel: "),
        frame(roar_rows.BELOW_RANDOM, {"good": -0.3, "bad": 0.1}, "KAR: "),
        pd.concat([frame(m, {"good": 0.2, "bad": 0.1}) for m in (roar_evaluations.AOPC, roar_evaluations.GAME)]),
        frame(check, {"good": 0.1, "bad": 0.9}),
        frame("model contrast score", {"good": 0.2, "bad": 0.0}),
    )
    assert len(scores) == 6
    for name, table in scores.items():
        assert (table["good"] > table["bad"]).all(), name
