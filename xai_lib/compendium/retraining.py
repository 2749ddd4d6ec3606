"""ROAR and KAR by name, through store and engine: one training is one task, on one thread.

    plan = Plan(train={"name": "mnist", "split": "train"}, test={"name": "mnist"}, net=["lenet", {}], recipe={...})
    stages = plan.stages({"IG": Removal(["integrated_gradients", {}]), "random": Removal(["random_attribution", {}])})

Three stages, each reading what the one before stored: the nets that are explained, the order in which every map removes pixels,
the retrainings. A training's key holds its removal's request, so a changed method is retrained and nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from xai_lib import retrain
from xai_lib.compendium.benchmark import Stages, Work, gather
from xai_lib.compendium.canonical import canonical
from xai_lib.compendium.retraining_tasks import SPLITS, fingerprint, loaded
from xai_lib.compendium.tasks import versions
from xai_lib.errors import ConfigError
from xai_lib.removal import Protocol
from xai_lib.types import Samples

BLOCK = 1000
"""Pictures whose order of removal is one shard."""


@dataclass(frozen=True)
class Removal:
    """Pixels removed by one method's maps under one protocol.

    method  [registered name, parameters]
    rules   the protocol
    seed    of ties, and of random methods
    net     seed of the net that is explained
    """

    method: Sequence[Any]
    rules: Protocol = field(default_factory=Protocol)
    seed: int = 0
    net: int = 0


@dataclass(frozen=True)
class Plan:
    """What is trained, on what.

    train, test  data sets as arguments of `data.load`: {"name": ..., "split": ..., "n": ..., "seed": ..., own parameters}
    net          [name in retraining_nets.NETS, parameters]
    recipe       keyword arguments of `training.train`, and "augment": {"pixels": ..., "flip": ...}
    fractions    shares of the pixels
    seeds        of the trainings
    explained_by the plan whose nets are explained, on the same pictures; None: this one
    """

    train: Mapping[str, Any]
    test: Mapping[str, Any]
    net: Sequence[Any]
    recipe: Mapping[str, Any]
    fractions: Sequence[float] = retrain.THRESHOLDS
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    explained_by: "Plan | None" = None

    def __post_init__(self) -> None:
        other = self.explained_by
        if other is not None and (other.train, other.test) != (self.train, self.test):
            raise ConfigError("explained_by: a plan on other pictures; their maps do not belong to these")

    def samples(self, split: str) -> Samples:
        """The training or test pictures."""
        return loaded(self._text(split))

    @property
    def case(self) -> dict[str, Any]:
        """What every task of this plan has in common, as plain JSON; the data by fingerprint."""
        return {
            "dataset": str(self.train["name"]),
            "model": str(self.net[0]),
            "train": dict(self.train),
            "test": dict(self.test),
            "fingerprints": {split: fingerprint(self._text(split)) for split in SPLITS},
            "net": list(self.net),
            "recipe": dict(self.recipe),
        }

    def _text(self, split: str) -> str:
        return canonical(dict(self.train if split == "train" else self.test)).decode()

    def trainings(
        self,
        *,
        seeds: Sequence[int] | None = None,
        part: str = "all",
        labels: int | str | None = None,
        removal: Mapping[str, Any] | None = None,
    ) -> Work:
        """The work that trains one net per seed; arguments as `retraining_tasks.train_net`."""
        own = {"part": part, "labels": labels, "removal": removal}
        return Work("train_net", self.case, tuple(self.seeds if seeds is None else seeds), own, 1)

    def explained(self, removal: Removal) -> list[Work]:
        """The trainings of the nets that a removal's maps explain."""
        parts = ("even", "odd") if removal.rules.target == "held_out" else ("all",)
        return [(self.explained_by or self).trainings(seeds=[removal.net], part=part) for part in parts]

    def orders(self, removal: Removal, split: str) -> Work:
        """The work that puts the pixels of one split in their order of removal."""
        rules = {name: getattr(removal.rules, name) for name in ("target", "ranking", "unit", "ties")}
        own = {"method": list(removal.method), "rules": rules, "block": BLOCK, "seed": removal.seed, "net_seed": removal.net}
        n = len(self.samples(split))
        blocks = tuple((split, start, min(n, start + BLOCK)) for start in range(0, n, BLOCK))
        return Work("order_pixels", (self.explained_by or self).case, blocks, own, 1)

    def removal(self, removal: Removal, fraction: float, *, keep: bool = False, show: str = "picture") -> dict[str, Any]:
        """A removal as a training's plain JSON: the requests of its orders, and what is done with them."""
        rules = asdict(removal.rules)
        orders = {}
        for split in SPLITS:
            work = self.orders(removal, split)
            own = {"case": dict(work.case), **work.parameters}
            items = [list(item) for item in work.items]
            orders[split] = {"items": items, "parameters": own, "versions": versions("order_pixels", own)}
        kept = {name: rules[name] for name in ("unit", "fill", "saved_as")}
        return {"orders": orders, "fraction": fraction, "keep": keep, "show": show, **kept}

    def retrainings(self, removal: Removal, *, keep: bool = False, show: str = "picture") -> list[Work]:
        """One work per fraction."""
        return [self.trainings(removal=self.removal(removal, each, keep=keep, show=show)) for each in self.fractions]

    def stages(self, removals: Sequence[Removal], *, keep: bool = False, show: str = "picture") -> Stages:
        """Everything that some removals need, in the order in which it must be computed; untouched pictures included."""
        nets = [work for each in removals for work in self.explained(each)]
        orders = [self.orders(each, split) for each in removals for split in SPLITS]
        again = [work for each in removals for work in self.retrainings(each, keep=keep, show=show)]
        return [[*nets, self.trainings()], orders, again]


