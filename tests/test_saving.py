"""A model's file: every class comes back as it was, and names what it is; a changed or damaged one is refused."""
import copy
import hashlib
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from parity import official_state
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sealed import write_model
from test_threshold import from_good as from_small_maps
from test_training import equal, images, weights
from torch import nn
from torch.ao.quantization import quantize_dynamic
from torch.nn.utils import fusion, parametrizations, prune

import rdlib
from rdlib import ForwardStudent, MemoryBank, ReverseDistillation, TeacherEncoder
from rdlib.detector import Detector
from rdlib.encoder import fingerprint
from rdlib.utils.arrays import digest
from rdlib.utils.errors import WeightsError

PICTURES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(5))
MODELS = {
    "reverse": lambda: ReverseDistillation("resnet18", None, bottleneck="oce", scales=(3, 1), sigma=1.5, score="sum",
                                           fusion="multiply", normalize=False, seed=3),
    "forward": lambda: ForwardStudent("resnet18", scales=(2,), sigma=0, fusion="multiply", blocks=(1, 3, 2),
                                      seed=4),
    "bank": lambda: MemoryBank("resnet18", scales=(3, 2), size=20, coreset=False, sigma=2, seed=5).fit(
        images(3), progress=False),
    "empty bank": lambda: MemoryBank("resnet18")}


@pytest.fixture(params=MODELS)
def model(request):
    """A model of every class, none of whose settings are the default ones, and all it may know of its training."""
    made = MODELS[request.param]()
    made.set_trained((64, 64), (0.1, 0.9))
    made.set_roi(torch.arange(64 * 64).view(64, 64) % 3 > 0)
    made.threshold = from_good(np.linspace(1, 2, 80), 0.1, confidence=0.9)
    return made


def from_good(*args, **options):
    """Choose a threshold for images of 64 x 64 pixels."""
    return replace(from_small_maps(*args, **options), size=(64, 64))


def same_predictions(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.predict(PICTURES), other.predict(PICTURES), strict=True))


def description(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["rdlib"])


def rewrite(path, **change):
    about = {name: value for name, value in (description(path) | change).items() if value != "gone"}
    write_model(path, load_file(path), about)


def test_every_class_comes_back_as_it_was(model, tmp_path):
    model.save(tmp_path / "m.safetensors")
    for loaded in (rdlib.load(tmp_path / "m.safetensors"), type(model).load(str(tmp_path / "m.safetensors"))):
        assert type(loaded) is type(model) and loaded.config == model.config and loaded.threshold == model.threshold
        assert equal(weights(loaded), weights(model)) and not any(part.training for part in loaded.modules())
        assert loaded.image_size == (64, 64) and isinstance(loaded.config.value_range, tuple)
        assert repr(loaded) == repr(model) and loaded.describe() == model.describe()
        if getattr(model, "bank", PICTURES).numel():
            assert same_predictions(loaded, model)


def test_the_file_says_how_the_model_was_trained(model, tmp_path):
    model.save(tmp_path / "m.safetensors")
    about = description(tmp_path / "m.safetensors")
    assert about["class"] == type(model).__name__ and about["format"] == 3 and about["version"] == rdlib.__version__
    config = about["config"]
    assert (config["image_size"], config["value_range"], config["version"]) == ([64, 64], [0.1, 0.9], rdlib.__version__)
    assert (config["sigma"], config["normalize"]) == (model.config.sigma, model.config.normalize)
    assert about["weights"] == fingerprint(model) and config["weights"] == model.config.weights
    assert about["threshold"]["rate"] == 0.1 and len(about["threshold"]["quantiles"]) == 21


def test_what_was_saved_can_be_used_and_saved_again(tmp_path):
    bank = MODELS["bank"]()
    bank.save(tmp_path / "m.safetensors")
    loaded = rdlib.load(tmp_path / "m.safetensors")
    assert loaded.config.size == 20 and not loaded.config.coreset and loaded.config.seed == 5
    assert same_predictions(loaded, bank) and torch.equal(loaded.fit(images(3), progress=False).bank, bank.bank)
    loaded.save(tmp_path / "m.safetensors")
    student = MODELS["forward"]()
    student.save(tmp_path / "f.safetensors")
    loaded = rdlib.load(tmp_path / "f.safetensors")
    rdlib.fit(loaded, images(4), 1, progress=False)
    assert not equal(weights(loaded.student), weights(student.student))


