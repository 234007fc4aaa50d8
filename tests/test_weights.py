"""Teachers and saved models: torchvision's networks to the bit, frozen for good, and plain words for damaged files."""
import dataclasses
import pickle
import random
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from parity import official_state
from safetensors.torch import save_file
from sealed import write_model
from torch import nn
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor

from rdlib import ReverseDistillation, encoder, evaluate, fit, load_dataset, weights
from rdlib.detector import saving
from rdlib.encoder import BACKBONES, TeacherEncoder
from rdlib.losses import flattened_cosine_loss
from rdlib.utils.errors import WeightsError
from rdlib.weights import coloured_noise, download_state_dict, read_state_dict


def torchvisions(backbone, whole=False):
    """torchvision's network in eval mode with random weights and statistics; without layer4 and fc unless `whole`."""
    with torch.device("meta"):
        network = get_model(backbone)
    if not whole:
        network.layer4 = network.fc = nn.Identity()
    network.to_empty(device="cpu")
    draw = torch.Generator().manual_seed(1)
    for key, value in network.state_dict().items():
        if value.ndim > 1:
            value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=draw)
        elif key.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1, generator=draw)
        elif key.endswith("num_batches_tracked"):
            value.fill_(7)
        else:
            value.uniform_(0.5, 1.5, generator=draw)
    return network.eval()


@torch.no_grad()
def assert_features_equal(teacher, network):
    """f1, f2, f3 are what layer1, layer2, layer3 of torchvision's network give."""
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    expected = create_feature_extractor(network, ["layer1", "layer2", "layer3"])(images).values()
    for ours, theirs, c, stride in zip(teacher(images), expected, teacher.channels, (4, 8, 16), strict=True):
        assert ours.shape == (2, c, 64 // stride, 96 // stride)
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max())
        assert theirs.std() > 0.01


