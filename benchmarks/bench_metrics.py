"""Evaluation metrics against Quantus, as ratios of times measured in one run.

    python -m benchmarks.bench_metrics [--quick] [--toy] [--out FILE]

(a) The four robustness metrics of `robustness_profile` together, against Quantus's four metrics one after the other. Both use
    Integrated Gradients of this library. Quantus draws its noise from the global generator, so here it is handed the very
    perturbations of `robustness_profile` (which also saves it the drawing): the values must then agree, and are shown.
(b) The faithfulness estimate against `quantus.FaithfulnessEstimate`. Quantus sorts and removes CHANNEL values, so the same
    number comes from `channelwise=True`; a one-channel map would be broadcast over the channels, so both get all three.
    Replacement by the value 0.0 (its "black" is the image's minimum), Pearson, softmax, no normalisation: there Quantus is
    sound. Its group size has to divide 224 * 224. As a third line, (c), the question this library asks by default, the removal
    of whole pixels: features_in_step=224 is 224 forward passes per image there and 672 in Quantus, for two different numbers.

Quantus gets the model as its package builds it (BatchNorm, parameters that ask for gradients), with all images in one batch. So
that nothing is credited to the wrong side, "quantus_our_model" times it once more on the model that this library loads.
Repeats are interleaved; the ratio of processor times is given too, the steadier one on a busy machine. "share" says where
Quantus's time goes. One JSON line per measurement; all of it is written to --out.
"""

import argparse
import contextlib
import io
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.report import write
from xai_lib import METHODS, data, models, toys
from xai_lib.metrics.faithfulness import faithfulness_estimate
from xai_lib.metrics.profile import perturbations, robustness_profile
from xai_lib.models import Normalise, efficientnet
from xai_lib.models.sources import state_of
from xai_lib.models.weights import fill

PEERS = {
    "max_sensitivity": "MaxSensitivity",
    "avg_sensitivity": "AvgSensitivity",
    "local_lipschitz_estimate": "LocalLipschitzEstimate",
    "relative_output_stability": "RelativeOutputStability",
}
OUT = Path(__file__).parent / "results" / "metrics.json"


