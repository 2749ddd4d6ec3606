"""Weights are data: found, verified and refused before any forward pass; nothing in them is ever executed."""

import json
import pickle
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save

from xai_lib import compute, models
from xai_lib.errors import ModelError
from xai_lib.models import nets, torchvision_nets, weights
from xai_lib.models.weights import CHECKPOINTS


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch, tmp_path):
    for name in ("XAI_WEIGHTS", "XAI_ALLOW_DOWNLOAD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory) -> Path:
    """A randomly initialised ResNet-18 in torchvision's own format, with running statistics that matter."""
    torch.manual_seed(0)
    net = torchvision.models.resnet18(weights=None)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(net.state_dict(), path)
    return path


def test_resnet18_from_a_file_equals_torchvision(resnet_file):
    model = models.load("resnet18", weights=resnet_file)
    net = torchvision.models.resnet18(weights=None)
    net.load_state_dict(torch.load(resnet_file, weights_only=True))
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.inference_mode():
        expected = net.eval()((x - mean) / std)
    torch.testing.assert_close(compute.logits(model, x), expected, rtol=1e-4, atol=1e-4)
    assert model.weights_sha256 == sha256(resnet_file.read_bytes()).hexdigest()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())


def test_a_file_under_xai_weights_is_found_and_its_name_checked(resnet_file, monkeypatch, tmp_path):
    monkeypatch.setenv("XAI_WEIGHTS", str(tmp_path))
    (tmp_path / "resnet18-f37072fd.pth").write_bytes(resnet_file.read_bytes())
    with pytest.raises(ModelError, match="expected sha256 f37072fd, got"):
        models.load("resnet18")
    digits = sha256(resnet_file.read_bytes()).hexdigest()[:8]
    good = tmp_path / f"mine-{digits}.pth"
    good.write_bytes(resnet_file.read_bytes())
    assert models.load("resnet18", weights=good).weights_sha256.startswith(digits)
    bad = tmp_path / "mine-00000000.pth"
    bad.write_bytes(resnet_file.read_bytes())
    with pytest.raises(ModelError, match="expected sha256 00000000"):
        models.load("resnet18", weights=bad)


@pytest.mark.parametrize("name", ["densenet121", "inception_v3"])
def test_old_spellings_and_auxiliary_heads_fit(name):
    own = {"aux_logits": True, "init_weights": False} if name == "inception_v3" else {}
    with torch.device("meta"):
        state = torchvision.models.get_model(name, weights=None, **own).state_dict()
    old = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in key else key: None for key in state}
    read = {torchvision_nets.densenet_name(key) for key in old if not key.startswith("AuxLogits.")}
    assert read == set(torchvision_nets.blank(name).state_dict())


# --- damaged files ------------------------------------------------------------------------------------------------------------


def state() -> dict[str, torch.Tensor]:
    return {key: tensor.clone() for key, tensor in nets.lenet().state_dict().items()}


def changed(**tensors: torch.Tensor | None) -> bytes:
    new = {**state(), **{key.replace("__", "."): tensor for key, tensor in tensors.items()}}
    return save({key: tensor for key, tensor in new.items() if tensor is not None})


def flipped() -> bytes:
    content = bytearray(CHECKPOINTS.joinpath("mnist_cnn.safetensors").read_bytes())
    content[-1] ^= 1
    return bytes(content)