@pytest.mark.parametrize("backbone", BACKBONES)
def test_keys_and_shapes_are_torchvisions(backbone):
    with torch.device("meta"):
        theirs = {key: value.shape for key, value in get_model(backbone).state_dict().items()
                  if not key.startswith(("layer4.", "fc."))}
    teacher = TeacherEncoder(backbone, None)
    assert {key: value.shape for key, value in teacher.state_dict().items()} == theirs
    assert not hasattr(teacher, "layer4") and not hasattr(teacher, "fc")
    e = BACKBONES[backbone].block.expansion
    assert teacher.channels == (64 * e, 128 * e, 256 * e)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_features_are_torchvisions(backbone, suffix, tmp_path):
    network = torchvisions(backbone, whole=backbone == "resnet18")
    state = network.state_dict()
    if backbone != "resnet18":  # a token of what a whole file holds: the real layer4 of a wide ResNet takes 170 MB
        state |= {"layer4.0.conv1.weight": torch.zeros(1), "fc.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}
    path = tmp_path / f"teacher{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    teacher = TeacherEncoder(backbone, str(path) if suffix == ".pth" else path)
    path.unlink()
    assert all(torch.equal(value, state[key]) for key, value in teacher.state_dict().items())
    assert_features_equal(teacher, network)


def test_files_of_old_without_batch_counts(tmp_path):
    network = torchvisions("resnet18")
    state = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pt")
    assert_features_equal(TeacherEncoder("resnet18", tmp_path / "old.pt"), network)


def test_the_shared_imagenet_weights_load(shared):
    path = shared / "weights" / "resnet18_imagenet_bnfolded.safetensors"
    if not path.is_file():
        pytest.skip(f"no {path}")
    features = TeacherEncoder("resnet18", path)(coloured_noise(4, 64, torch.Generator().manual_seed(0)))
    assert all(f.isfinite().all() and f.std() > 0.1 for f in features)


def copied(module):
    """A state dict that later steps cannot change."""
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(one, other):
    """Whether two state dicts agree bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_teacher_is_frozen_for_good():
    kit = ReverseDistillation("resnet18", None, normalize=False).requires_grad_(True).train()
    assert kit.training and kit.ocbe.training and kit.student.training
    assert not list(kit.teacher.parameters()) and not any(part.training for part in kit.teacher.modules())
    kit.teacher.train().requires_grad_(True)
    assert not any(part.training or list(part.parameters()) for part in kit.teacher.modules())
    learnt = {name for name, _ in kit.named_parameters()}
    assert learnt and all(name.startswith(("ocbe.", "student.")) for name in learnt)
    teacher, student, ocbe = copied(kit.teacher), copied(kit.student), copied(kit.ocbe)
    optimizer = torch.optim.SGD(kit.parameters(), lr=0.1, weight_decay=0.1)
    features, guesses = kit(torch.randn(2, 3, 64, 64, requires_grad=True))
    assert not any(f.requires_grad for f in features) and all(g.requires_grad for g in guesses)
    flattened_cosine_loss(features, guesses).backward()
    optimizer.step()
    assert same(copied(kit.teacher), teacher)  # weights and BatchNorm statistics alike
    assert not same(copied(kit.student), student) and not same(copied(kit.ocbe), ocbe)


@pytest.mark.parametrize("weights", ["random_calibrated", None])
def test_randomness_comes_from_the_seed_alone(weights):
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    kit = ReverseDistillation("resnet18", weights, seed=5)
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]
    with torch.random.fork_rng():
        torch.manual_seed(123)
        assert same(kit.state_dict(), ReverseDistillation("resnet18", weights, seed=5).state_dict())
    other = ReverseDistillation("resnet18", None, seed=6).state_dict()
    assert all(not torch.equal(value, other[key]) for key, value in kit.state_dict().items() if value.ndim == 4)


def layer_statistics(teacher):
    """Mean and standard deviation of every BatchNorm's output, for images that the calibration has not seen."""
    found = []
    hooks = [part.register_forward_hook(lambda part, inputs, output: found.append((output.mean(), output.std())))
             for part in teacher.modules() if isinstance(part, nn.BatchNorm2d)]
    features = teacher(coloured_noise(16, 128, torch.Generator().manual_seed(99)))
    for hook in hooks:
        hook.remove()
    return torch.tensor(found), features


def test_calibrated_layers_have_unit_statistics():
    found, features = layer_statistics(TeacherEncoder("resnet18", "random_calibrated"))
    assert len(found) == 15  # bn1, 2 x 2 in layer1, 2 x 2 + 1 in layer2 and layer3
    assert found[:, 0].abs().max() < 0.1 and (found[:, 1] - 1).abs().max() < 0.15
    assert all(0.3 < f.std() < 3 for f in features)
    plain, _ = layer_statistics(TeacherEncoder("resnet18", None))
    assert (plain[:, 1] - 1).abs().max() > 0.5  # what calibration is for


def test_coloured_noise():
    noise = coloured_noise(3, 32, torch.Generator().manual_seed(0))
    assert noise.shape == (3, 3, 32, 32) and noise.dtype == torch.float32
    assert torch.allclose(noise.mean((2, 3)), torch.zeros(3, 3), atol=1e-5)
    assert torch.allclose(noise.std((2, 3)), torch.ones(3, 3), atol=1e-5)
    assert (noise[..., 1:] - noise[..., :-1]).std() < 1.2  # white noise: 1.41


class Trap:
    """A pickle that leaves a mark when it is executed."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_pickles_with_code_are_not_executed(tmp_path):
    mark = tmp_path / "executed"
    torch.save({"conv1.weight": Trap(mark)}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Trap(mark), protocol=2))
    torch.save({"bn": Trap(mark), "decoder": {}}, tmp_path / "official.pth")
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(WeightsError, match=name):
            TeacherEncoder("resnet18", tmp_path / name)
    with pytest.raises(WeightsError, match="official.pth"):
        ReverseDistillation("resnet18", None).load_official(tmp_path / "official.pth")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Trap(mark), protocol=2))
    assert mark.exists()  # the trap works


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_missing_and_truncated_weights_are_named(name, tmp_path):
    path = tmp_path / name
    with pytest.raises(WeightsError, match=f"no weights file .*{name}.*embedded"):
        TeacherEncoder("resnet18", path)
    state = {"conv1.weight": torch.rand(64, 3, 7, 7)}
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    assert torch.equal(read_state_dict(path)["conv1.weight"], state["conv1.weight"])
    whole = path.read_bytes()
    for length in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=f"{name} cannot be read as weights.*truncated.*get it again"):
            read_state_dict(path)
    with pytest.raises(WeightsError, match="no weights file"):
        read_state_dict(tmp_path)


@pytest.mark.parametrize("content", [torch.zeros(3), [torch.zeros(3)], {"state_dict": {"a": torch.zeros(3)}},
                                     {"epoch": 3}, {0: torch.zeros(3)}])
def test_what_is_no_state_dict(content, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth does not hold a plain state dict.*torch\.save"):
        read_state_dict(tmp_path / "w.pth")


def test_weights_of_another_network_are_refused(tmp_path):
    state = torchvisions("resnet18").state_dict()

    def refused(change, words, backbone="resnet18"):
        torch.save({key: value for key, value in (state | change).items() if value is not None}, tmp_path / "w.pth")
        with pytest.raises(WeightsError, match=rf"w\.pth.*{words}"):
            TeacherEncoder(backbone, tmp_path / "w.pth")

    refused({"conv1.weight": torch.zeros(64, 1, 7, 7)}, r"'conv1.weight' has shape \(64, 1, 7, 7\).*\(64, 3, 7, 7\)")
    refused({"bn1.running_var": None}, "no 'bn1.running_var'.*backbone")
    refused({"layer1.9.conv1.weight": torch.zeros(1)}, "'layer1.9.conv1.weight' is no part.*backbone")
    refused({}, "no 'layer1.2.conv1.weight'.*backbone", "resnet34")
    refused({}, "backbone", "wide_resnet50_2")
    state = torchvisions("resnet34").state_dict()
    refused({}, "'layer1.2.conv1.weight' is no part.*backbone")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("key", ["conv1.weight", "layer3.1.bn2.running_var", "bn1.bias"])
def test_weights_that_are_not_finite_are_refused_by_name(key, value, tmp_path):
    """Also where no score would show it: an infinite variance makes 0 of a channel."""
    state = torchvisions("resnet18").state_dict()
    state[key].view(-1)[-1] = value
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=rf"w\.pth: '{key}' holds NaN or infinity.*smaller lr"):
        TeacherEncoder("resnet18", tmp_path / "w.pth")


def test_weights_that_become_infinite_in_float32_are_refused(tmp_path):
    state = torchvisions("resnet18").state_dict()
    state["bn1.running_var"] = torch.full((64,), 1e300, dtype=torch.float64)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="'bn1.running_var' holds NaN or infinity"):
        TeacherEncoder("resnet18", tmp_path / "w.pth")


def test_weights_from_several_gpus(tmp_path):
    """DataParallel puts "module." before every key; before some of them alone it is no such file."""
    network = torchvisions("resnet18", whole=True)
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    for path, save in ((tmp_path / "w.pth", torch.save), (tmp_path / "w.safetensors", save_file)):
        save(state, path)
        assert_features_equal(TeacherEncoder("resnet18", path), network)
        kit = ReverseDistillation("resnet18", path, bottleneck="pre")  # layer4 is found as well
        assert torch.equal(kit.ocbe.oce[0].conv1.weight, network.layer4[0].conv1.weight)
    state["conv1.weight"] = state.pop("module.conv1.weight")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth"):
        TeacherEncoder("resnet18", tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["resnet101", "ResNet18", ""])
def test_unknown_backbones(name):
    with pytest.raises(ValueError, match="resnet18, resnet34, resnet50, wide_resnet50_2"):
        TeacherEncoder(name)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on this machine: `files` maps a path to what it answers, `asked` lists what it was asked for."""
    files, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = files.get(self.path)
            if callable(body):
                return body(self)
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *arguments):
            pass

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)  # what set_dir may have left
    monkeypatch.setenv("no_proxy", "*")
    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield SimpleNamespace(files=files, asked=asked, url=f"http://127.0.0.1:{web.server_port}",
                          hub=tmp_path / "torch" / "hub" / "checkpoints")
    web.shutdown()
    web.server_close()