def test_a_file_of_another_class_is_refused(tmp_path):
    MODELS["forward"]().save(tmp_path / "m.safetensors")
    for other in (ReverseDistillation, MemoryBank, Detector):
        with pytest.raises(WeightsError, match=r"holds a ForwardStudent, no .*rdlib.load\(path\)"):
            other.load(tmp_path / "m.safetensors")
    rewrite(tmp_path / "m.safetensors", **{"class": "Mine"})
    with pytest.raises(WeightsError, match="a Mine, none of ReverseDistillation, Forward.*Mine.load"):
        rdlib.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize(("change", "words"), [
    ({"format": 4}, "format 4, not 3.*Update the kit"), ({"format": 2}, "format 2, not 3.*save the model again"),
    ({"format": "3"}, "save the model again"), ({"format": "gone"}, "save the model again"),
    ({"class": "gone"}, "save the model again"), ({"config": "gone"}, "save the model again"),
    ({"threshold": "gone"}, "save the model again")])
def test_a_description_of_another_version_is_refused(change, words, tmp_path):
    MODELS["empty bank"]().save(tmp_path / "m.safetensors")
    rewrite(tmp_path / "m.safetensors", **change)
    with pytest.raises(WeightsError, match=rf"m\.safetensors.*{words}"):
        rdlib.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize(("name", "key"), [
    ("forward", "teacher.conv1.weight"), ("forward", "student.conv1.weight"),
    ("reverse", "ocbe.oce.0.bn1.running_mean"), ("bank", "bank")])
def test_weights_that_were_changed_after_saving_are_refused(name, key, tmp_path):
    path = tmp_path / "m.safetensors"
    MODELS[name]().save(path)
    state = load_file(path)
    state[key].flatten()[:1].view(torch.int32).bitwise_xor_(1)  # the last bit
    save_file(state, path, {"rdlib": json.dumps(description(path))})
    found, right = description(path)["sha256"], hashlib.sha256(
        path.read_bytes().replace(description(path)["sha256"].encode(), b"0" * 64)).hexdigest()
    with pytest.raises(WeightsError, match=rf"m\.safetensors is not as .* is {right}, it says {found}\. .*Get it"):
        rdlib.load(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_other_dtypes_load_in_float32(dtype, tmp_path):
    model = MODELS["bank"]().to(dtype)
    model.save(tmp_path / "m.safetensors")
    loaded = rdlib.load(tmp_path / "m.safetensors")
    assert loaded.bank.dtype == loaded.teacher.conv1.weight.dtype == torch.float32
    assert torch.equal(loaded.bank, model.bank.float())
    assert torch.allclose(loaded.predict(PICTURES)[0], model.float().predict(PICTURES)[0], atol=0.05)


def test_the_fingerprint_is_the_sha256_of_names_shapes_and_values():
    teacher, other = TeacherEncoder(), TeacherEncoder()
    rows = sorted((repr(name), hashlib.sha256(f"{value.dtype} {tuple(value.shape)}".encode() + value.numpy().tobytes()))
                  for name, value in teacher.state_dict().items())
    own = hashlib.sha256(f"tuple {('dict', *((name, row.hexdigest()) for name, row in rows))!r}".encode())
    assert fingerprint(teacher) == own.hexdigest() == fingerprint(teacher.to(memory_format=torch.channels_last))
    assert fingerprint(teacher.double()) == own.hexdigest()
    other.bn1.bias[3] = torch.nextafter(other.bn1.bias[3], torch.tensor(9.0))
    assert fingerprint(other) != own.hexdigest()


@pytest.mark.parametrize("other", [
    {"a": [1, 2.0], "b": torch.zeros(2)}, {"a": [1.0, 2], "b": torch.zeros(2)}, {"a": [1, 2, None], "b": "0"},
    {"a": [1, 2], "b": torch.zeros(1, 2)}, {"a": [1, 2], "b": torch.tensor([0, -0.0])}, {"a": [True, 2]}, {},
    {"a": [1, 2], "b": torch.zeros(2).double()}, {"a": [[1], 2], "b": torch.zeros(2)}, None, "", 0, [], b""])
def test_other_content_has_another_digest(other):
    one = {"a": [1, 2], "b": torch.zeros(2)}
    assert digest(other) not in (digest(one), digest([one])) and digest(other) == digest(copy.deepcopy(other))


def test_a_digest_ignores_order_of_keys_layout_and_byte_order():
    image = torch.rand(2, 3, 4, 4)
    same = {"x": image.to(memory_format=torch.channels_last), "a": np.arange(3)[::-1].astype(">f4"), "n": np.float64(2)}
    assert digest({"n": torch.tensor([2.0]).double().numpy(), "a": np.float32([2, 1, 0]), "x": image}) == digest(same)
    assert digest(image.bfloat16()) != digest(image.half()) and len(digest(torch.empty(0, 3))) == 64
    with pytest.raises(TypeError, match="A Generator has no digest. Keep numbers"):
        digest([torch.Generator()])


def folded(model):
    """BatchNorm of the teacher's first layer folded into its convolution."""
    teacher = model.teacher
    for part in (teacher.conv1, teacher.bn1):
        for name, value in list(part._buffers.items()):
            if name in ("weight", "bias"):
                delattr(part, name)
                part.register_parameter(name, nn.Parameter(value, requires_grad=False))
    teacher.conv1.bias = None
    teacher.conv1, teacher.bn1 = fusion.fuse_conv_bn_eval(teacher.conv1, teacher.bn1), nn.Identity()


def quantized(model):
    model.student = quantize_dynamic(nn.Sequential(nn.Linear(2, 2)))


def integers(model):
    model.student.conv1.weight = nn.Parameter(model.student.conv1.weight.to(torch.int8), requires_grad=False)


CHANGES = {
    "folded": folded, "quantized": quantized, "integers": integers,
    "wrapped": lambda model: setattr(model, "student", nn.DataParallel(model.student)),
    "compiled": lambda model: setattr(model, "student", torch.compile(model.student)),
    "parametrized": lambda model: parametrizations.weight_norm(model.student.conv1),
    "pruned": lambda model: prune.random_unstructured(model.student.conv1, "weight", 0.5),
    "narrower": lambda model: setattr(model.student, "conv1", nn.Conv2d(3, 32, 7)),
    "one more": lambda model: setattr(model, "head", nn.Linear(2, 2)),
    "one less": lambda model: delattr(model.student, "layer3")}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_with_other_layers_is_not_saved(change, tmp_path):
    model = ForwardStudent("resnet18", None)
    CHANGES[change](model)
    with pytest.raises(WeightsError, match="cannot be saved: its layers were changed.*folding BatchNorm"):
        model.save(tmp_path / "m.safetensors")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "part"), [
    ("reverse", "teacher"), ("forward", "teacher"), ("forward", "all"), ("bank", "teacher")])