class Clock:
    """Seconds spent in calls of wrapped functions."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

        return timed

    def shares(self, total: float) -> dict[str, float]:
        known = {name: round(seconds / total, 3) for name, seconds in self.seconds.items()}
        return known | {"rest": round(1 - sum(known.values()), 3)}


def package_model() -> torch.nn.Module:
    """EfficientNet-Lite0 as `efficientnet_lite_pytorch` builds it, behind its own normalisation."""
    net = efficientnet.blank("efficientnet-lite0", 224)
    state, _, path = state_of("efficientnet_lite0", None, False)
    fill(net, state, source=str(path))
    return torch.nn.Sequential(Normalise([127 / 255] * 3, [128 / 255] * 3), net).requires_grad_(True).eval()


def quiet(function: Callable[[], Any]) -> Any:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return function()


@contextlib.contextmanager
def timed_predictions(clock: Clock) -> Iterator[None]:
    from quantus.helpers.model.pytorch_model import PyTorchModel

    with mock.patch.object(PyTorchModel, "predict", clock.wrap("model.predict", PyTorchModel.predict)):
        yield


def quantus_robustness(net: Any, x: Any, t: Any, maps: Any, explain: Any, noise: np.ndarray, clock: Clock) -> dict[str, list]:
    import quantus

    def explain_func(model: Any, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        return explain(model, torch.as_tensor(inputs), torch.as_tensor(targets)).detach().numpy()

    found = {}
    for name, peer in PEERS.items():
        metric = getattr(quantus, peer)(
            nr_samples=len(noise), normalise=False, abs=False, disable_warnings=True, return_nan_when_prediction_changes=False
        )
        queue = iter(noise)
        metric.perturb_func = lambda arr, indices, queue=queue: arr + next(queue)
        explained = clock.wrap("explain", explain_func)
        with timed_predictions(clock):
            values = metric(net, x.numpy(), t.numpy(), a_batch=maps.numpy(), explain_func=explained, softmax=False)
        found[name] = np.asarray(values, dtype=float).tolist()
    return found


def quantus_faithfulness(net: Any, x: Any, t: Any, maps: Any, size: int, clock: Clock) -> list[float]:
    import quantus

    metric = quantus.FaithfulnessEstimate(
        features_in_step=size, perturb_baseline=0.0, normalise=False, abs=False, disable_warnings=True
    )
    metric.perturb_func = clock.wrap("perturb", metric.perturb_func)
    with timed_predictions(clock):
        values = metric(net, x.numpy(), t.numpy(), a_batch=maps.numpy(), softmax=True)
    return np.asarray(values).tolist()


def compare(
    name: str, contestants: dict[str, Callable[[Clock], Any]], repeats: int, settings: dict[str, Any]
) -> dict[str, Any]:
    """Times of all contestants, interleaved, and their ratios to the first."""
    seconds: dict[str, list[float]] = {who: [] for who in contestants}
    processor: dict[str, list[float]] = {who: [] for who in contestants}
    values, shares = {}, {}
    for _ in range(repeats):
        for who, call in contestants.items():
            clock = Clock()
            start, start_processor = time.perf_counter(), time.process_time()
            values[who] = quiet(lambda call=call, clock=clock: call(clock))
            seconds[who].append(time.perf_counter() - start)
            processor[who].append(time.process_time() - start_processor)
            if clock.seconds:
                shares[who] = clock.shares(seconds[who][-1])
    ours, *peers = contestants
    row = {
        "benchmark": name,
        "settings": settings,
        "seconds": {who: [round(s, 3) for s in spent] for who, spent in seconds.items()},
        "ratio": {peer: ratio(seconds[peer], seconds[ours]) for peer in peers},
        "ratio_processor_time": {peer: ratio(processor[peer], processor[ours]) for peer in peers},
        "share": shares,
        "values": values,
    }
    return row


def ratio(theirs: list[float], ours: list[float]) -> dict[str, float]:
    found = [a / b for a, b in zip(theirs, ours, strict=True)]
    return {"median": round(float(np.median(found)), 2), "low": round(min(found), 2), "high": round(max(found), 2)}


def bench_robustness(ours: Any, theirs: Any, x: Any, t: Any, options: argparse.Namespace) -> dict[str, Any]:
    explain = METHODS.bind("integrated_gradients", steps=options.steps)
    maps = explain(ours, x, t)
    noise = perturbations(x, n_samples=options.samples, radius=0.02, seed=0).flatten(2).numpy()

    def profile(clock: Clock) -> dict[str, list]:
        own = {"reduce": "none", "lipschitz_normalise": "none", "same_prediction": False}
        made = robustness_profile(ours, x, t, maps, explain, n_samples=options.samples, **own)
        return {name: values.tolist() for name, values in made.items()}

    contestants = {
        "xai_lib": profile,
        "quantus": lambda clock: quantus_robustness(theirs, x, t, maps, explain, noise, clock),
        "quantus_our_model": lambda clock: quantus_robustness(ours, x, t, maps, explain, noise, clock),
    }
    settings = {"images": len(x), "n_samples": options.samples, "steps": options.steps, "target_ratio": 4}
    return compare("a: four robustness metrics", contestants, options.repeats, settings)


def bench_faithfulness(ours: Any, theirs: Any, x: Any, t: Any, options: argparse.Namespace) -> list[dict[str, Any]]:
    maps = METHODS.bind("integrated_gradients", steps=options.steps)(ours, x, t)
    size = options.features

    def estimate(channelwise: bool) -> Callable[[Clock], list[float]]:
        own = {"features_in_step": size, "channelwise": channelwise}
        return lambda clock: faithfulness_estimate(ours, x, t, maps, **own).tolist()

    def quantus_on(net: Any) -> Callable[[Clock], list[float]]:
        return lambda clock: quantus_faithfulness(net, x, t, maps, size, clock)

    settings = {"images": len(x), "features_in_step": size, "steps_per_image": -(-x[0].numel() // size), "target_ratio": 3}
    same = {"xai_lib": estimate(True), "quantus": quantus_on(theirs), "quantus_our_model": quantus_on(ours)}
    rows = [compare("b: faithfulness estimate, same number", same, options.repeats, settings)]
    settings = settings | {"steps_per_image": {"xai_lib": -(-x[0, 0].numel() // size), "quantus": settings["steps_per_image"]}}
    pixels = {"xai_lib": estimate(False), "quantus": quantus_on(theirs)}
    rows.append(compare("c: faithfulness estimate, pixels against channel values", pixels, options.repeats, settings))
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images, samples and steps")
    parser.add_argument("--toy", action="store_true", help="a tiny net at 28 px: only shows that the script runs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args(arguments)
    sizes = {"images": 2, "samples": 4, "steps": 6, "features": 224, "repeats": 3}
    if chosen.quick:
        sizes |= {"images": 2, "samples": 3, "steps": 3, "features": 1792, "repeats": 3}
    if chosen.toy:
        sizes |= {"images": 2, "samples": 3, "steps": 2, "features": 56, "repeats": 2}
    options = argparse.Namespace(**vars(chosen), **sizes)
    torch.set_num_threads(options.threads)
    if options.toy:
        ours = theirs = toys.TinyNet(channels=3)
        x = torch.rand(options.images, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    else:
        ours, theirs = models.load("efficientnet_lite0"), package_model()
        x = data.load("photos", n=options.images, seed=0).inputs
    with torch.no_grad():
        t = ours(x).argmax(1)
        difference = (ours(x) - theirs(x)).abs().max().item()
    quiet(lambda: __import__("quantus"))
    rows = [bench_robustness(ours, theirs, x, t, options), *bench_faithfulness(ours, theirs, x, t, options)]
    write([{"largest_logit_difference": difference}, *rows], options.out)


if __name__ == "__main__":
    main()