def state_file(path, state, right=True):
    """The bytes of a state dict, and the name that torchvision would give the file."""
    torch.save(state, path)
    content = path.read_bytes()
    return content, f"net-{sha256(content + (b'' if right else b'!')).hexdigest()[:8]}.pth"


STATE = {"weight": torch.arange(12.0).view(3, 4)}


def downloaded_wrongly(url, hub, kept=()):
    """What is said of a download that failed; in torch's folder is what was there before, nothing by halves."""
    with pytest.raises(WeightsError) as caught:
        download_state_dict(url)
    assert {path.name for path in hub.glob("*")} == set(kept)
    return str(caught.value)


def test_download_once_and_stay_offline_then(server, tmp_path):
    content, name = state_file(tmp_path / "w.pth", STATE)
    server.files[f"/models/{name}"] = content
    url = f"{server.url}/models/{name}"
    assert torch.equal(download_state_dict(url)["weight"], STATE["weight"])
    assert [path.name for path in server.hub.iterdir()] == [name] and (server.hub / name).read_bytes() == content
    server.files.clear()
    assert torch.equal(download_state_dict(url)["weight"], STATE["weight"])
    assert server.asked == [f"/models/{name}"]


def test_a_file_put_there_by_hand_is_used(server, tmp_path):
    content, name = state_file(tmp_path / "w.pth", STATE)
    server.hub.mkdir(parents=True)
    (server.hub / name).write_bytes(content)
    assert torch.equal(download_state_dict(f"{server.url}/{name}")["weight"], STATE["weight"]) and not server.asked


