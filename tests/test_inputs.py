"""What `predict` and `decide` take: files, Pillow's images, arrays and tensors give the same, or words say why not."""
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rdlib import MemoryBank, ReverseDistillation, threshold_from_good
from rdlib.datasets.depth import Depth
from rdlib.datasets.samples import FileSample
from rdlib.detector import Decision, Detector, checked_images
from rdlib.images import as_images, read_image
from rdlib.threshold import Threshold
from rdlib.utils.errors import DataError, NotFiniteError

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
BATCH = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255  # as training images are made


@pytest.fixture(scope="module")
def model():
    made = ReverseDistillation(sigma=1)
    made.set_trained(64, (0, 1))
    return made


@pytest.fixture(scope="module")
def expected(model):
    return model.predict(BATCH)


def threshold(score, size=(64, 64)):
    return Threshold(score=score, pixel=1.0, size=size, rule="by hand", good=1, alarms=0)


def files(folder, suffix=".png"):
    paths = [folder / f"{i}{suffix}" for i in range(2)]
    for path, one in zip(paths, PIXELS, strict=True):
        Image.fromarray(one).save(path)
    return paths


WAYS = {
    "tensor": lambda _: BATCH, "list of tensors": lambda _: list(BATCH), "tuple": lambda _: tuple(BATCH),
    "uint8 tensor": lambda _: torch.from_numpy(PIXELS).permute(0, 3, 1, 2),
    "float64 tensor": lambda _: BATCH.double(), "with grad": lambda _: BATCH.clone().requires_grad_(),
    "not contiguous": lambda _: BATCH.flip(3).flip(3).to(memory_format=torch.channels_last),
    "uint8 arrays": lambda _: list(PIXELS), "array of a batch": lambda _: PIXELS,
    "float32 array": lambda _: BATCH.permute(0, 2, 3, 1).numpy(),
    "float64 array": lambda _: BATCH.permute(0, 2, 3, 1).double().numpy(),
    "float of the other byte order": lambda _: BATCH.permute(0, 2, 3, 1).numpy().astype(">f4"),
    "negative strides": lambda _: np.ascontiguousarray(PIXELS[..., ::-1])[..., ::-1],
    "read only": lambda _: [np.frombuffer(one.tobytes(), np.uint8).reshape(64, 64, 3) for one in PIXELS],
    "opaque alpha": lambda _: np.concatenate([PIXELS, np.full((2, 64, 64, 1), 255, np.uint8)], 3),
    "paths": files, "strings": lambda folder: list(map(str, files(folder))),
    "Pillow": lambda folder: [Image.open(path) for path in files(folder)],
    "mixed": lambda folder: [files(folder)[0], BATCH[1].double()],
    "list of batches": lambda _: [BATCH[:1], BATCH[1:]],
}