def test_a_folded_model_is_not_trained(name, part):
    """Not of the teacher alone either: its folded weights are parameters, which an optimizer finds."""
    model = MODELS[name]().eval()
    folded(model)
    if part == "all":
        student = model.student
        student.conv1, student.bn1 = fusion.fuse_conv_bn_eval(student.conv1, student.bn1), nn.Identity()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeightsError, match="cannot be trained: its layers were changed.*folding BatchNorm"):
        model.fit(images(3), progress=False) if name == "bank" else rdlib.fit(model, images(4), 1, progress=False)
    assert equal(before, model.state_dict())


def test_a_model_that_was_only_used_is_saved(tmp_path):
    model = copy.deepcopy(MODELS["forward"]()).to(memory_format=torch.channels_last)
    model.predict(PICTURES)
    rdlib.fit(model, images(4), 1, progress=False, ema=0.5)
    model.requires_grad_(False)
    model.save(tmp_path / "m.safetensors")
    assert same_predictions(rdlib.load(tmp_path / "m.safetensors"), model)


def test_official_weights_take_away_what_the_model_knew(tmp_path):
    model = ReverseDistillation("resnet18", None)
    roi = torch.arange(64 * 64).view(64, 64) % 3 > 0
    model.set_trained(64, (0, 1))
    model.set_roi(roi)
    torch.save({part: official_state("resnet18", part) for part in ("bn", "decoder")}, tmp_path / "official.pth")
    model.load_official(tmp_path / "official.pth")
    assert (model.config.image_size, model.config.value_range, model.config.version) == (None, None, None)
    assert torch.equal(model.roi, roi) and model.image_size == (64, 64), "the region of interest is the user's"


def test_an_exported_file_names_its_class(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"not a model of this kind")
    with pytest.raises(WeightsError, match=r"OnnxDetector\(path\)"):
        rdlib.load(tmp_path / "m.onnx")


def test_repr_tells_how_the_model_was_trained(model):
    lines = repr(model).splitlines()
    assert lines[0] == type(model).__name__
    assert f"  teacher: backbone='resnet18', weights={model.config.weights!r}" in lines
    assert f"  trained: image_size=(64, 64), value_range=(0.1, 0.9), version='{rdlib.__version__}', white=None" in lines
    assert f"  threshold: {model.threshold}" in lines and "  region of interest: 2730 pixels" in lines
    assert len(lines) == 6 and "2730 pixels" in model._repr_html_()


def test_a_changed_bit_anywhere_in_a_models_file_is_found(tmp_path):
    """In the length of the head, its names, shapes and spaces, in the description, in its SHA-256, in the weights."""
    path = tmp_path / "m.safetensors"
    model = MODELS["empty bank"]()
    model.threshold = from_good(np.linspace(1, 2, 80), 0.1)
    model.save(path)
    whole, draw = path.read_bytes(), np.random.default_rng(0)
    start = 8 + int.from_bytes(whole[:8], "little")
    near = whole.index(b"sha256")
    places = [0, 7, 8, near, near + 20, near + 75, whole.index(b"quantiles") + 20, start - 1, start, len(whole) - 1]
    for place in places + draw.integers(start, size=40).tolist() + draw.integers(start, len(whole), 10).tolist():
        changed = bytearray(whole)
        changed[place] ^= 1 << draw.integers(8)
        path.write_bytes(changed)
        with pytest.raises(WeightsError, match=r"m\.safetensors (cannot be read|holds|was saved|is not as it was)"):
            rdlib.load(path)
    path.write_bytes(whole)
    assert rdlib.load(path).threshold == model.threshold


