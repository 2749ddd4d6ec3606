"""The two kernels: right numbers, bounded chunks, honest errors."""

import pytest
import torch
from torch import nn

from xai_lib import compute, toys
from xai_lib.chunks import default_max_batch
from xai_lib.errors import ConfigError, EngineError, InputError, ModelError

T = torch.zeros(2, dtype=torch.int64)
X = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


def test_linear_scores_and_gradients_in_closed_form():
    model = toys.linear([[2.0, -3.0], [1.0, 1.0]], [0.5, 0.0])
    assert compute.scores(model, X, torch.tensor([0, 1])).tolist() == [-3.5, 7.0]
    assert compute.input_gradient(model, X, torch.tensor([0, 1])).tolist() == [[2.0, -3.0], [1.0, 1.0]]


def test_every_score_matches_its_formula():
    z = torch.tensor([[1.0, 3.0, 2.0]])
    model, t = toys.Formula(lambda x: z + 0 * x.sum()), torch.tensor([1])
    p = (z.exp() / z.exp().sum())[0, 1].item()
    values = {s: compute.scores(model, torch.ones(1, 2), t, score=s).item() for s in ("logit", "prob", "log_prob", "margin")}
    expected = {"logit": 3.0, "prob": p, "log_prob": torch.tensor(p).log().item(), "margin": 1.0}
    assert values == pytest.approx(expected, abs=1e-6)
    assert compute.scores(model, torch.ones(1, 2), t, score=lambda out, _: out.sum(1)).item() == 6.0
    with pytest.raises(ConfigError, match="unknown score"):
        compute.scores(model, torch.ones(1, 2), t, score="logits")


def test_float64_gradient_matches_finite_differences(images):
    model, x = toys.TinyNet().double(), images[:1, :, :4, :4].double()
    target = torch.tensor([2])
    gradient = compute.input_gradient(model, x, target, score="prob")
    step = torch.zeros_like(x)
    for place in [(0, 0, 1, 2), (0, 2, 3, 0)]:
        step.zero_()[place] = 1e-6
        plus, minus = (compute.scores(model, x + s * step, target, score="prob") for s in (1, -1))
        assert gradient[place].item() == pytest.approx(((plus - minus) / 2e-6).item(), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("max_batch", [1, 2, 3, 5, 32])
def test_chunks_are_bounded_and_change_nothing(images, zeros, spy, max_batch):
    watched = spy(toys.TinyNet())
    got = compute.input_gradient(watched, images, zeros, max_batch=max_batch)
    assert max(watched.calls) == min(max_batch, 5)
    assert sum(watched.calls) == 5
    torch.testing.assert_close(got, compute.input_gradient(toys.TinyNet(), images, zeros), atol=1e-6, rtol=1e-5)


def test_rows_are_made_on_demand(spy):
    made = []

    def rows(index):
        made.append(index.tolist())
        return index[:, None].float(), torch.zeros(len(index), dtype=torch.int64)

    chunks = compute.score_rows(toys.linear([[2.0]]), rows, 5, torch.zeros(1, 1), max_batch=2)
    assert next(chunks)[1].tolist() == [0.0, 2.0]
    assert made == [[0, 1]]
    assert torch.cat([values for _, values in chunks]).tolist() == [4.0, 6.0, 8.0]


def test_default_chunk_is_sixteen_at_224_px_and_bounded():
    for side, expected in ((32, 392), (112, 32), (224, 16), (316, 16), (317, 3), (1000, 1)):
        assert default_max_batch(torch.zeros(1, 3, side, side)) == expected
    assert default_max_batch(torch.zeros(1, 2)) == 1024
    assert default_max_batch(torch.zeros(1, 3, 4000, 4000)) == 1


class Hungry(nn.Module):
    """Runs out of memory above `limit` rows."""

    def __init__(self, limit, error):
        super().__init__()
        self.limit, self.error, self.seen = limit, error, []
        self.eval()

    def forward(self, inputs):
        self.seen.append(len(inputs))
        if len(inputs) > self.limit:
            raise self.error
        return inputs * 2.0


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("out of memory"), MemoryError(), RuntimeError("can't allocate memory")]
)
def test_out_of_memory_halves_until_it_fits(error):
    model = Hungry(2, error)
    got = compute.scores(model, torch.arange(20.0).reshape(10, 2), torch.ones(10, dtype=torch.int64), max_batch=8)
    assert got.tolist() == [2.0 * (2 * i + 1) for i in range(10)]
    assert model.seen == [8, 4, 2, 2, 2, 2, 2]