@pytest.mark.parametrize("way", WAYS)
def test_all_kinds_give_the_same(model, expected, way, tmp_path):
    for ours, theirs in zip(model.predict(WAYS[way](tmp_path)), expected, strict=True):
        assert ours.dtype == torch.float32 and torch.equal(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_welcome(model, expected, dtype):
    maps, _ = model.predict(BATCH.to(dtype))
    assert maps.dtype == torch.float32 and torch.equal(maps, model.predict(BATCH.to(dtype).float())[0])


def test_a_single_image_is_a_batch_of_one(model, expected, tmp_path):
    for one in (BATCH[0], PIXELS[0], files(tmp_path)[0], Image.fromarray(PIXELS[0])):
        maps, scores = model.predict(one)
        assert maps.shape == (1, 64, 64) and scores.shape == (1,)
        assert torch.allclose(maps[0], expected[0][0], atol=1e-5)


def test_gray_images_have_three_equal_channels(model):
    gray = PIXELS[0, ..., 0]
    theirs = model.predict(BATCH[0, :1].repeat(3, 1, 1))[0]
    for one in (gray, gray[..., None], BATCH[0, :1], BATCH[:1, :1], Image.fromarray(gray), gray / np.float32(255)):
        assert torch.equal(model.predict(one)[0], theirs)


def test_transparent_pixels_are_white_as_in_files(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (40, 60, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    theirs = read_image(tmp_path / "a.png", (40, 60))[0].float() / 255
    assert torch.equal(as_images(pixels)[0], theirs) and torch.equal(as_images(pixels[None])[0], theirs)
    with pytest.raises(ValueError, match="or 4 for uint8"):
        as_images(pixels / 255)


@pytest.mark.parametrize("options", [{}, {"exif": 6}, {"mode": "LA"}, {"mode": "P"}, {"mode": "I;16"}])
def test_files_and_pillow_are_resized_like_training_images(model, options, tmp_path, monkeypatch):
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (90, 130, 3), dtype=np.uint8))
    if options.get("mode") == "I;16":
        image = Image.fromarray(np.random.default_rng(2).integers(0, 65536, (90, 130), dtype=np.uint16))
        monkeypatch.setattr(model.config, "white", 65535)
    elif "mode" in options:
        image = image.convert(options["mode"])
    exif = Image.Exif()
    exif[0x0112] = options.get("exif", 1)
    image.save(tmp_path / "a.png", exif=exif)
    trained_on = FileSample(tmp_path / "a.png", "a", depth=Depth(white=65535)).load((64, 64))[0]
    for given_ in (tmp_path / "a.png", Image.open(tmp_path / "a.png")):
        assert torch.equal(model.predict(given_)[0], model.predict(trained_on)[0])


def test_a_size_is_needed_for_files_only(tmp_path):
    untrained, (path, _) = ReverseDistillation(sigma=1), files(tmp_path)
    for one in (path, str(path), Image.open(path), [path]):
        with pytest.raises(ValueError, match="size .* is unknown. Train the model, .* with model.set_trained"):
            untrained.predict(one)
    for size in ((32, 96), (64, 64)):
        assert untrained.predict(torch.rand(1, 3, *size))[0].shape[1:] == size
    untrained.threshold = threshold(0.0, (32, 64))
    assert untrained.predict(path)[0].shape == (1, 32, 64)


@pytest.mark.parametrize("one", [torch.rand(3, 32, 64), torch.rand(2, 3, 128, 128), np.zeros((65, 64, 3), np.uint8)])
def test_another_size_than_in_training_is_refused(model, one):
    with pytest.raises(ValueError, match="trained, or its threshold was chosen, at 64 x 64 pixels. .*Resize"):
        model.predict(one)


@pytest.mark.parametrize(("wrong", "message"), [
    (np.zeros((3, 64, 64), np.float32), r"channels come first, pass torch.from_numpy\(array\)"),
    (np.zeros((2, 3, 64, 64)), "channels come first"), (np.zeros((64, 64, 2)), "C = 1 or 3"), (np.zeros(64), "or 3"),
    (torch.zeros(64, 64, 3), "channels come last"), (torch.zeros(2, 64, 64, 3), "channels come last"),
    (torch.zeros(64, 64), "must be"), (torch.zeros(1, 1, 3, 64, 64), "must be"), (torch.zeros(4, 64, 64), "must be"),
    (np.zeros((64, 64, 3), np.int64), "int64 ndarray .*white="), (np.zeros((64, 64), np.uint16), "uint16 .*65535"),
    (np.zeros((64, 64), bool), "got bool"), (np.zeros((64, 64), complex), "got complex128"),
    (np.zeros((64, 64), object), "got object"), (np.array(["a"]), "got str"), (np.zeros((9, 9), np.longdouble), "got"),
    (torch.zeros(3, 64, 64, dtype=torch.int32), "int32 Tensor .*white="),
    (torch.zeros(3, 64, 64, dtype=torch.bool), "got bool"),
    ([], "got none"), ((), "got none"), ([[]], "got none"), ([torch.zeros(3, 64, 64), torch.zeros(3, 32, 32)], "one s"),
    (None, "got NoneType"), (3, "got int"), ([0.5, 0.1], "got float"), ({"image": 1}, "got dict"), (b"a", "got bytes")])
def test_what_is_no_image_is_refused_in_words(model, wrong, message):
    with pytest.raises(ValueError, match=message):
        model.predict(wrong)


def test_files_that_cannot_be_read_are_named(model, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"no image")
    for path, words in (("torn.png", r"torn.png is not a readable image \(.*If it is truncated, copy it again"),
                        ("gone.png", "^There is no file .*gone.png. Check the path.$"),
                        ("", r"is not a readable image \(.*It is a folder: pass its files.$")):
        with pytest.raises(DataError, match=words) as caught:
            model.predict([tmp_path / path])
        assert str(tmp_path / path) in str(caught.value)


@pytest.mark.parametrize("empty", [
    Image.new("RGB", (0, 5)), Image.new("L", (5, 0)), np.zeros((0, 5, 3), np.uint8), np.zeros((2, 5, 0, 4), np.uint8),
    np.zeros((0, 5)), torch.zeros(3, 0, 5), [torch.zeros(3, 64, 64), torch.zeros(1, 3, 5, 0)]])
def test_an_image_without_pixels_is_refused(model, empty):
    with pytest.raises(ValueError, match=r"This \w+ has no pixels"):
        model.predict(empty)


def test_no_images_have_no_scores(model):
    maps, scores = model.predict(torch.zeros(0, 3, 64, 64))
    assert maps.shape == (0, 64, 64) and scores.shape == (0,)


RANGES = [(BATCH * 255, "divide by 255"), (BATCH[0] * 2, "divide by 255"), (BATCH * 1.6, "divide by 255"),
          ((BATCH - 0.45) / 0.225, "They look normalized.*The model does that. Undo it"),
          (2 * BATCH - 1, "They look normalized"),
          (BATCH + 0.002, r"clamp them to \[0, 1\]"), (BATCH - 0.01, "clamp them"), (BATCH * 1.4 - 0.2, "clamp them"),
          (BATCH * 256 - 0.4, "divide by 255"),
          (BATCH * 65535, "Scale them"), (BATCH * 200 - 100, "Scale them"), (list(BATCH * 255), "divide by 255"),
          (255 * BATCH.permute(0, 2, 3, 1).numpy(), "divide by 255"), ([BATCH[0], BATCH[1] * 255], "divide by 255")]


@pytest.mark.parametrize(("images", "cause"), RANGES)
@pytest.mark.parametrize("known", [None, (0, 1), (0.2, 0.7), (-1e-4, 1.0009)])
def test_values_outside_0_and_1_are_refused_with_the_likely_cause(model, images, cause, known, monkeypatch):
    monkeypatch.setattr(model.config, "value_range", known)
    for use in (model.predict, model.decide):
        monkeypatch.setattr(model, "threshold", threshold(0.0))
        with pytest.raises(ValueError, match=rf"must lie in \[0, 1\].*got -?[\d.e+]+ to .*{cause}"):
            use(images)


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(-6, 6))
def test_the_range_is_that_of_the_training_images(a, b, value):
    """Against the rule, written out."""
    low, high = min(a, b), max(a, b)
    image = torch.full((3, 4, 4), (low + high) / 2, dtype=torch.float64)
    image[0, 0, 0] = value
    least, most = (0, 1) if low >= 0 and high <= 1 else (low, high)
    edge = min(abs(value - least + 1e-3), abs(value - most - 1e-3), abs(low + 1e-3), abs(high - 1.001)) < 1e-9
    if edge or -1e-3 <= low < 0 or 1 < high <= 1.001:
        return
    if not least - 1e-3 <= value <= most + 1e-3:
        with pytest.raises(ValueError, match="training images"):
            checked_images(image, None, (low, high))
    else:
        assert torch.equal(checked_images(image, None, (low, high))[0], image)