WRONG = {
    "sigma": [math.nan, math.inf, 1e308, -1, 257, "4", None, True], "normalize": ["x", [], math.nan, -1, 1],
    "image_size": ["64", [64, 64, 64], [-64, 64], [0, 0], [1e9, 1e9], [65, 65], [64, 32 * 10**6], {}, 9, [9., 9]],
    "value_range": [[math.nan, 1], [1], [1, 0], "ab", 3, [0, 1, 2], [None, 1]], "white": [math.nan, 0, -1, "x", [255]],
    "scales": [None, 3, "12", [1, 1], [0], [], [1.5]], "score": [3, [], "mean"], "backbone": [18, "vgg16", None],
    "weights": [3, None], "version": [1], "size": [0, -1, 1.5, "2", True], "seed": [-1, 2**40], "coreset": ["yes"]}


@pytest.mark.parametrize("name", WRONG)
def test_settings_in_a_file_are_checked(name, tmp_path):
    """Each value on its own, in a file whose SHA-256 is right."""
    path, model = tmp_path / "m.safetensors", MODELS["empty bank"]()
    about, state = json.loads(json.dumps(model.describe())), model.state_dict()
    for value in WRONG[name]:
        write_model(path, state, about | {"config": about["config"] | {name: value}})
        with pytest.raises(WeightsError, match=r"m\.safetensors was saved with settings .*Update the kit") as error:
            rdlib.load(path)
        assert re.search({"image_size": "size|sides"}.get(name, name), str(error.value))


@pytest.mark.parametrize(("name", "value", "words"), [
    ("sigma", 1e5, r"sigma must be a number in \[0, 256\]; got 100000"), ("image_size", (65, 64), "32, got 65 x 64"),
    ("image_size", (8224, 64), r"from 1 to 8192; got \(8224, 64\)"), ("value_range", (2, 1), r"got \(2.0, 1.0\)")])
def test_a_setting_that_is_not_allowed_is_not_taken(name, value, words):
    config = copy.deepcopy(MODELS["empty bank"]().config)
    before = copy.deepcopy(config)
    with pytest.raises(ValueError, match=words):
        setattr(config, name, value)
    assert config == before


@pytest.mark.parametrize(("change", "words"), [
    ({"size": "64"}, "size must be 2 numbers; got '64'"), ({"size": [64, 64, 64]}, "got .64, 64, 64"),
    ({"size": [32, 32]}, "32"), ({"size": [65, 64]}, "multiples of 32, got 65 x 64"),
    ({"size": [0, 64]}, "size must be a whole number from 1 to .* got 0"), ({"size": [10**9, 64]}, "got .1000000000"),
    ({"alarms": 81}, "81 alarms among 80"),
    ({"good": -1}, "good must be a whole number from 0"), ({"score": math.nan}, "score must be a number.*got nan"),
    ({"pixel": "1"}, "pixel must be a number.*got '1'"), ({"rate": 2}, "rate must be a number in .0, 1.; got 2"),
    ({"quantiles": [2.0, 1.0]}, "quantiles out of order"), ({"quantiles": [math.inf]}, "quantiles .*got inf"),
    ({"found": 3}, "3 of 0 defective"), ({"rule": 3}, "rule must be a str"), ({"more": 1}, "more")])
def test_the_threshold_in_a_file_is_checked(change, words, tmp_path):
    model = MODELS["empty bank"]()
    model.set_trained(64, (0, 1))
    model.threshold = from_good(np.linspace(1, 2, 80), 0.1)
    about = json.loads(json.dumps(model.describe()))
    write_model(tmp_path / "m.safetensors", model.state_dict(), about | {"threshold": about["threshold"] | change})
    with pytest.raises(WeightsError, match=rf"m\.safetensors was saved with .* threshold.*\(.*{words}.*Update the kit"):
        rdlib.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("roi", [torch.zeros(64, 64) > 0, torch.full((64, 64), 0.5), torch.ones(3, 64, 64)])
def test_the_region_of_interest_in_a_file_is_checked(roi, tmp_path):
    model = MODELS["empty bank"]()
    write_model(tmp_path / "m.safetensors", model.state_dict() | {"roi": roi}, model.describe())
    with pytest.raises(WeightsError, match=r"m\.safetensors was saved with .*(A region of interest|Masks are bool)"):
        rdlib.load(tmp_path / "m.safetensors")
