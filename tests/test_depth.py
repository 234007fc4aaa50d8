"""Images with more than 8 bits a channel: read at their true range, against files written by hand."""
import pickle
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Subset

from rdlib import MemoryBank, ReverseDistillation, evaluate, fit
from rdlib.datasets.depth import Depth
from rdlib.datasets.samples import AnomalyDataset, FileSample
from rdlib.images import WHITES, as_images, header, open_image, read_image
from rdlib.training.callbacks import EarlyStopping
from rdlib.utils.errors import DataError

DRAW = np.random.default_rng(0)
SIDE = (32, 32)
COLORS = {1: 0, 2: 4, 3: 2, 4: 6}  # PNG's types of color by number of channels


def write_png(path, values, before=b""):
    """Write (h, w) or (h, w, C) uint16 values as a PNG file of 16 bits a channel."""
    values = values.reshape(*values.shape[:2], -1)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", *values.shape[1::-1], 16, COLORS[values.shape[2]], 0, 0, 0)),
              (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = [struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data[0] + before + data[1] + data[2])
    return path


def write_tiff(path, values, order="<", packed=False, orientation=1, planes=1, black=1):
    """Write (h, w, C) uint16 values as a TIFF file, in either byte order, packed by zlib or not."""
    height, width, channels = values.shape
    pixels = values.astype(order + "u2").tobytes()
    pixels = zlib.compress(pixels) if packed else pixels
    tags = {256: (3, [width]), 257: (3, [height]), 258: (3, [16] * channels), 259: (3, [8 if packed else 1]),
            262: (3, [2 if channels > 2 else black]), 273: (4, [8]), 274: (3, [orientation]), 277: (3, [channels]),
            278: (4, [height]), 279: (4, [len(pixels)]), 284: (3, [planes])}
    tags |= {338: (3, [2])} if channels == 4 else {}
    entries, extra, start = b"", b"", 8 + len(pixels)
    after = start + 2 + 12 * len(tags) + 4
    for tag, (kind, numbers) in sorted(tags.items()):
        body = struct.pack(order + "HI"[kind - 3] * len(numbers), *numbers)
        if len(body) > 4:
            extra, body = extra + body, struct.pack(order + "I", after + len(extra))
        entries += struct.pack(order + "HHI", tag, kind, len(numbers)) + body.ljust(4, b"\0")
    mark = b"II" if order == "<" else b"MM"
    path.write_bytes(struct.pack(f"{order}2sHI", mark, 42, start) + pixels + struct.pack(order + "H", len(tags))
                     + entries + b"\0\0\0\0" + extra)
    return path


def gray(path, values):
    """Write a gray image by Pillow: uint16, int32 or float32."""
    Image.fromarray(values).save(path)
    return path


def drawn(white, shape=SIDE):
    values = DRAW.integers(0, white + 1, shape)
    values[:, 0] = white
    return values


@pytest.mark.parametrize("white", WHITES)
@pytest.mark.parametrize("name, dtype", [("a.png", np.uint16), ("a.tif", np.uint16), ("a.tif", np.int32),
                                         ("a.tif", np.float32)])
def test_gray_files_are_read_at_their_true_range(tmp_path, white, name, dtype):
    values = drawn(white).astype(dtype)
    image, own = read_image(gray(tmp_path / name, values), SIDE, white=white)
    assert image.dtype == torch.float32 and image.shape == (3, *SIDE) and own == SIDE
    assert np.allclose(image.numpy(), values.astype(float) / white, atol=1e-6) and image.max() == 1


@pytest.mark.parametrize(("kind", "channels"), [("png", 2), *(
    (kind, n) for kind in ("png", "tiff <", "tiff >", "tiff < packed", "tiff > packed") for n in (3, 4))])
def test_color_with_16_bits_keeps_the_low_byte(tmp_path, kind, channels):
    """Pillow alone keeps the high byte of such files, so that 12 bits in them are 16 levels."""
    values = drawn(4095, (*SIDE, channels)).astype(np.uint16)
    alpha = np.ones(SIDE)
    if channels in (2, 4):
        values[..., -1] = DRAW.integers(0, 65536, SIDE)
        values[0, 0, -1] = 65535
        alpha = values[..., -1] / 65535
    path = (write_png(tmp_path / "a.png", values) if kind == "png" else
            write_tiff(tmp_path / "a.tif", values, kind[5], "packed" in kind))
    color = values[..., :1] if channels == 2 else values[..., :3]
    expected = (color / 4095 * alpha[..., None] + 1 - alpha[..., None]).transpose(2, 0, 1)
    assert np.allclose(read_image(path, SIDE, white=4095)[0].numpy(), expected, atol=1e-6)
    assert header(path).deep and Depth([path]).white == 4095
    with pytest.raises(DataError, match="a.(png|tif) is in color with 16 bits a channel. Save it in gray, or with 8"):
        open_image(path)


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_deep_color_is_turned_upright(tmp_path, orientation):
    values = drawn(65535, (20, 32, 3)).astype(np.uint16)
    path = write_tiff(tmp_path / "a.tif", values, orientation=orientation)
    upright = np.rot90(values, {1: 0, 6: -1, 8: 1}[orientation])
    image, own = read_image(path, upright.shape[:2], white=65535)
    assert own == upright.shape[:2] == header(path)[:2] and header(path).orientation == orientation
    assert np.allclose(image.numpy(), upright.transpose(2, 0, 1) / 65535, atol=1e-6)


def test_another_layout_of_deep_color_is_refused(tmp_path):
    path = write_tiff(tmp_path / "a.tif", drawn(9, (*SIDE, 3)).astype(np.uint16), planes=2)
    with pytest.raises(DataError, match="a.tif (has 16 bits a channel in a layout that is not read|is not a readable)"):
        read_image(path, SIDE, white=65535)


def test_deep_images_whose_colors_pillow_would_change_are_refused(tmp_path):
    values = drawn(65535).astype(np.uint16)
    clear = b"\0\0\0\2tRNS\0\7" + struct.pack(">I", zlib.crc32(b"tRNS\0\7"))
    for path in (write_png(tmp_path / "a.png", values, before=clear),
                 write_tiff(tmp_path / "a.tif", values[..., None], black=0)):
        with pytest.raises(DataError, match="declares a color transparent, or 0 white. Save it as gray or RGB"):
            read_image(path, SIDE, white=65535)
    write_tiff(tmp_path / "a.tif", values[..., None])
    assert np.allclose(read_image(tmp_path / "a.tif", SIDE, white=65535)[0][0] * 65535, values, atol=0.01)


def test_deep_images_are_resized_without_rounding(tmp_path):
    flat = np.full(SIDE, 1000, np.uint16)
    flat[:, ::2] = 1200
    image, _ = read_image(gray(tmp_path / "a.png", flat), (32, 16), white=4095)
    assert np.allclose(image[..., 1:-1].numpy(), 1100 / 4095)
    same = read_image(gray(tmp_path / "b.png", np.full((50, 70), 1023, np.uint16)), (13, 64), white=1023)[0]
    assert np.allclose(same.numpy(), 1) and same.max() <= 1


def test_files_of_8_bits_do_not_depend_on_white(tmp_path):
    pixels = DRAW.integers(0, 256, (*SIDE, 3), dtype=np.uint8)
    for name in ("a.png", "a.tif", "a.bmp"):
        image, _ = read_image(gray(tmp_path / name, pixels), SIDE, white=4095)
        assert image.dtype == torch.uint8 and np.array_equal(image.permute(1, 2, 0), pixels)


@pytest.mark.parametrize("values", [drawn(4095).astype(np.uint16), drawn(300).astype(np.int32),
                                    DRAW.random(SIDE, np.float32)])
def test_a_deep_file_alone_is_refused_unless_white_is_given(tmp_path, values):
    path = gray(tmp_path / "a.tif", values)
    with pytest.raises(DataError, match=rf"a.tif has values from [\d.e-]+ to {values.max():g} in more than 8 bits .*"
                                        r"unknown. Give white= \(--white\), such as 1 for floats, or one of 255, 1023, "
                                        "4095, 16383, 65535 .* trained on 8-bit images, save the file with 8 bits"):
        read_image(path, SIDE)


@pytest.mark.parametrize(("values", "white", "words"), [
    (np.full(SIDE, 5000, np.uint16), 4095, r"from 5000 to 5000, which does not fit white=4095.*another white="),
    (np.full(SIDE, -3, np.int32), 255, r"from -3 to -3, but black is 0. Add one number to the values of all"),
    (np.full(SIDE, 0.5, np.float32), 4095, r"from 0.5 to 0.5, which does not fit white=4095"),
    (np.full(SIDE, 1.5, np.float32), 1, r"from 1.5 to 1.5, which does not fit white=1,"),
    (np.array([[np.nan, 1]], np.float32), 1, "has pixels that are NaN or infinite"),
    (np.array([[0, np.inf]], np.float32), 1, "has pixels that are NaN or infinite")])
def test_what_does_not_fit_white_is_refused_not_clipped(tmp_path, values, white, words):
    with pytest.raises(DataError, match=f"a.tif has .*{words}".replace("has .*has", "has")):
        read_image(gray(tmp_path / "a.tif", values), (4, 4), white=white)


def test_a_black_image_fits_any_white(tmp_path):
    for dtype in (np.uint16, np.float32):
        black = gray(tmp_path / "a.tif", np.zeros(SIDE, dtype))
        assert not any(read_image(black, SIDE, white=white)[0].any() for white in (1, 255, 4095))


# The white of a data set


@pytest.mark.parametrize(("most", "dtype", "white"), [
    (200, np.int32, 255), (255, np.uint16, 255), (256, np.uint16, 1023), (1023, np.uint16, 1023),
    (1024, np.uint16, 4095), (4096, np.int32, 16383), (16384, np.uint16, 65535), (65535, np.uint16, 65535),
    (0, np.uint16, 255), (1, np.uint16, 255), (0.7, np.float32, 1), (1, np.float32, 1), (2.5, np.float32, 255),
    (255, np.float32, 255), (4095, np.float32, 4095)])
def test_white_is_the_smallest_usual_one_that_holds_all_training_images(tmp_path, most, dtype, white):
    paths = [gray(tmp_path / f"{i}.tif", np.full((8, 8), most / (i + 1)).astype(dtype)) for i in range(3)]
    assert Depth(paths).white == white and isinstance(Depth(paths).white, float)


def test_white_of_a_data_set_without_deep_files_is_none(tmp_path):
    assert Depth([gray(tmp_path / "a.png", np.zeros(SIDE, np.uint8))]).white is None and Depth([]).white is None


def test_values_above_every_usual_white_need_one(tmp_path):
    path = gray(tmp_path / "a.tif", np.full(SIDE, 70_000, np.int32))
    with pytest.raises(DataError, match="a.tif has values up to 70000, above 65535. .*white="):
        _ = Depth([path]).white
    assert Depth([path], white=100_000).white == 100_000
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"white is the value of white in the files, .*got {wrong}"):
            Depth([path], white=wrong)


