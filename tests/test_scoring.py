"""A folder of all kinds of files is scored: table and pictures are what a model with known maps makes of them."""
import json
import os
import sys
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from sealed import write_model
from test_metrics import elsewhere

from rdlib import ReverseDistillation
from rdlib.cli import main
from rdlib.deploy import scoring
from rdlib.deploy.scoring import score_folder
from rdlib.detector import Scorer
from rdlib.figures.picture import overlay, overlay_size
from rdlib.images import as_images
from rdlib.threshold import Threshold
from rdlib.utils.errors import DataError, NotFiniteError

STRIP = 32  # height of the line of words above a picture of no more than 320 pixels
THRESHOLD = Threshold(score=0.5, pixel=0.6, size=(32, 64), rule="by hand", good=1, alarms=0)


class Brightness(Scorer):
    """Its map is the image's red channel, so the maximum lies where the picture is brightest."""

    def __init__(self, threshold=THRESHOLD, stops_after=10**9):
        self.threshold, self.batches, self.stops_after = threshold, [], stops_after

    @property
    def image_size(self):
        return self.threshold.size if self.threshold else None

    def describe(self):
        return {"class": "Brightness", "threshold": asdict(self.threshold) if self.threshold else None}

    def predict(self, images, batch_size=32, precision="float32"):
        if len(self.batches) == self.stops_after:
            raise KeyboardInterrupt
        self.batches.append(len(images))
        images = as_images(images)
        return images[:, 0], images[:, 0].amax((1, 2))


def picture(height, width, base, spot=None, mode="L"):
    """Gray, with a white square of 16 x 16 pixels whose corner is `spot`."""
    pixels = np.full((height, width), base, np.uint8)
    if spot:
        pixels[spot[0]:spot[0] + 16, spot[1]:spot[1] + 16] = 255
    return Image.fromarray(pixels).convert(mode)