@pytest.mark.parametrize("normalize", [True, False])
def test_a_model_of_other_values_takes_these(normalize):
    model = ReverseDistillation("resnet18", None, sigma=1, normalize=normalize)
    model.set_trained(64, (-2.1, 2.6))
    assert model.predict(4 * BATCH - 2)[1].isfinite().all()
    with pytest.raises(ValueError, match=r"must lie in \[-2.1, 2.6\].*got 0 to 255. The model was trained on values "
                                         r"from -2.1 to 2.6: prepare images in the same way.$"):
        model.predict(255 * BATCH.round())
    for scale in (255, 6):
        model.set_trained(64, (0, scale))
        with pytest.raises(ValueError, match=rf"from 0 to {scale}: prepare images in the same way.$"):
            model.predict(256.5 * BATCH.round() - 0.1)
    model.set_trained(64, (-2.1, 2.6))
    for byte in (PIXELS, torch.from_numpy(PIXELS).movedim(-1, 1), Image.fromarray(PIXELS[0]), [BATCH[0], PIXELS[1]]):
        with pytest.raises(ValueError, match="values from -2.1 to 2.6, but files and 8-bit images give 0 to 1"):
            model.predict(byte)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_does_not_hide_other_values(model, value):
    images = BATCH.clone()
    images[0, 1, 2, 3] = value
    with pytest.raises(NotFiniteError) as caught:
        model.predict(images)
    assert caught.value.indices == [0]
    images[1] *= 255
    with pytest.raises(ValueError, match="divide by 255"):
        model.predict(images)