def test_download_with_the_wrong_hash(server, tmp_path):
    content, name = state_file(tmp_path / "w.pth", STATE, right=False)
    server.files[f"/{name}"] = content
    words = downloaded_wrongly(f"{server.url}/{name}", server.hub)
    assert f"{server.url}/{name}" in words and str(server.hub / name) in words and "embedded" in words


def test_download_that_breaks_off(server, tmp_path):
    content, name = state_file(tmp_path / "w.pth", STATE)

    def half(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:len(content) // 2])

    def half_a_chunk(handler):
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"ffff\r\n" + content[:100])
        handler.close_connection = True

    for answer in (half, half_a_chunk, lambda handler: handler.wfile.write(b"this is no HTTP\r\n\r\n"),
                   lambda handler: None):
        server.files[f"/{name}"] = answer
        words = downloaded_wrongly(f"{server.url}/{name}", server.hub)
        assert f"{server.url}/{name}" in words and str(server.hub / name) in words


def test_download_that_cannot_be_reached(server):
    for url in (f"{server.url}/gone-00000000.pth", "http://127.0.0.1:9/net-00000000.pth"):
        words = downloaded_wrongly(url, server.hub)
        assert url in words and str(server.hub / url.split("/")[-1]) in words and "another machine" in words
        assert "embedded" in words


def test_a_damaged_download_is_found_and_left(server, tmp_path):
    content, name = state_file(tmp_path / "w.pth", STATE)
    server.files[f"/{name}"] = content
    server.hub.mkdir(parents=True)
    for damaged in (content[:-1], content[:-1] + b"!", b""):
        (server.hub / name).write_bytes(damaged)
        words = downloaded_wrongly(f"{server.url}/{name}", server.hub, [name])
        assert str(server.hub / name) in words and "damaged" in words and "Delete it" in words and not server.asked
    (server.hub / name).unlink()  # as told
    assert torch.equal(download_state_dict(f"{server.url}/{name}")["weight"], STATE["weight"])


def test_downloads_are_not_executed(server, tmp_path):
    mark = tmp_path / "executed"
    content, name = state_file(tmp_path / "w.pth", {"weight": Trap(mark)})
    server.files[f"/{name}"] = content
    assert name in downloaded_wrongly(f"{server.url}/{name}", server.hub, [name]) and not mark.exists()


def test_imagenet_weights_come_from_torchvisions_address(server, tmp_path, monkeypatch):
    assert all(spec.imagenet.url.startswith("https://download.pytorch.org/models/") for spec in BACKBONES.values())
    network = torchvisions("resnet18")
    content, name = state_file(tmp_path / "w.pth", network.state_dict() | {"fc.bias": torch.zeros(1000)})
    spec = dataclasses.replace(BACKBONES["resnet18"], imagenet=SimpleNamespace(url=f"{server.url}/{name}"))
    monkeypatch.setitem(encoder.BACKBONES, "resnet18", spec)
    with pytest.raises(WeightsError, match=f"{server.url}/{name}.*could not be downloaded"):
        ReverseDistillation("resnet18", "imagenet")
    server.files[f"/{name}"] = content
    assert_features_equal(ReverseDistillation("resnet18", "imagenet").teacher, network)