@pytest.fixture
def folder(tmp_path):
    """Files of many kinds; by name: a good one, three with a bright square, two that are broken."""
    folder = tmp_path / "in"
    (folder / "line 2").mkdir(parents=True)
    (folder / ".trash").mkdir()
    picture(64, 128, 40, mode="RGB").save(folder / "a.png")
    picture(128, 256, 40, (96, 200)).save(folder / "b.jpg", quality=95)
    picture(64, 256, 40, (8, 16), mode="RGBA").save(folder / "line 2" / "c.png")
    picture(96, 128, 40, (40, 60)).save(folder / "line 2" / "d.tif")
    whole = (folder / "a.png").read_bytes()
    (folder / "torn.png").write_bytes(whole[:len(whole) // 2])
    (folder / "words.png").write_text("no picture")
    (folder / "notes.txt").write_text("left out")
    picture(32, 32, 255).save(folder / ".trash" / "e.png")
    return folder


def test_every_file_has_a_line_and_a_broken_one_its_error(folder, tmp_path):
    table = score_folder(Brightness(), folder, tmp_path / "out", progress=False).set_index("file")
    assert list(table.index) == ["a.png", "b.jpg", "line 2/c.png", "line 2/d.tif", "torn.png", "words.png"]
    assert list(table.anomalous[:4]) == [0, 1, 1, 1] and table.score["a.png"] == pytest.approx(40 / 255, abs=1e-6)
    assert table.score[1:4].min() > 0.9 and list(table.error[:4]) == [""] * 4
    for name, row, column in (("b.jpg", 104, 208), ("line 2/c.png", 16, 24), ("line 2/d.tif", 48, 68)):
        assert abs(table.row[name] - row) <= 8 and abs(table.column[name] - column) <= 8, "inside the bright square"
    assert (table.height["line 2/d.tif"], table.width["line 2/d.tif"]) == (96, 128)
    for name in ("torn.png", "words.png"):
        assert "is not a readable image" in table.error[name] and table.loc[name, "score":"width"].isna().all()


@pytest.mark.parametrize(("batch_size", "batches"), [(16, [4]), (1, [1, 1, 1, 1]), (2, [2, 2])])
def test_the_batches_change_nothing(folder, tmp_path, batch_size, batches):
    model = Brightness()
    table = score_folder(model, folder, tmp_path / "out", batch_size=batch_size, progress=False)
    assert model.batches == batches, "what cannot be read is not predicted"
    pd.testing.assert_frame_equal(table, score_folder(Brightness(), folder, tmp_path / "out", progress=False))


class Broken(Brightness):
    """Fails on dark images, by a NaN or an infinity in the map."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def predict(self, images, batch_size=32):
        maps, scores = super().predict(images)
        maps = maps.clone()
        dark = scores < 0.5
        maps[dark, 0, 0] = self.value
        if dark.any():
            raise NotFiniteError(dark.nonzero().flatten().tolist())
        return maps, scores


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_score_that_is_not_finite_is_an_error_of_its_image_alone(folder, tmp_path, value, batch_size):
    table = score_folder(Broken(value), folder, tmp_path / "out", overlays="all", batch_size=batch_size,
                         progress=False).set_index("file")
    assert "NaN or infinite" in table.error["a.png"] and table.loc["a.png", "score":"width"].isna().all()
    sound = score_folder(Brightness(), folder, tmp_path / "sound", overlays="all", progress=False).set_index("file")
    pd.testing.assert_frame_equal(table.drop("a.png"), sound.drop("a.png"))
    assert drawn(tmp_path / "out") == ["b.jpg.png", "line 2/c.png.png", "line 2/d.tif.png"]


@pytest.mark.parametrize(("values", "score"), [(np.full((8, 8), np.nan), 0.1), (np.zeros((8, 8)), np.nan)])
def test_no_picture_says_good_of_what_is_not_finite(values, score):
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="NaN or infinity"):
        overlay(image, values, score, THRESHOLD)
    assert overlay(image, elsewhere(np.zeros((8, 8))), elsewhere(0.1), THRESHOLD).size == overlay(
        image, np.zeros((8, 8)), 0.1, THRESHOLD).size


def test_processes_that_read_change_nothing(folder, tmp_path):
    one, two = (score_folder(Brightness(), folder, tmp_path / "out", num_workers=n, progress=False) for n in (0, 2))
    pd.testing.assert_frame_equal(one, two)


def test_the_file_holds_the_table(folder, tmp_path):
    table = score_folder(Brightness(), folder, tmp_path / "out", progress=False)
    read = pd.read_csv(tmp_path / "out" / "scores.csv", keep_default_na=True, dtype={"anomalous": "Int64"})
    assert list(read.columns) == list(scoring.COLUMNS) and list(read.file) == list(table.file)
    np.testing.assert_allclose(read.score, table.score, rtol=1e-5)
    assert read.anomalous.equals(table.anomalous) and list(read.error.fillna("")) == list(table.error)


def drawn(out):
    return sorted(path.relative_to(out / "overlays").as_posix() for path in (out / "overlays").rglob("*.png"))


def test_overlays_are_drawn_as_asked_and_old_ones_go(folder, tmp_path):
    out = tmp_path / "out"
    bad = ["b.jpg.png", "line 2/c.png.png", "line 2/d.tif.png"]
    score_folder(Brightness(), folder, out, progress=False)
    assert drawn(out) == bad
    score_folder(Brightness(), folder, out, overlays="all", progress=False)
    assert drawn(out) == ["a.png.png", *bad]
    score_folder(Brightness(), folder, out, progress=False)
    assert drawn(out) == bad
    score_folder(Brightness(), folder, out, overlays="none", progress=False)
    assert drawn(out) == []
    assert not [path for path in out.rglob("*") if path.name.startswith(".")], "no temporary file stays"


def test_results_inside_the_folder_are_not_scored(folder):
    first = score_folder(Brightness(), folder, folder / "out", overlays="all", progress=False)
    assert list(score_folder(Brightness(), folder, folder / "out", progress=False).file) == list(first.file)


def test_without_a_threshold_there_are_scores_alone(folder, tmp_path):
    table = score_folder(Brightness(None), folder, tmp_path / "out", size=(32, 64), progress=False)
    assert table.anomalous.isna().all() and table.score.notna().sum() == 4 and not (tmp_path / "out/overlays").exists()
    with pytest.raises(ValueError, match="Give the size"):
        score_folder(Brightness(None), folder, tmp_path / "out", progress=False)


def test_what_cannot_be_done_is_said_before_anything_is_written(folder, tmp_path):
    for arguments, error, words in (((tmp_path / "none",), DataError, "none is missing, but a folder is wanted"),
                                    ((folder / ".trash" / "..", tmp_path / "out", "some"), ValueError, "no choice"),
                                    ((folder, tmp_path / "out", "all", 64), ValueError, "mean nothing at 64 x 64")):
        options = dict(zip(("folder", "out", "overlays", "size"), arguments, strict=False))
        with pytest.raises(error, match=words):
            score_folder(Brightness(), **{"out": tmp_path / "out", **options}, progress=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="and its subfolders hold no images"):
        score_folder(Brightness(), tmp_path / "empty", tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("size", "drawn_at"), [((64, 128), (160, 320)), ((500, 400), (500, 400)),
                                                ((3000, 4000), (768, 1024)), ((1, 5000), (1, 1024))])
def test_overlays_keep_proportions_and_stay_small(size, drawn_at):
    assert overlay_size(*size) == drawn_at


def test_an_overlay_outlines_what_reaches_the_threshold():
    image, values = np.full((100, 200, 3), 128, np.uint8), np.zeros((50, 100))
    values[10:20, 30:40] = 0.9
    marked = np.asarray(overlay(image, values, 0.9, THRESHOLD))
    left = marked[STRIP:, :200]
    orange = (left == [230, 159, 0]).all(2)
    rows, columns = np.nonzero(orange)
    assert 18 <= rows.min() <= 22 and 37 <= rows.max() <= 41 and 58 <= columns.min() <= 62 and 77 <= columns.max() <= 81
    assert not orange[28:32, 68:72].any(), "a line, not an area"
    assert marked.shape[1] >= 408 and (marked[:STRIP] == 0).any(), "words above"
    quiet = np.asarray(overlay(image, values / 9, 0.1, THRESHOLD))
    assert not (quiet[STRIP:, :200] == [230, 159, 0]).all(2).any()
    assert (quiet[:STRIP] != marked[:STRIP]).any(), "the verdict differs"
    wide = np.asarray(overlay(np.zeros((10, 1024, 3), np.uint8), values, 0.9, THRESHOLD))
    assert wide.shape == (10 + 64 * 8 // 5, 2 * 1024 + 8, 3), "larger words above larger pictures"
    assert overlay(image[:, :9], values, 0.9, None).width > 50, "words fit beside a narrow picture"


def test_an_overlay_shows_the_region_of_interest():
    image, values, roi = np.full((100, 200, 3), 128, np.uint8), np.zeros((50, 100)), np.zeros((50, 100), bool)
    roi[10:40, 20:80] = True
    drawn = np.asarray(overlay(image, values, 0.1, THRESHOLD, roi))[STRIP:]
    white = (drawn[:, :200] == 255).all(2)
    assert white[20:80, 39:42].any(1).all() and not white[30:70, 50:150].any() and not white[:10].any()
    right = drawn[:, 208:408]
    assert (right[85:] == 128).all() and (right[:, 165:] == 128).all()
    assert not (right[30:70, 50:150] == 128).all(2).any()


def command(*arguments):
    return main(["score", *map(str, arguments)])


def test_the_command(folder, tmp_path, monkeypatch, capsys):
    model = ReverseDistillation("resnet18", weights=None, sigma=1)
    model.save(tmp_path / "bare.safetensors")
    model.threshold = Threshold(score=0.0, pixel=9.0, size=(32, 32), rule="by hand", good=1, alarms=1)
    model.save(tmp_path / "model.safetensors")
    out = tmp_path / "out"
    assert command(tmp_path / "model.safetensors", folder, out, "--overlays", "all") == 0
    assert "6 files, 2 with an error; 4 anomalous (score at least 0)" in capsys.readouterr().out
    assert len(drawn(out)) == 4 and len(pd.read_csv(out / "scores.csv")) == 6
    assert command(tmp_path / "bare.safetensors", folder, out, "--size", 32, "--quiet") == 0
    said = capsys.readouterr()
    assert "no threshold was saved" in said.out and said.err == "", "quiet: no bar"
    for arguments, words in (([tmp_path / "bare.safetensors", folder, out], "--size 256"),
                             ([tmp_path / "none.safetensors", folder, out], "cannot be read as"),
                             ([tmp_path / "none.onnx", folder, out], "cannot be read as"),
                             ([tmp_path / "model.safetensors", tmp_path / "none", out], "a folder is wanted")):
        assert command(*arguments) == 1
        assert words in capsys.readouterr().err


def test_scores_are_the_models(folder, tmp_path):
    model = ReverseDistillation("resnet18", weights=None, sigma=1).train()
    table = score_folder(model, folder, tmp_path / "out", size=64, progress=False)
    image = scoring.read_image(folder / "b.jpg", (64, 64))[0].float() / 255
    assert table.set_index("file").score["b.jpg"] == pytest.approx(float(model.predict(image[None])[1]), rel=1e-5)
    assert torch.is_grad_enabled() and model.training


def test_the_command_ends_with_1_where_scores_are_not_finite(folder, tmp_path, monkeypatch, capsys):
    model = ReverseDistillation("resnet18", weights=None, sigma=1)
    model.threshold = Threshold(score=0.1, pixel=0.1, size=(32, 32), rule="by hand", good=1, alarms=0)
    path, out = tmp_path / "model.safetensors", tmp_path / "out"
    model.save(path)
    with safe_open(path, "pt") as file:
        state, notes = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()
    key = "student.stage1.0.conv1.weight"
    write_model(path, state | {key: torch.full_like(state[key], torch.nan)}, json.loads(notes["rdlib"]))
    assert command(path, folder, out, "--quiet") == 1 and not out.exists()
    assert f"'{key}' holds NaN or infinity" in capsys.readouterr().err
    torch.nn.init.constant_(model.student.stage1[0].conv1.weight, torch.nan)
    monkeypatch.setattr(ReverseDistillation, "load", lambda path: model)  # what turns up while it predicts
    with pytest.warns(UserWarning, match="4 of 6 files have no score: The map or score is NaN or infinite"):
        assert command(path, folder, out, "--quiet") == 1
    assert "6 files, 6 with an error; 0 anomalous" in capsys.readouterr().out
    table = pd.read_csv(out / "scores.csv")
    assert table.anomalous.isna().all() and table.score.isna().all() and table.error.notna().all()


class Vanishing(Brightness):
    """Every image is anomalous, and the first file is gone before its overlay is drawn."""

    def __init__(self, gone):
        super().__init__(replace(THRESHOLD, score=0.0))
        self.gone = gone

    def predict(self, images, batch_size=32, precision="float32"):
        self.gone.unlink(missing_ok=True)
        return super().predict(images)


def test_an_overlay_that_cannot_be_written_stops_nothing(tmp_path):
    (folder := tmp_path / "in").mkdir()
    long = "z" * 250 + ".png"  # with .png, the overlay's name would be longer than a file's may be
    for name in ("a.png", "b.png", long):
        picture(64, 128, 40).save(folder / name)
    table = score_folder(Vanishing(folder / "a.png"), folder, tmp_path / "out", progress=False).set_index("file")
    assert list(table.anomalous) == [1, 1, 1] and table.score.notna().all()
    first, shortened = drawn(tmp_path / "out")
    assert first == "b.png.png" and shortened.startswith("z" * 40 + "-")
    assert table.error["a.png"].startswith("The overlay could not be written: There is no file")
    assert (table.error[["b.png", long]] == "").all()
    quiet = score_folder(Brightness(), folder, tmp_path / "out", progress=False)
    assert list(quiet.error) == ["", ""] and drawn(tmp_path / "out") == [], "no overlay is wanted, and none is there"


def test_a_folder_where_an_overlay_should_lie_is_reported(folder, tmp_path):
    (tmp_path / "out/overlays/b.jpg.png").mkdir(parents=True)
    table = score_folder(Brightness(), folder, tmp_path / "out", progress=False).set_index("file")
    assert "The overlay could not be written" in table.error["b.jpg"] and table.score.notna().sum() == 4


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_no_utf_8_are_escaped(tmp_path):
    (folder := tmp_path / "in").mkdir()
    names = [b"caf\xe9.png", "Prüf\u202fteil, \"neu\".png".encode(), b"two\nlines\r.png", b"torn\xff.png"]
    for name in names:
        picture(64, 128, 255).save(folder / os.fsdecode(name), "png")
    (folder / os.fsdecode(names[3])).write_text("torn")
    expected = ["Prüf\u202fteil, \"neu\".png", "caf\\udce9.png", "torn\\udcff.png", "two\\nlines\\r.png"]
    table = score_folder(Brightness(), folder, tmp_path / "out", progress=False)
    assert list(table.file) == expected and table.anomalous.sum() == 3
    assert "torn\\udcff.png is not a readable image" in table.error[2]
    assert len(drawn(tmp_path / "out")) == 3
    model = Brightness()
    again = score_folder(model, folder, tmp_path / "out", resume=True, progress=False)
    pd.testing.assert_frame_equal(again, table)
    assert model.batches == []


def test_scores_in_the_file_are_exact(folder, tmp_path):
    table = score_folder(Brightness(), folder, tmp_path / "out", progress=False).dropna(subset="score")
    images = [scoring.read_image(folder / name, THRESHOLD.size)[0] for name in table.file]
    assert list(table.score.astype(np.float32)) == Brightness().predict(torch.stack(images))[1].tolist()


def test_the_region_of_interest_is_honored(folder, tmp_path):
    model = ReverseDistillation("resnet18", weights=None, sigma=1, score="sum")
    region = np.zeros((32, 64), bool)
    region[20:28, 40:56] = True
    model.set_roi(region)
    maps, scores = model.predict([folder / "b.jpg"])
    table = score_folder(model, folder, tmp_path / "out", progress=False).set_index("file")
    assert table.score["b.jpg"] == pytest.approx(float(scores[0]), rel=1e-5)
    table = table[table.score.notna()]
    rows, columns = table.row / table.height * 32, table.column / table.width * 64
    assert rows.between(20, 28).all() and columns.between(40, 56).all()

    class Blank(ReverseDistillation):
        def predict(self, images, batch_size=32, precision="float32"):
            return torch.zeros(len(images), 32, 64), torch.zeros(len(images))

    blank = Blank("resnet18", weights=None)
    blank.set_roi(region)
    table = score_folder(blank, folder, tmp_path / "out", progress=False).dropna(subset="score")
    assert (table.row / table.height * 32).between(20, 28).all(), "inside, even where the map is 0 everywhere"


def test_files_do_not_suit_a_model_of_another_range(folder, tmp_path):
    model = ReverseDistillation("resnet18", weights=None)
    model.set_trained(64, (-2.1, 2.6))
    with pytest.raises(ValueError, match="files and 8-bit images give 0 to 1"):
        score_folder(model, folder, tmp_path / "out", progress=False)


def test_drift_is_a_warning_and_not_an_error(folder, tmp_path):
    for i in range(40):
        picture(64, 64, 200).save(folder / f"{i}.png")
    model = ReverseDistillation("resnet18", weights=None, sigma=1)
    model.threshold = replace(THRESHOLD, score=1e-3, size=(32, 32), good=100, alarms=2, rate=0.05)
    model.save(tmp_path / "model.safetensors")
    with pytest.warns(UserWarning, match="44 of 44 images alarm where at most 5 % were promised"):
        assert command(tmp_path / "model.safetensors", folder, tmp_path / "out", "--overlays", "none", "--quiet") == 0