@pytest.mark.parametrize("most", [1.002, 1.5, 2])
def test_floats_a_little_above_1_are_refused(tmp_path, most):
    """White 255 would make all images black."""
    paths = [gray(tmp_path / "a.tif", DRAW.random(SIDE, np.float32)),
             gray(tmp_path / "b.tif", np.full(SIDE, most, np.float32))]
    with pytest.raises(DataError, match=rf"b.tif has values up to {most:g}, a little above 1. Clamp .* white= \(--w"):
        _ = Depth(paths).white
    assert Depth(paths, white=2).white == 2


def test_negative_values_are_not_a_matter_of_white(tmp_path):
    for white in (None, 255):
        with pytest.raises(DataError, match="a.tif has values from -3 to 9, but black is 0. Add one") as caught:
            read_image(gray(tmp_path / "a.tif", np.linspace(-3, 9, 64).reshape(8, 8).astype(np.int32)), (4, 4), white)
        assert "white" not in str(caught.value)


def test_a_bright_pixel_that_makes_all_images_dark_is_named(tmp_path):
    paths = [gray(tmp_path / f"{i}.png", drawn(900, (64, 64)).astype(np.uint16)) for i in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Depth(paths).white == 1023
    hot = drawn(900, (64, 64))
    hot[3, 3] = 65535
    gray(paths[2], hot.astype(np.uint16))
    depth = Depth(paths)
    with pytest.warns(UserWarning, match=r"white is 65535, since .*2.png has values up to 65535; but at least 99.9 %"
                                         r" of most .* lie below 4095.94, .* white= \(--white\)") as caught:
        assert depth.white == depth.white == 65535
    assert len(caught) == 1
    for path in paths[:3]:
        gray(path, drawn(60000, (64, 64)).astype(np.uint16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Depth(paths).white == 65535


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_of_another_range_is_refused(tmp_path, channels):
    """It would mix 94 % white into every pixel."""
    path = write_png(tmp_path / "a.png", np.full((*SIDE, channels), 4095, np.uint16))
    with pytest.raises(DataError, match="alpha channel of .*a.png ends at 4095, but 65535 is opaque. Save it without"):
        read_image(path, SIDE, white=4095)


def test_a_given_white_that_is_not_the_models_is_refused(deep, tmp_path):
    model = ReverseDistillation(weights=None, sigma=1)
    model.set_trained(64, (0, 1), white=4095)
    files = [sample.path for sample in deep[1].samples]
    given, found = Depth(white=16383), Depth(files)
    assert found.white == 4095
    for depth, right in ((given, False), (pickle.loads(pickle.dumps(given)), False), (Depth(white=4095), True),
                         (pickle.loads(pickle.dumps(Depth(files, None))), True)):
        dataset = AnomalyDataset([FileSample(path, path.name, depth=depth) for path in files], (64, 64))
        if right:
            assert evaluate(model, dataset, progress=False).scores.shape == (2,)
        else:
            with pytest.raises(ValueError, match=r"loaded with white=16383, but the model was trained with white=4095"):
                evaluate(model, dataset, progress=False)


@pytest.mark.parametrize("kind", ["f2", "f8", "u8"])
@pytest.mark.parametrize("order", "<>")
def test_kinds_of_tiff_that_pillow_does_not_open(tmp_path, kind, order):
    path = write_tiff(tmp_path / "a.tif", drawn(9, (*SIDE, 1)).astype(np.uint16), order)
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack(order + "HHI", 258, 3, 1)) + 8
    data[at:at + 2] = struct.pack(order + "H", 8 * int(kind[1]))
    at = data.index(struct.pack(order + "HHI", 284, 3, 1))  # the tag after it says what the numbers are
    data[at:at + 12] = struct.pack(order + "HHIHH", 339, 3, 1, 3 if kind[0] == "f" else 1, 0)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a.tif is not a readable image \(a kind of TIFF that is not read, or damaged\)"
                                        ". Save it with 8 or 16 bits, in gray or RGB. If it is tr") as caught:
        read_image(path, SIDE)
    assert "BufferedReader" not in str(caught.value)


def test_floats_and_integers_are_not_mixed(tmp_path):
    paths = [gray(tmp_path / "i.png", drawn(900).astype(np.uint16)),
             gray(tmp_path / "f.tif", DRAW.random(SIDE, np.float32))]
    with pytest.raises(DataError, match="f.tif holds floats, but .*i.png integers of more than 8 bits"):
        _ = Depth(paths).white


def test_files_are_scanned_once_and_only_deep_ones_decoded(tmp_path, monkeypatch):
    import rdlib.datasets.depth as module
    paths = [gray(tmp_path / f"{i}.png", np.full(SIDE, 3000 * (i % 2), np.uint16 if i % 2 else np.uint8))
             for i in range(4)]
    opened, headers, decode = [], [], module.decoded
    monkeypatch.setattr(module, "decoded", lambda path: opened.append(path) or decode(path))
    monkeypatch.setattr(module, "header", lambda path: headers.append(path) or header(path))
    depth = Depth(paths)
    assert not opened and not headers
    assert [depth.white for _ in range(3)] == [4095] * 3 and opened == paths[1::2] and headers == paths
    copy = pickle.loads(pickle.dumps(depth))
    assert copy.white == 4095 and len(headers) == 4
    new = pickle.loads(pickle.dumps(Depth(paths)))  # as a worker process gets it
    assert len(headers) == 8 and new.white == 4095 and len(headers) == 8


@pytest.fixture
def deep(tmp_path):
    """A data set of 12 bits: four training images, and two test images of which one is brighter than all of them."""
    paths = [gray(tmp_path / f"{i}.png", drawn(1000 if i < 4 else 900 * (i - 3), (64, 64)).astype(np.uint16))
             for i in range(6)]
    gray(tmp_path / "3.png", drawn(1100, (64, 64)).astype(np.uint16))
    depth = Depth(paths[:4])
    return tuple(AnomalyDataset([FileSample(path, path.name, depth=depth) for path in part], (64, 64))
                 for part in (paths[:4], paths[4:]))


def test_all_items_of_a_data_set_have_one_scale(deep):
    train, test = deep
    assert train.white == test.white == 4095
    for dataset in deep:
        for sample, item in zip(dataset.samples, dataset, strict=True):
            values = np.asarray(Image.open(sample.path)) / 4095
            assert item.image.dtype == torch.float32 and np.allclose(item.image.numpy(), values, atol=1e-6)
    assert len(torch.unique(train[0].image)) > 500


def test_a_data_set_of_8_bits_is_not_scanned_to_load_it(tmp_path, monkeypatch):
    path = gray(tmp_path / "a.png", np.zeros(SIDE, np.uint8))
    monkeypatch.setattr("rdlib.datasets.depth.header", lambda path: pytest.fail("scanned"))
    assert AnomalyDataset([FileSample(path, "a", depth=Depth([path]))], SIDE)[0].image.max() == 0


def test_samples_of_several_whites_are_refused(deep):
    train, _ = deep
    other = AnomalyDataset([FileSample(train.samples[0].path, "x", depth=Depth(white=16383))], (64, 64))
    both = AnomalyDataset([*train.samples, *other.samples], (64, 64))
    for dataset in (both, ConcatDataset([train, other]), Subset(both, [0, 4])):
        with pytest.raises(DataError, match=r"several values of white: \[4095.0, 16383.0\]. Give one white="):
            fit(ReverseDistillation(weights=None), dataset, 1, progress=False)


@pytest.mark.parametrize("wrapped", [lambda found: found, lambda found: Subset(found, [0, 1]),
                                     lambda found: ConcatDataset([found, found])])
def test_the_model_keeps_white(deep, tmp_path, wrapped):
    train, test = deep
    model = ReverseDistillation(weights=None, sigma=1)
    fit(model, wrapped(train), 1, progress=False)
    assert model.config.white == 4095 and "white=4095.0" in repr(model)
    bank = MemoryBank(weights=None, size=20).fit(wrapped(train), progress=False)
    assert bank.config.white == 4095
    model.save(tmp_path / "model.safetensors")
    loaded = ReverseDistillation.load(tmp_path / "model.safetensors")
    path = test.samples[0].path
    values = np.asarray(Image.open(path))
    expected = loaded.predict(torch.from_numpy(values / np.float32(4095))[None])[1]
    ways = (path, Image.open(path), values, values.astype(np.int32), torch.from_numpy(values.astype(np.int32))[None],
            values[..., None], Image.fromarray(values.astype(np.float32)), test[0].image)
    for given in ways:
        assert torch.allclose(loaded.predict(given)[1], expected, atol=1e-6)
    with pytest.raises(DataError, match=r"5.png has values from \d+ to 1800, which does not fit white=1023.*white="):
        loaded.config.white = 1023.0
        loaded.predict(test.samples[1].path)


def test_a_model_of_8_bits_refuses_deep_images_in_words(deep):
    model = ReverseDistillation(weights=None)
    model.set_trained(64, (0, 1))
    values = drawn(4095, (64, 64))
    for given in (deep[0].samples[0].path, Image.fromarray(values.astype(np.uint16)), values.astype(np.uint16),
                  Image.fromarray(values.astype(np.int32)), Image.fromarray(values.astype(np.float32)),
                  torch.from_numpy(values)[None]):
        with pytest.raises(DataError, match="in more than 8 bits a channel, but the value of white is unknown.*white="):
            model.predict(given)


def test_test_images_are_read_with_the_models_white(deep, tmp_path):
    train, test = deep
    model = ReverseDistillation(weights=None, sigma=1)
    model.set_trained(64, (0, 1), white=8000)
    held = EarlyStopping(train, patience=1)
    alone = AnomalyDataset([FileSample(sample.path, sample.name) for sample in test.samples], (64, 64))
    for dataset in (test, alone, Subset(test, [0, 1]), ConcatDataset([test])):
        report = evaluate(model, dataset, progress=False)
        image = torch.from_numpy(np.asarray(Image.open(test.samples[0].path)) / np.float32(8000))
        assert np.allclose(report.scores[0], model.predict(image[None])[1], atol=1e-5)
        assert np.allclose(report.image(0)[..., 0], image, atol=1e-6)
    own = AnomalyDataset([FileSample(s.path, s.name, depth=Depth(white=8000)) for s in train.samples], (64, 64))
    fit(model, own, 2, callbacks=[held], progress=False)
    assert model.config.white == 8000 and held.source.dataset[0].image.max() == pytest.approx(1000 / 8000)


def test_a_data_set_stays_itself_where_white_changes_nothing(deep):
    train, test = deep
    assert train.read_with(None) is train and train.white == 4095
    assert train.read_with(4095.0) is train and test.read_with(4095.0) is test
    other = train.read_with(8000)
    assert other is not train and other.white == 8000 and train.white == 4095


def test_official_weights_forget_white():
    model = ReverseDistillation(weights=None)
    model.set_trained(64, (0, 1), white=4095)
    assert model.config.white == 4095
    model.set_trained(64, (0, 1))
    assert model.config.white is None


def test_an_image_that_pillow_would_cut_is_refused(tmp_path):
    values = drawn(4095, (*SIDE, 3)).astype(np.uint16)
    for path in (write_png(tmp_path / "a.png", values), write_tiff(tmp_path / "a.tif", values)):
        with pytest.raises(ValueError, match="Pillow cuts this image in color with 16 bits a channel to 8. Pass"):
            as_images(Image.open(path), SIDE, white=4095)
        assert as_images(path, SIDE, white=4095).max() == 1


def test_arrays_without_pixels_or_of_other_kinds(deep):
    with pytest.raises(ValueError, match="has no pixels"):
        as_images(np.zeros((0, 4), np.uint16), white=4095)
    with pytest.raises(ValueError, match="got bool"):
        as_images(np.zeros((4, 4), bool), white=4095)
    with pytest.raises(DataError, match="This uint16 ndarray has values from 5000 to 5000, .*white=4095"):
        as_images(np.full((4, 4), 5000, np.uint16), white=4095)


def test_depths_that_do_not_fit_are_found_once(tmp_path, monkeypatch):
    for i in range(3):
        Image.fromarray(np.full((32, 32), 0.5 * (i > 0) + 1000 * (i == 0), np.float32 if i else np.uint16)).save(
            tmp_path / f"{i}.tif")
    depth = Depth(sorted(tmp_path.iterdir()))
    for _ in range(2):
        with pytest.raises(DataError, match=r"\d\.tif holds floats, but .*0\.tif integers"):
            depth.white  # noqa: B018
        monkeypatch.setattr("rdlib.datasets.depth.header", None)  # a second scan would fail otherwise