@pytest.fixture(scope="module")
def trained():
    """A model none of whose weights, statistics and settings are those of a fresh one."""
    kit = ReverseDistillation("resnet18", None, sigma=2.5, fusion="multiply", normalize=False, seed=3).train()
    kit(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    return kit.eval()


def test_save_and_load_bit_for_bit(trained, tmp_path):
    trained.save(tmp_path / "deep" / "down" / "model.safetensors")
    assert [path.name for path in (tmp_path / "deep" / "down").iterdir()] == ["model.safetensors"]
    loaded = ReverseDistillation.load(str(tmp_path / "deep" / "down" / "model.safetensors"))
    assert same(loaded.state_dict(), trained.state_dict()) and loaded.config == trained.config
    images = torch.rand(2, 3, 64, 64)
    for ours, theirs in zip(loaded.predict(images), trained.predict(images), strict=True):
        assert torch.equal(ours, theirs)
    assert not list(loaded.teacher.parameters()) and not loaded.teacher.training


def test_save_from_channels_last(trained, tmp_path):
    other = ReverseDistillation("resnet18", None, seed=8).to(memory_format=torch.channels_last)
    other.save(tmp_path / "model.safetensors")
    assert same(ReverseDistillation.load(tmp_path / "model.safetensors").state_dict(), other.state_dict())


def test_a_save_that_fails_leaves_the_old_file(trained, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    trained.save(path)
    before = path.read_bytes()

    def full_disk(state, target, **options):
        Path(target).write_bytes(b"half a file")
        raise OSError("No space left on device")

    monkeypatch.setattr(saving, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        trained.save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="No space left"):
        trained.save(tmp_path / "new.safetensors")
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_not_finite_is_neither_saved_nor_loaded(tmp_path):
    path, kit = tmp_path / "model.safetensors", ReverseDistillation("resnet18", None)
    kit.save(path)
    before = path.read_bytes()
    kit.student.stage1[0].bn1.running_var[3] = np.inf
    with pytest.raises(WeightsError, match="not written: 'student.stage1.0.bn1.running_var' holds NaN or infinity"):
        kit.save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    write_model(path, kit.state_dict(), kit.describe())
    with pytest.raises(WeightsError, match=r"model\.safetensors: 'student.stage1.0.bn1.running_var' holds NaN"):
        ReverseDistillation.load(path)


def test_load_is_of_the_class_and_says_so_on_a_model(trained, tmp_path):
    class Own(ReverseDistillation):
        @classmethod
        def load(cls, path):
            return super().load(path)

    class Plain(ReverseDistillation):
        pass

    trained.save(tmp_path / "model.safetensors")
    for cls in (ReverseDistillation, Own, Plain):
        loaded = cls.load(tmp_path / "model.safetensors")
        assert type(loaded) is cls and same(loaded.state_dict(), trained.state_dict())
    for kit in (ReverseDistillation("resnet18", None), Plain("resnet18", None)):
        before = copied(kit)
        with pytest.raises(TypeError, match=r"model = ReverseDistillation\.load\(path\)"):
            kit.load(tmp_path / "model.safetensors")
        assert same(copied(kit), before)


def test_load_refuses_what_is_not_ours(trained, tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(WeightsError, match="model.safetensors cannot be read .*No such file.*Check the path"):
        ReverseDistillation.load(path)
    save_file(torchvisions("resnet18").state_dict(), path)
    with pytest.raises(WeightsError, match="model.safetensors holds no rdlib model.*weights=path.*load_official"):
        ReverseDistillation.load(path)
    trained.save(path)
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:1000], b"", b"PK" * 100):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="model.safetensors cannot be read as a saved model"):
            ReverseDistillation.load(path)
    short = dict(trained.state_dict())
    del short["student.stage1.0.conv1.weight"]
    write_model(path, short, trained.describe())
    with pytest.raises(WeightsError, match="model.safetensors has no 'student.stage1.0.conv1.weight'"):
        ReverseDistillation.load(path)


FOREIGN = {
    "sparse": (lambda weight: weight.to_sparse(), "is sparse"),
    "quantized": (lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8), "is quantized"),
    "meta": (lambda weight: weight.to("meta"), "is a meta tensor, without data"),
    "complex": (lambda weight: weight.to(torch.complex64), "has the dtype torch.complex64, .* torch.float32"),
    "integer": (lambda weight: weight.to(torch.int8), "has the dtype torch.int8, .* torch.float32"),
    "bool": (lambda weight: weight > 0, "has the dtype torch.bool, .* torch.float32"),
    "nan": (lambda weight: weight * np.nan, "holds NaN or infinity"),
    "huge": (lambda weight: weight.double() * 1e300, "holds NaN or infinity"),
    "negative": (lambda weight: -weight.abs() - 1, "is a variance but holds negative values")}