GOOD = save(state())
DAMAGED = {
    "empty": (b"", "header"),
    "shorter than a length": (b"\x01\x02", "header"),
    "truncated header": (GOOD[:40], "header of at most 32 bytes"),
    "header of 2**63 bytes": ((2**63).to_bytes(8, "little") + GOOD[8:], "got 9223372036854775808"),
    "header is no JSON": (GOOD[:8] + b"#" * (len(GOOD) - 8), "expected plain tensors"),
    "truncated tensors": (GOOD[:-4], "expected plain tensors"),
    "missing key": (changed(fc3__bias=None), "missing: fc3.bias"),
    "extra key": (changed(fc4__bias=torch.zeros(1)), "not expected: fc4.bias"),
    "another shape": (changed(fc3__bias=torch.zeros(11)), r"fc3.bias expected \(10,\), got \(11,\)"),
    "NaN": (changed(fc3__bias=torch.full((10,), torch.nan)), "NaN or infinity in fc3.bias"),
    "infinity": (changed(conv1__bias=torch.full((6,), torch.inf)), "NaN or infinity in conv1.bias"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_refused_before_any_forward(case, tmp_path, monkeypatch):
    content, message = DAMAGED[case]
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    monkeypatch.setattr(torch.nn.Module, "__call__", lambda *_: pytest.fail("a forward pass ran"))
    with pytest.raises(ModelError, match=message) as caught:
        models.load("mnist_cnn", weights=path)
    assert caught.value.exit_code == 4
    assert str(path) in str(caught.value)


def test_one_flipped_byte_is_told_by_the_card(tmp_path):
    path = tmp_path / "mnist_cnn.safetensors"
    path.write_bytes(flipped())
    card = CHECKPOINTS.joinpath("mnist_cnn.json").read_text(encoding="utf-8")
    path.with_suffix(".json").write_text(card, encoding="utf-8")
    with pytest.raises(ModelError, match=f"expected sha256 {json.loads(card)['sha256']}, got [0-9a-f]{{64}}"):
        models.load("mnist_cnn", weights=tmp_path)


@pytest.mark.parametrize("card", ["", "[]", '{"sha256": "short"}', "{}", "[" * 100_000])
def test_a_damaged_card_is_refused(card, tmp_path):
    path = tmp_path / "mnist_cnn.safetensors"
    path.write_bytes(GOOD)
    path.with_suffix(".json").write_text(card, encoding="utf-8")
    with pytest.raises(ModelError, match="restore it from git"):
        models.load("mnist_cnn", weights=path)


def test_wrong_bytes_in_the_package_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("XAI_WEIGHTS", str(tmp_path))
    (tmp_path / "efficientnet-lite0-57934424.pth").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="expected sha256 579344248a93e230"):
        models.load("efficientnet_lite0")


@pytest.mark.parametrize("name", ["net.bin", "net"])
def test_other_suffixes_and_missing_files_are_refused(name, tmp_path):
    (tmp_path / name).write_bytes(GOOD)
    with pytest.raises(ModelError, match=r"expected \.safetensors, \.pth or \.pt"):
        models.load("mnist_cnn", weights=tmp_path / name)
    with pytest.raises(ModelError, match="no file"):
        models.load("mnist_cnn", weights=tmp_path / "absent.safetensors")


# --- never code ---------------------------------------------------------------------------------------------------------------


class Malicious:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


@pytest.mark.parametrize("how", ["zip", "plain pickle"])
def test_a_malicious_pickle_is_not_executed(how, tmp_path):
    canary, path = tmp_path / "canary", tmp_path / "net.pth"
    content = {**state(), "extra": Malicious(canary)}
    if how == "zip":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(ModelError, match="never loaded"):
        models.load("mnist_cnn", weights=path)
    assert not canary.exists()


@pytest.mark.parametrize("content", [{}, [1, 2], {"a": 3}, {3: torch.zeros(1)}, {"state": {"a": torch.zeros(1)}}])
def test_pth_files_of_other_things_are_refused(content, tmp_path):
    path = tmp_path / "net.pth"
    torch.save(content, path)
    with pytest.raises(ModelError, match="expected"):
        models.load("mnist_cnn", weights=path)


def test_weights_are_unpickled_in_one_place_only():
    root = Path(models.__file__).parents[1]
    loading = [p.name for p in root.rglob("*.py") if "torch.load(" in p.read_text(encoding="utf-8").replace("`torch.load(", "")]
    assert loading == ["weights.py"]
    assert "weights_only=True" in Path(weights.__file__).read_text(encoding="utf-8")


# --- downloads, from a server of this test ------------------------------------------------------------------------------------


@pytest.fixture
def server():
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200 if self.path == "/net.safetensors" else 404)
            self.end_headers()
            self.wfile.write(GOOD)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}", asked
        made.shutdown()
        thread.join()


def test_downloads_only_when_allowed(server, tmp_path, monkeypatch):
    address, asked = server
    monkeypatch.setenv("XAI_WEIGHTS", str(tmp_path))
    source = weights.Source("net.safetensors", sha256(GOOD).hexdigest()[:8], url=f"{address}/net.safetensors", how="ask")

    def find(allow: bool | None) -> Path:
        return weights.find("net", source, weights=None, allow_download=allow, works_now="other")

    for allow in (False, None):
        with pytest.raises(ModelError, match="not found"):
            find(allow)
    assert asked == []
    monkeypatch.setenv("XAI_ALLOW_DOWNLOAD", "1")
    assert find(None).read_bytes() == GOOD
    assert find(False) == tmp_path / "net.safetensors"
    assert asked == ["/net.safetensors"]


@pytest.mark.parametrize(
    ("path", "digits", "message"),
    [
        ("/net.safetensors", "00000000", "expected sha256 00000000"),
        ("/net.safetensors", "", "unknown"),
        ("/gone", "0", "failed"),
    ],
)
def test_a_bad_download_leaves_nothing(server, tmp_path, path, digits, message):
    with pytest.raises(ModelError, match=message):
        weights.download(server[0] + path, tmp_path / "net.safetensors", sha256=digits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["file:///etc/hostname", "http://example.org/net.pth", "ftp://127.0.0.1/net.pth"])
def test_other_addresses_are_refused(url, tmp_path):
    with pytest.raises(ModelError, match="expected an https address"):
        weights.download(url, tmp_path / "net.pth", sha256="00000000")