def test_one_look_at_the_values(model, monkeypatch):
    looks, aminmax = [], torch.Tensor.aminmax
    monkeypatch.setattr(torch.Tensor, "aminmax", lambda self, *a, **k: looks.append(1) or aminmax(self, *a, **k))
    model.predict(BATCH, batch_size=1)
    assert len(looks) == 1


def test_a_float64_model_keeps_its_precision():
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    model = ReverseDistillation("resnet18", None, sigma=1)
    plain = model.predict(images)[0]
    double = model.double().predict(images)[0]
    assert double.dtype == torch.float64 and torch.allclose(double.float(), plain, atol=1e-4)
    assert not torch.equal(double, model.predict(images.float())[0])


@pytest.fixture
def decided(model, monkeypatch):
    scores = torch.tensor([0.25, 0.1, 0.7, 0.5])
    maps = scores[:, None, None].expand(-1, 64, 64)
    monkeypatch.setattr(Detector, "predict", lambda self, images, *_: (maps, scores))
    monkeypatch.setattr(model, "threshold", None)
    return model, maps, scores


@pytest.mark.parametrize(("level", "anomalous"), [
    (0.3, [False, False, True, True]), (0.25, [True, False, True, True]), (0.7, [False, False, False, False]),
    (0.1, [True, True, True, True]), (float(np.float32(0.7)), [False, False, True, False])])
def test_the_decision_is_that_of_the_saved_threshold(decided, level, anomalous):
    """As Python compares the scores: 0.7 in float32 lies below 0.7."""
    model, maps, scores = decided
    model.threshold = threshold(level)
    found = model.decide(None)
    assert isinstance(found, Decision) and found.scores is scores and found.maps is maps
    assert found.anomalous.dtype == torch.bool and found.anomalous.tolist() == anomalous
    assert anomalous == [score >= level for score in scores.tolist()]


def test_a_decision_needs_a_threshold_of_the_images_size(decided):
    model, *_ = decided
    with pytest.raises(ValueError, match=r"has no threshold.*threshold_from_good\(scores, maps\)"):
        model.decide(BATCH)
    model.threshold = threshold(1.0, (32, 64))
    with pytest.raises(ValueError, match="chosen, at 32 x 64 pixels. Its scores mean nothing at 64 x 64"):
        model.decide(BATCH)


@pytest.mark.parametrize("number", [2.0, np.float32(2), 2, "2", torch.tensor(2.0), {"score": 2.0}])
def test_a_threshold_that_is_a_plain_number_is_refused(model, number):
    with pytest.raises(ValueError, match=r"A threshold is what threshold_from_good\(scores, maps\) returns, got"):
        model.threshold = number
    assert model.threshold is None


def test_decide_with_every_part(tmp_path):
    bank = MemoryBank(size=30, sigma=1)
    bank.bank = bank.patches(BATCH).permute(0, 2, 3, 1).flatten(0, 2)[:30]
    good = torch.rand(20, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    bank.threshold = threshold_from_good(*reversed(bank.predict(good)), rate=0.05)
    found = bank.decide([*files(tmp_path), good[0]], batch_size=2)
    maps, scores = bank.predict([*BATCH, good[0]])
    assert torch.allclose(found.maps, maps, atol=1e-3) and torch.allclose(found.scores, scores, atol=1e-3)
    assert found.anomalous.tolist() == (scores >= bank.threshold.score).tolist() and not found.anomalous[2]


@pytest.mark.parametrize(("name", "value"), [("sigma", 2.0), ("score", "sum"), ("normalize", False),
                                             ("scales", (1, 2))])
def test_a_threshold_of_other_settings_decides_nothing(name, value, tmp_path):
    model = ReverseDistillation("resnet18", None, sigma=1)
    scores = np.linspace(0, 1, 20)
    model.threshold = threshold_from_good(scores, np.ones((20, 64, 64)), rate=0.1)
    assert len(model.decide(BATCH).anomalous) == len(BATCH)
    setattr(model.config, name, value)
    for use in (lambda: model.decide(BATCH), lambda: model.save(tmp_path / "model.safetensors")):
        with pytest.raises(ValueError, match=f"The model's {name} changed after its threshold was chosen. Choose it"):
            use()