@pytest.mark.filterwarnings("ignore")  # torch's own, about quantized and sparse tensors
@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_tensors_are_refused_with_their_key_and_change_nothing(kind, official, tmp_path):
    change, words = FOREIGN[kind]
    parts, write = official
    kit, key = ReverseDistillation("resnet18", None), "bn1.running_var"
    teacher, before = torchvisions("resnet18").state_dict(), copied(kit)
    torch.save(teacher | {key: change(teacher[key])}, tmp_path / "teacher.pth")
    with pytest.raises(WeightsError, match=rf"teacher\.pth: '{key}' {words}"):
        TeacherEncoder("resnet18", tmp_path / "teacher.pth")
    with pytest.raises(WeightsError, match=rf"official\.pth: 'bn\.mff\.reduce1\.1.running_var' {words}"):
        kit.load_official(write(bn=parts["bn"] | {key: change(parts["bn"][key])}))
    assert same(copied(kit), before)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_a_teacher_from_a_wrapper_is_loaded(prefix, tmp_path):
    state = torchvisions("resnet18").state_dict()
    torch.save({prefix + key: value for key, value in state.items()}, tmp_path / "teacher.pth")
    torch.save(state, tmp_path / "plain.pth")
    one, other = (TeacherEncoder("resnet18", tmp_path / f"{name}.pth") for name in ("teacher", "plain"))
    assert same(one.state_dict(), other.state_dict())


def test_a_changed_bit_in_the_embedded_teacher_is_found(tmp_path, monkeypatch):
    whole = weights.embedded_teacher().read_bytes()
    path = tmp_path / weights.EMBEDDED
    monkeypatch.setattr(weights, "shipped", lambda *_: path)
    for place in (0, 100, len(whole) // 2, len(whole) - 1):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        found = sha256(changed).hexdigest()
        right = sha256(whole).hexdigest()
        with pytest.raises(WeightsError, match=f"{path} is damaged: its SHA-256 is {found} .* with {right}. Reinstall"):
            ReverseDistillation()
    path.write_bytes(whole)
    assert ReverseDistillation().config.weights == "embedded"


OFFICIAL_KEYS = {"mff.reduce1.0.weight": "conv1.weight", "mff.reduce1.4.running_var": "bn2.running_var",
                 "mff.reduce2.0.weight": "conv3.weight", "mff.reduce2.1.bias": "bn3.bias",
                 "oce.0.downsample.0.weight": "bn_layer.0.downsample.0.weight",
                 "oce.1.conv2.weight": "bn_layer.1.conv2.weight"}


@pytest.fixture
def official(tmp_path):
    """An official checkpoint's two parts, and a function that writes it, changed or not."""
    parts = {part: dict(official_state("resnet18", part)) for part in ("bn", "decoder")}

    def write(**change):
        torch.save(parts | change, tmp_path / "official.pth")
        return tmp_path / "official.pth"

    return parts, write


def test_load_official_puts_every_weight_in_its_place(official):
    parts, write = official
    kit = ReverseDistillation("resnet18", None)
    teacher = copied(kit.teacher)
    assert kit.load_official(str(write())) is kit and same(copied(kit.teacher), teacher)
    for ours, theirs in OFFICIAL_KEYS.items():
        assert torch.equal(kit.ocbe.state_dict()[ours], parts["bn"][theirs])
    for ours, theirs in (("stage3", "layer1"), ("stage2", "layer2"), ("stage1", "layer3")):
        for rest, other in (("0.conv1.weight", "0.conv1.weight"), ("1.bn2.running_mean", "1.bn2.running_mean"),
                            ("0.downsample.0.weight", "0.upsample.0.weight")):
            assert torch.equal(kit.student.state_dict()[f"{ours}.{rest}"], parts["decoder"][f"{theirs}.{other}"])
    learnt = {key: value for key, value in kit.state_dict().items() if not key.startswith("teacher.")}
    fresh = ReverseDistillation("resnet18", None).state_dict()
    assert not [key for key, value in learnt.items() if torch.equal(value, fresh[key]) and value.ndim]


@pytest.mark.parametrize("prefix", ["", "module."])
def test_load_official_leaves_out_memory_and_the_prefix_of_several_gpus(official, prefix):
    """The official test script drops the keys with "memory" from 'bn'."""
    parts, write = official
    plain = ReverseDistillation("resnet18", None, seed=1).load_official(write())
    bn = parts["bn"] | {"memory0.weight": torch.ones(3), "bn_layer.memory": torch.ones(1)}
    changed = {name: {prefix + key: value for key, value in part.items()}
               for name, part in (("bn", bn), ("decoder", parts["decoder"]))}
    changed["bn"]["memory"] = torch.ones(1)  # added without the prefix
    assert same(ReverseDistillation("resnet18", None, seed=1).load_official(write(**changed)).state_dict(),
                plain.state_dict())
    mixed = {"module.conv1.weight": bn["conv1.weight"], **{k: v for k, v in bn.items() if k != "conv1.weight"}}
    kit = ReverseDistillation("resnet18", None)
    before = copied(kit)
    with pytest.raises(WeightsError, match=r"'bn\."):
        kit.load_official(write(bn=mixed))
    assert same(copied(kit), before)


def test_load_official_refuses_what_is_not_finite(official):
    parts, write = official
    kit = ReverseDistillation("resnet18", None)
    before = copied(kit)
    bad = torch.full_like(parts["decoder"]["layer1.0.bn1.bias"], np.nan)
    with pytest.raises(WeightsError, match="'decoder.stage3.0.bn1.bias' holds NaN or infinity"):
        kit.load_official(write(decoder=parts["decoder"] | {"layer1.0.bn1.bias": bad}))
    assert same(copied(kit), before)


def test_load_official_refuses_what_does_not_fit(official, tmp_path):
    parts, write = official
    kit = ReverseDistillation("resnet18", None)
    before = copied(kit)
    bn, decoder = parts["bn"], parts["decoder"]
    for change, words in (({"bn": {key: value for key, value in bn.items() if key != "conv3.weight"}}, "'bn.*reduce2"),
                          ({"bn": bn | {"conv1.weight": torch.zeros(2)}}, r"'bn.*\(2,\)"),
                          ({"bn": bn | {"other.weight": torch.zeros(2)}}, "'bn.other.weight"),
                          ({"bn": decoder}, "'bn.mff")):
        with pytest.raises(WeightsError, match=f"official.pth.*{words}"):
            kit.load_official(write(**change))
    assert same(copied(kit), before)
    for change in ({"decoder": bn}, {"decoder": decoder | {"layer1.0.conv1.weight": torch.zeros(2)}}):
        with pytest.raises(WeightsError, match="official.pth.*'decoder.stage"):
            kit.load_official(write(**change))
    with pytest.raises(WeightsError, match="official.pth"):
        ReverseDistillation("resnet34", None).load_official(write())
    torch.save(bn, tmp_path / "bn.pth")
    with pytest.raises(WeightsError, match="bn.pth is no official checkpoint.*'bn' and 'decoder'"):
        kit.load_official(tmp_path / "bn.pth")
    with pytest.raises(WeightsError, match="no weights file .*gone.pth"):
        kit.load_official(tmp_path / "gone.pth")
    path = write()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="official.pth cannot be read"):
        kit.load_official(path)