def joined(*several: Stages) -> Stages:
    """Stages of several plans side by side: all first stages, then all second ones; what several need is there once."""
    found: list[dict[bytes, Work]] = [{} for _ in range(max(map(len, several), default=0))]
    for stages in several:
        for stage, own in zip(found, stages, strict=False):
            for work in own:
                stage.setdefault(canonical([work.task, dict(work.case), list(work.items), dict(work.parameters)]), work)
    return [list(stage.values()) for stage in found]


def roar(plan: Plan, removals: Mapping[str, Removal], *, keep: bool = False, show: str = "picture") -> pd.DataFrame:
    """RemOve And Retrain of several methods, from the store; what is missing is computed here.

    Args:
        plan: what is trained.
        removals: {label: removal}.
        keep: False removes the most important pixels, True keeps only those.
        show: "picture", or "pattern": the net sees the removal pattern alone.

    Returns:
        One row per method, fraction and seed: method, fraction, seed, accuracy (of all test pictures), n, loss (of the last
        epoch, nats). The untouched pictures are method "none", fraction 0 (KAR: 1).
    """
    rows = _rows("none", 1.0 if keep else 0.0, plan, plan.trainings())
    for label, removal in removals.items():
        works = plan.retrainings(removal, keep=keep, show=show)
        rows += [
            row for fraction, work in zip(plan.fractions, works, strict=True) for row in _rows(label, fraction, plan, work)
        ]
    return pd.DataFrame(rows)


def kar(plan: Plan, removals: Mapping[str, Removal], *, show: str = "picture") -> pd.DataFrame:
    """Keep And Retrain; arguments and result as `roar`."""
    return roar(plan, removals, keep=True, show=show)


def predictions(work: Work) -> np.ndarray:
    """(seeds, test pictures) predicted classes of a work of trainings."""
    return np.asarray(gather(work).arrays["predicted"])


def _rows(label: str, fraction: float, plan: Plan, work: Work) -> list[dict[str, Any]]:
    found, truth = gather(work).arrays, plan.samples("test").targets.numpy()
    right = found["predicted"] == truth
    columns = zip(work.items, right.mean(axis=1), found["losses"][:, -1], strict=True)
    return [
        {"method": label, "fraction": fraction, "seed": seed, "accuracy": float(hits), "n": len(truth), "loss": float(loss)}
        for seed, hits, loss in columns
    ]


__all__ = ["Plan", "Removal", "joined", "kar", "predictions", "roar"]