def test_out_of_memory_at_one_row_is_an_error_and_others_pass_through():
    with pytest.raises(EngineError, match="max_batch=1"):
        compute.scores(Hungry(0, MemoryError()), X, T)
    with pytest.raises(RuntimeError, match="boom"):
        compute.scores(Hungry(0, RuntimeError("boom")), X, T)
    with pytest.raises(InputError, match="max_batch=0"):
        compute.scores(toys.linear([[1.0, 1.0]]), X, T, max_batch=0)


BAD_INPUTS = {
    "list": [[1.0, 2.0]],
    "uint8": torch.zeros(2, 2, dtype=torch.uint8),
    "int64": torch.zeros(2, 2, dtype=torch.int64),
    "bool": torch.zeros(2, 2, dtype=torch.bool),
    "empty": torch.zeros(0, 2),
    "vector": torch.zeros(2),
    "nan": torch.tensor([[1.0, float("nan")], [0.0, 0.0]]),
    "inf": torch.tensor([[1.0, float("inf")], [0.0, 0.0]]),
    "numpy": X.numpy(),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_inputs_are_refused_before_any_forward(name, spy):
    watched = spy(toys.linear([[1.0, 1.0]]))
    with pytest.raises(InputError, match="inputs: "):
        compute.check_request(watched, BAD_INPUTS[name], T)
    assert watched.calls == []


BAD_TARGETS = [
    torch.tensor([0, -1]),
    torch.tensor([0, 0, 0]),
    torch.tensor([0.0, 1.5]),
    torch.tensor([True, False]),
    torch.tensor([[0], [0]]),
    [0, 0],
    1,
    torch.zeros(2, dtype=torch.int64, device="meta"),
]


@pytest.mark.parametrize("targets", BAD_TARGETS, ids=str)
def test_bad_targets_are_refused(targets):
    with pytest.raises(InputError, match="targets: "):
        compute.check_request(toys.linear([[1.0, 1.0]]), X, targets)


def test_a_class_the_model_lacks_is_refused():
    with pytest.raises(InputError, match=r"class 2 asked, the model has 2 \(0 to 1\)"):
        compute.input_gradient(toys.linear([[1.0, 1.0], [0.0, 0.0]]), X, torch.tensor([0, 2]))


def test_shape_dtype_and_mode_must_fit_the_model():
    net = toys.TinyNet()
    with pytest.raises(InputError, match=r"float32 on cpu, got torch\.float64"):
        compute.check_request(net, torch.zeros(1, 3, 8, 8, dtype=torch.float64), T[:1])
    net.input_shape = (3, 8, 8)
    for shape in [(1, 8, 8, 3), (1, 4, 8, 8), (3, 8, 8)]:
        with pytest.raises(InputError, match=r"rows of shape \(3, 8, 8\)"):
            compute.check_request(net, torch.zeros(shape), torch.zeros(shape[0], dtype=torch.int64))
    with pytest.raises(ModelError, match=r"call model\.eval\(\)"):
        compute.check_request(toys.TinyNet().train(), torch.zeros(1, 3, 8, 8), T[:1])


HIDDEN = {
    "detached": lambda x: x.detach().flatten(1).sum(1),
    "rounded": lambda x: x.flatten(1).sum(1).detach().round(),
    "argmax": lambda x: nn.functional.one_hot(x.flatten(1).argmax(1), x[0].numel()).float().clone(),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_a_hidden_gradient_is_an_error_not_zeros(name, images, zeros):
    with pytest.raises(ModelError, match="not differentiable"):
        compute.input_gradient(toys.Formula(HIDDEN[name]), images, zeros)
    assert compute.scores(toys.Formula(HIDDEN[name]), images, zeros).shape == (5,)


def test_integer_logits_and_wrong_shapes_are_errors(images, zeros):
    with pytest.raises(ModelError, match=r"returns torch\.int64"):
        compute.input_gradient(toys.Formula(lambda x: x.flatten(1).argmax(1)), images, zeros)
    with pytest.raises(ModelError, match=r"must return logits \(5, classes\)"):
        compute.scores(toys.Formula(lambda x: x), images, zeros)


def test_a_constant_model_gives_zeros(images, zeros):
    assert not compute.input_gradient(toys.constant(), images, zeros).any()


def test_inputs_are_untouched(images, zeros):
    leaf = images.clone().requires_grad_(True)
    compute.input_gradient(toys.TinyNet(), leaf, zeros)
    assert leaf.requires_grad
    assert leaf.grad is None
    assert torch.equal(leaf, images)