def test_a_random_teacher_and_a_student_of_one_seed_are_not_alike():
    model = ReverseDistillation("resnet18", weights=None, seed=3)
    teacher, student = model.teacher.conv1.weight.flatten(), model.ocbe.mff.reduce1[0].weight.flatten()
    n = min(len(teacher), len(student))
    assert abs(torch.corrcoef(torch.stack([teacher[:n], student[:n]]))[0, 1]) < 0.05


def test_load_official_changes_nothing_unless_both_parts_fit(tmp_path):
    model = ReverseDistillation("resnet18", weights=None)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    broken = dict(official_state("resnet18", "decoder"))
    broken.pop("layer1.0.conv1.weight")
    for name, decoder in (("gap", broken), ("list", [1, 2]), ("text", {"layer1.0.conv1.weight": "no tensor"})):
        path = tmp_path / f"{name}.pth"
        torch.save({"bn": official_state("resnet18", "bn"), "decoder": decoder}, path)
        with pytest.raises(WeightsError, match=name):
            model.load_official(path)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


ABOUT = {"class": "ReverseDistillation", "format": 3, "threshold": None}


@pytest.mark.parametrize("about", ["{", "[]", "3", "[" * 10_000, '{"depth": 3}', '{"backbone": "vgg16"}', *(
    ABOUT | change for change in (
        {"config": {"weights": "random", "backbone": "vgg16"}}, {"config": {"weights": "random", "depth": 3}},
        {"config": {"weights": 3}}, {"config": 7}, {"config": {}, "format": "two"},
        {"config": {"weights": "random", "image_size": "large"}}, {"config": {"weights": "random", "value_range": [1]}},
        {"config": {"weights": "random"}, "format": 4}))])
def test_load_of_an_unknown_configuration(tmp_path, about):
    path = tmp_path / "model.safetensors"
    write_model(path, {"x": torch.zeros(1)}, about)
    with pytest.raises(WeightsError, match=r"model\.safetensors.*Update the kit"):
        ReverseDistillation.load(path)


