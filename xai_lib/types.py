"""The contracts of the library, explained once.

inputs        (n, c, h, w) float in PIXEL space [0, 1]; tabular: (n, d), standardised
targets       (n,) int64 class indices
model         callable: inputs -> logits (n, classes); normalisation is inside the model
attributions  same shape as inputs, signed and raw: no absolute value, no channel sum, no scaling
masks         (n, h, w) bool;  boxes: one (k, 4) float array per image, x0 y0 x1 y1 in pixels, x1 and y1 exclusive

method(model, inputs, targets, *, <own parameters>) -> attributions
metric(<only the words it needs>, *, <own parameters>) -> (n,), unreduced; NaN = undefined
       words: model inputs targets attributions masks boxes method
baseline(inputs, *, <own parameters>) -> same shape as inputs
score(logits, targets) -> (n,)
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xai_lib.errors import InputError

Model = Callable[[Tensor], Tensor]
Method = Callable[..., Tensor]
Metric = Callable[..., Tensor]
Baseline = Callable[..., Tensor]
Score = Callable[[Tensor, Tensor], Tensor]
Spec = str | Mapping[str, Mapping[str, Any] | None] | Callable[..., Any]
"""A registered name, a `{name: {parameters}}` mapping (as in YAML), or a callable."""


@dataclass(frozen=True)
class Samples:
    """A frozen set of examples, in the order of `ids`.

    inputs       (n, c, h, w) float32 in [0, 1], or (n, d) for tables
    targets      (n,) int64 labels
    ids          n stable names, unique within the data set
    class_names  the name of each class index
    boxes        one (k, 4) float32 array per image (x0 y0 x1 y1, pixels of `inputs`, exclusive), or None
    masks        (n, h, w) bool, or None
    name         registered name of the data set
    licence      one line on what may be done with the pictures
    redistributable  whether the pictures may appear in a published page
    extra        further label sets or columns by name, each of length n
    """

    inputs: Tensor
    targets: Tensor
    ids: tuple[str, ...]
    class_names: tuple[str, ...]
    name: str
    licence: str
    redistributable: bool
    boxes: tuple[np.ndarray, ...] | None = None
    masks: Tensor | None = None
    extra: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        n = len(self.inputs)
        lengths = {"targets": len(self.targets), "ids": len(self.ids)}
        lengths |= {"boxes": len(self.boxes)} if self.boxes is not None else {}
        lengths |= {"masks": len(self.masks)} if self.masks is not None else {}
        lengths |= {f"extra[{key!r}]": len(value) for key, value in (self.extra or {}).items()}
        wrong = {key: value for key, value in lengths.items() if value != n}
        if wrong:
            raise InputError(f"samples {self.name!r}: {n} inputs, but lengths {wrong}; all must be equal")
        if len(set(self.ids)) != n:
            raise InputError(f"samples {self.name!r}: ids repeat; every sample needs its own id")

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def fingerprint(self) -> str:
        """sha256 over ids, values and labels: changes when any number or the order changes."""
        digest = hashlib.sha256("\n".join(self.ids).encode())
        for tensor in (self.inputs, self.targets):
            digest.update(str((tuple(tensor.shape), str(tensor.dtype))).encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def subset(self, index: Sequence[int]) -> "Samples":
        """The samples at these positions, in this order."""
        rows = [int(i) for i in index]
        at = torch.as_tensor(rows, dtype=torch.long)
        return replace(
            self,
            inputs=self.inputs[at],
            targets=self.targets[at],
            ids=tuple(self.ids[i] for i in rows),
            boxes=None if self.boxes is None else tuple(self.boxes[i] for i in rows),
            masks=None if self.masks is None else self.masks[at],
            extra=None if self.extra is None else {k: [v[i] for i in rows] for k, v in self.extra.items()},
        )