def test_a_loaded_model_is_in_eval_mode(tmp_path):
    ReverseDistillation("resnet18", weights=None).save(tmp_path / "model.safetensors")
    assert not any(part.training for part in ReverseDistillation.load(tmp_path / "model.safetensors").modules())


def test_the_embedded_teacher_is_a_resnet18():
    with pytest.raises(WeightsError, match="ResNet-18, not a wide_resnet50_2.*'auto'.*'imagenet'"):
        ReverseDistillation("wide_resnet50_2", "embedded")


def test_a_mistyped_word_is_answered_with_the_valid_words():
    with pytest.raises(WeightsError, match="'auto', 'embedded', 'imagenet', 'random' and 'random_calibrated'"):
        TeacherEncoder("resnet18", "imagnet")


def saved_and_loaded(kit, folder):
    """The model after a way through a file."""
    kit.save(folder / "model.safetensors")
    return ReverseDistillation.load(folder / "model.safetensors")


def test_auto_is_the_embedded_teacher_for_a_resnet18(tmp_path):
    kit = ReverseDistillation("resnet18", seed=1)
    assert same(kit.state_dict(), ReverseDistillation("resnet18", "auto", seed=1).state_dict())
    assert same(kit.teacher.state_dict(), TeacherEncoder("resnet18", "embedded").state_dict())
    for model_ in (kit, saved_and_loaded(kit, tmp_path)):
        assert model_.config.weights == model_.teacher.weights == "embedded" and "weights='embedded'" in repr(model_)


def test_auto_is_imagenet_for_other_backbones(server, tmp_path, monkeypatch):
    network = torchvisions("resnet34")
    content, name = state_file(tmp_path / "w.pth", network.state_dict())
    spec = dataclasses.replace(BACKBONES["resnet34"], imagenet=SimpleNamespace(url=f"{server.url}/{name}"))
    monkeypatch.setitem(encoder.BACKBONES, "resnet34", spec)
    with pytest.raises(WeightsError, match=f"{server.url}/{name}.*could not be downloaded.*another machine"):
        ReverseDistillation("resnet34")
    server.files[f"/{name}"] = content
    kit = ReverseDistillation("resnet34")
    assert same(kit.teacher.state_dict(), network.state_dict())
    for model_ in (kit, saved_and_loaded(kit, tmp_path)):
        assert model_.config.weights == model_.teacher.weights == "imagenet" and "weights='imagenet'" in repr(model_)


@pytest.mark.parametrize(("weights", "name"), [(None, "random"), ("random", "random"), ("file", "mine.pth"),
                                               ("random_calibrated", "random_calibrated")])
def test_a_model_and_its_file_name_the_weights_without_their_folder(weights, name, tmp_path):
    if weights == "file":
        weights = tmp_path / "mine.pth"
        torch.save(torchvisions("resnet18").state_dict(), weights)
    kit = ReverseDistillation("resnet18", weights)
    loaded = saved_and_loaded(kit, tmp_path)
    assert kit.config.weights == loaded.config.weights == loaded.teacher.weights == name
    assert repr(kit) == repr(loaded) and str(tmp_path) not in repr(kit)


def test_random_is_a_word_for_none():
    assert same(TeacherEncoder("resnet34", "random", seed=4).state_dict(), TeacherEncoder("resnet34", None,
                                                                                          seed=4).state_dict())


def test_repr_is_a_few_lines(trained):
    assert repr(trained) == """ReverseDistillation
  teacher: backbone='resnet18', weights='random'
  settings: sigma=2.5, normalize=False, scales=(1, 2, 3), score='max', fusion='multiply', bottleneck='mff_oce'
  threshold: none
  region of interest: whole image"""
    html = trained._repr_html_()
    assert html.count("<tr>") == 4 and "weights=&#x27;random&#x27;" in html


def test_predictions_are_the_same_after_fit_evaluate_save_and_load(tmp_path):
    data = load_dataset("synthetic/weave", size=64, n_train=6)
    trained = ReverseDistillation("resnet18", weights=None)
    fit(trained, data.train, 1, batch_size=3, progress=False)
    images = torch.stack([data.test[i].image for i in range(3)])
    before = trained.predict(images)[0]
    trained.save(tmp_path / "model.safetensors")
    data.test.samples = data.test.samples[:3]
    evaluate(trained, data.test, progress=False)
    assert torch.equal(before, trained.predict(images)[0])
    assert torch.equal(before, ReverseDistillation.load(tmp_path / "model.safetensors").predict(images)[0])
