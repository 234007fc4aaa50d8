"""Files and folders as users have them: odd ones get a row that says so, and what is not scored is counted."""
import csv
import io
import os
import subprocess
import sys
import warnings
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_scoring import THRESHOLD, Brightness, command, drawn, picture

import rdlib
from rdlib import ReverseDistillation
from rdlib.cli import main
from rdlib.deploy import scoring
from rdlib.deploy.scoring import score_folder
from rdlib.deploy.table import listed_name
from rdlib.detector import Config
from rdlib.utils.errors import DataError
from rdlib.utils.files import written_atomically

posix = pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names or links")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, spot in (("a.png", None), ("b.png", (8, 16)), ("c.png", (8, 16))):
        picture(64, 128, 40, spot).save(folder / name)
    return folder


def score(folder, out, model=None, **options):
    return score_folder(model or Brightness(), folder, out, progress=False, **options)


@pytest.mark.parametrize("error, words", [
    (MemoryError("too large"), "too large"), (PermissionError(13, "denied"), "denied"), (OSError(), "OSError"),
    (ZeroDivisionError("-1/0"), "-1/0"), (UnicodeDecodeError("ascii", b"\xe9", 0, 1, "odd"), "odd"),
    (ValueError("=1+1\n\x1b[31mred"), "./=1+1 \\x1b[31mred")])
def test_any_exception_is_the_error_of_its_file(folder, tmp_path, monkeypatch, error, words):
    read = scoring.read_image

    def odd(path, *options):
        if path.name == "b.png":
            raise error
        return read(path, *options)

    monkeypatch.setattr(scoring, "read_image", odd)
    table = score(folder, tmp_path / "out").set_index("file")
    assert words in table.error["b.png"] and list(table.error[["a.png", "c.png"]]) == ["", ""]
    assert list(table.anomalous.fillna(-1)) == [0, -1, 1] and drawn(tmp_path / "out") == ["c.png.png"]
    assert not table.error["b.png"].startswith("=") and table.loc["b.png", "score":"width"].isna().all()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_files_that_go_away_and_files_of_several_pages(folder, tmp_path, num_workers):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "pages.tif", save_all=True,
                                                     append_images=[Image.new("L", (8, 8))])

    class Vanishing(Brightness):
        def describe(self):
            (folder / "c.png").unlink(missing_ok=True)  # after the files were listed
            return super().describe()

    table = score(folder, tmp_path / "out", Vanishing(), num_workers=num_workers).set_index("file")
    assert list(table.score.notna()) == [True, True, False, False] and list(table.anomalous[:2]) == [0, 1]
    assert "There is no file" in table.error["c.png"] and str(folder / "pages.tif") in table.error["pages.tif"]
    assert "pages" in table.error["pages.tif"].replace("pages.tif", "")


def twelve_bits(path, value, spot=0):
    values = np.full((64, 128), value, np.uint16)
    values[8:24, 16:32] += spot
    Image.fromarray(values).save(path)


class Deep(Brightness):
    config = Config(white=4095.0)


def test_deep_files_are_read_and_drawn_with_the_models_white(folder, tmp_path):
    twelve_bits(folder / "deep.tif", 819, 3276)
    twelve_bits(folder / "bright.tif", 4096)
    table = score(folder, tmp_path / "out", Deep(), overlays="all").set_index("file")
    assert table.score["deep.tif"] == pytest.approx(1) and table.anomalous["deep.tif"] == 1
    assert table.score["a.png"] == pytest.approx(40 / 255), "8 bits beside them are what they were"
    assert "4096" in table.error["bright.tif"] and "white=" in table.error["bright.tif"]
    drawing = np.asarray(Image.open(tmp_path / "out/overlays/deep.tif.png"))
    assert (drawing[-10:, 5:300] == round(255 * 819 / 4095)).mean() > 0.95, "as bright as the file, not black"
    without = score(folder, tmp_path / "other").set_index("file")
    assert "white=" in without.error["deep.tif"] and list(without.error[["a.png", "b.png", "c.png"]]) == [""] * 3


ODD = {"=1+1.png": "./=1+1.png", "+a.png": "./+a.png", "-a.png": "./-a.png", "@a.png": "./@a.png",
       " =1.png": "./ =1.png", "=x/y.png": "./=x/y.png", "\ta.png": "\\ta.png", "\ra.png": "\\ra.png",
       "a\x1b[31m\x07.png": "a\\x1b[31m\\x07.png", "a\u2028\x85b.png": "a\\u2028\\x85b.png", "NA": "NA",
       'quote", and;semi.png': 'quote", and;semi.png', "two\nlines.png": "two\\nlines.png",
       "two\\nlines.png": "two\\\\nlines.png", os.fsdecode(b"\xe9.png"): "\\udce9.png",
       "\\udce9.png": "\\\\udce9.png", "划痕 Ω.png": "划痕 Ω.png"}


@posix
def test_names_of_any_bytes_are_one_harmless_row_each_and_are_found_again(folder, tmp_path):
    for name in ODD:
        if name.endswith(".png"):
            (folder / name).parent.mkdir(exist_ok=True)
            picture(64, 128, 40, (8, 16)).save(folder / name, "png")
    listed = [text for name, text in ODD.items() if name.endswith(".png")]
    table = score(folder, out := tmp_path / "out")
    assert sorted(table.file) == sorted([*listed, "a.png", "b.png", "c.png"]) and not table.error.any()
    text = (out / "scores.csv").read_text("utf-8")
    assert {row["file"] for row in csv.DictReader(io.StringIO(text, newline=""))} == {*table.file}
    assert not any(row[0][:1] in "=+-@\t\r" for row in csv.reader(io.StringIO(text, newline="")))
    for name in ODD:
        assert listed_name(folder / name, folder) == ODD[name]
        if ODD[name].startswith("./"):
            assert (folder / ODD[name]).is_file(), "still a valid path"
    model = Brightness()
    pd.testing.assert_frame_equal(score(folder, out, model, resume=True), table)
    assert model.batches == [] and len(drawn(out)) == len(listed) + 2


@posix
def test_names_of_any_length_reach_the_table(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    names = [bytes([letter]) * (length - 4) + b".png" for letter, length in zip(b"abcdefg", (
        200, 229, 250, 251, 252, 254, 255), strict=True)]
    for name in names:
        picture(32, 64, 255).save(folder / os.fsdecode(name), "png")
    table = score(folder, out := tmp_path / "out")
    assert list(table.file) == [name.decode() for name in names] and list(table.anomalous) == [1] * 7
    assert list(table.error) == [""] * 7 and len(drawn(out)) == 7
    assert drawn(out)[4] == f"{'e' * 40}-{sha256(names[4]).hexdigest()[:32]}.png"
    assert drawn(out)[3] == f"{names[3].decode()}.png"
    assert score(folder, out, overlays="none").attrs["notes"] == [] and drawn(out) == []


def test_a_temporary_name_does_not_grow_with_the_name(tmp_path):
    """Unfinished files lie in a hidden folder beside the target."""
    for name in ("a" * 251 + ".txt", "b" * 255, "c." + "d" * 253, "model.safetensors"):
        with written_atomically(tmp_path / name) as temporary:
            assert len(temporary.name) < 60 and temporary.suffix and temporary.parents[2] == tmp_path
            temporary.write_text(name)
        assert (tmp_path / name).read_text() == name
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("how", ["resolved", "given", "linked"])
def test_results_below_the_folder_are_not_scored_however_they_are_named(folder, tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    if how == "linked":
        (folder / "again").symlink_to(folder / "out", target_is_directory=True)
    for _ in range(2):
        given = folder / "out" if how != "given" else os.path.join("in", "out")
        assert list(score("in" if how == "resolved" else folder, given, overlays="all").file) == [
            "a.png", "b.png", "c.png"]


@posix
def test_linked_folders_are_searched_once(folder, tmp_path):
    (tmp_path / "share/day").mkdir(parents=True)
    picture(64, 128, 200).save(tmp_path / "share/day/d.png")
    (folder / "line").symlink_to(tmp_path / "share", target_is_directory=True)
    (folder / "same").symlink_to(tmp_path / "share", target_is_directory=True)
    (tmp_path / "share/day/up").symlink_to(folder, target_is_directory=True)
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    with warnings.catch_warnings(action="error"):  # nothing was left out
        table = score(folder, tmp_path / "out")
    assert list(table.file) in (["a.png", "b.png", "c.png", f"{place}/day/d.png"] for place in ("line", "same"))
    assert table.attrs["notes"] == []


@posix
def test_what_is_left_out_is_counted(folder, tmp_path):
    for name in (".trash/x.png", "@eaDir/y.png", "$RECYCLE.BIN/z.png", "__MACOSX/._a.png", "lost+found/v.png",
                 "._b.png", ".thumbs/\x1b.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        picture(8, 8, 0).save(folder / name)
    (folder / "dead.png").symlink_to("nowhere")
    for name in ("a.gif", "b.GIF", "c.heic", "d.avif"):
        (folder / name).write_bytes(b"")
    with pytest.warns(UserWarning) as caught:
        table = score(folder, tmp_path / "out")
    said = str(caught.pop().message)
    assert len(caught) == 0 and said.splitlines() == table.attrs["notes"], "one warning says all"
    assert list(table.file) == ["a.png", "b.png", "c.png"]
    assert "Left out, since these formats are not read: 1 .avif, 2 .gif, 1 .heic. Convert them to PNG." in said
    assert "a broken link: 8 ($RECYCLE.BIN/z.png, ./@eaDir/y.png, ._b.png, ...)." in said
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone/a.heic").write_bytes(b"")
    with pytest.raises(DataError, match=r"hold no images.*not read: 1 \.heic"):
        score(tmp_path / "phone", tmp_path / "out")


def test_folder_and_out_that_do_not_go_together(folder, tmp_path):
    for out in (folder, tmp_path, folder / ".." / "in"):
        with pytest.raises(DataError, match="OUT holds FOLDER; name another"):
            score(folder, out)
    with pytest.raises(DataError, match="a.png is a file, but a folder is wanted"):
        score(folder / "a.png", tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["in"] and len(os.listdir(folder)) == 3, "nothing was written"


def test_overlays_of_earlier_rows_go_when_the_new_table_is_complete(folder, tmp_path):
    score(folder, out := tmp_path / "out", overlays="all")
    (folder / "c.png").unlink()

    class Looking(Brightness):
        def predict(self, *arguments):
            self.seen = drawn(out)
            return super().predict(*arguments)

    model = Looking()
    table = score(folder, out, model)
    assert model.seen == ["a.png.png", "b.png.png", "c.png.png"], "nothing is removed while the run is going"
    assert drawn(out) == ["b.png.png"] and table.attrs["notes"] == []
    assert sorted(os.listdir(out)) == ["overlays", "run.json", "scores.csv"]


def test_earlier_rows_are_known_after_runs_that_were_interrupted(folder, tmp_path):
    score(folder, out := tmp_path / "out", overlays="all")
    (folder / "c.png").unlink()
    picture(64, 128, 50).save(folder / "d.png")
    for resume in (False, False, True):
        with pytest.raises(KeyboardInterrupt):
            score(folder, out, Brightness(stops_after=1), batch_size=1, resume=resume)
        assert {"a.png.png", "c.png.png"} <= {*drawn(out)}
    assert list(score(folder, out, resume=True).file) == ["a.png", "b.png", "d.png"] and drawn(out) == ["b.png.png"]


def test_a_resumed_run_keeps_the_overlays_of_its_rows(folder, tmp_path):
    score(folder, out := tmp_path / "out", overlays="all")
    picture(64, 128, 41).save(folder / "b.png")
    table = score(folder, out, resume=True)
    assert drawn(out) == ["a.png.png", "c.png.png"], "b has changed and is good now"
    assert table.attrs["notes"] == []


@posix
def test_nothing_but_files_that_an_old_row_explains_is_removed(folder, tmp_path):
    score(folder, out := tmp_path / "out", overlays="all")
    overlays, elsewhere = out / "overlays", tmp_path / "elsewhere"
    elsewhere.mkdir()
    mine = [overlays / name for name in ("a.png", "notes.txt", "b.png", "mine/photo.png", ".hidden.png",
                                         "a.png.png.png")]
    for path in (*mine, elsewhere / "a.png.png", elsewhere / "photo.png"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
    (overlays / "a.png.png").unlink()
    (overlays / "a.png.png").symlink_to(elsewhere / "photo.png")
    (overlays / "linked").symlink_to(elsewhere, target_is_directory=True)
    (overlays / "dead").symlink_to(elsewhere / "none")
    with pytest.warns(UserWarning, match="holds 9 more"):
        said = score(folder, out, overlays="none").attrs["notes"]
    assert drawn(out) == [".hidden.png", "a.png", "a.png.png", "a.png.png.png", "b.png", "mine/photo.png"]
    assert sorted(os.listdir(elsewhere)) == ["a.png.png", "photo.png"]
    assert all(path.read_bytes() == b"mine" for path in (*mine, *elsewhere.iterdir()))
    assert all((overlays / name).is_symlink() for name in ("a.png.png", "linked", "dead"))
    assert said == [f"{overlays} holds 9 more files that no scoring here has drawn; left there: .hidden.png, a.png, "
                    "a.png.png, ..."]


@posix
def test_overlays_that_are_a_link_are_left_alone(folder, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/overlays").symlink_to(tmp_path / "disk", target_is_directory=True)
    score(folder, tmp_path / "out", overlays="all")
    table = score(folder, tmp_path / "out", overlays="none")
    assert sorted(os.listdir(tmp_path / "disk")) == ["a.png.png", "b.png.png", "c.png.png"]
    assert "is a link" in table.attrs["notes"][0]


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b"file,score\nb.png,high\n", b'"torn', b"name\nb.png\n"])
def test_another_table_in_its_place_explains_nothing(folder, tmp_path, content):
    (tmp_path / "out/overlays").mkdir(parents=True)
    (tmp_path / "out/overlays/x.png.png").write_bytes(b"mine")
    (tmp_path / "out/scores.csv").write_bytes(content)
    assert list(score(folder, tmp_path / "out").anomalous) == [0, 1, 1]
    assert drawn(tmp_path / "out") == ["b.png.png", "c.png.png", "x.png.png"]


def test_a_stopped_scoring_says_what_is_there_and_how_to_go_on(folder, tmp_path, monkeypatch, capsys):
    ReverseDistillation("resnet18", weights=None, sigma=1).save(tmp_path / "model.safetensors")
    draw = scoring._draw

    def stops(path, *others):
        if path.name == "c.png":
            raise KeyboardInterrupt
        draw(path, *others)
    monkeypatch.setattr(scoring, "_draw", stops)
    arguments = ["score", str(tmp_path / "model.safetensors"), str(folder), str(tmp_path / "out"), "--quiet",
                 "--size", "32", "--overlays", "all"]
    assert main(arguments) == 130
    table = tmp_path / "out/scores.csv"
    assert capsys.readouterr().err == f"Stopped. {table} has 2 rows. Go on with --resume.\n"
    monkeypatch.setattr(scoring, "_draw", draw)
    assert main([*arguments, "--resume"]) == 0 and drawn(tmp_path / "out") == ["a.png.png", "b.png.png", "c.png.png"]


def test_the_command_names_first_errors_and_what_is_left(folder, tmp_path, capsys):
    model = ReverseDistillation("resnet18", weights=None, sigma=1)
    model.threshold = THRESHOLD
    model.save(tmp_path / "model.safetensors")
    for i in range(5):
        (folder / f"torn{i}.png").write_text("torn")
    (folder / "f.gif").write_bytes(b"")
    (tmp_path / "out/overlays").mkdir(parents=True)
    (tmp_path / "out/overlays/x.png").write_bytes(b"mine")
    arguments = [tmp_path / "model.safetensors", folder, tmp_path / "out", "--quiet"]
    done = subprocess.run([sys.executable, "-m", "rdlib", "score", *arguments], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(Path(rdlib.__file__).parents[1])})
    first, *rest = done.stdout.splitlines()
    assert done.returncode == 0 and first.startswith("8 files, 5 with an error; ")
    assert [line.partition(": ")[0] for line in rest[:3]] == ["torn0.png", "torn1.png", "torn2.png"]
    assert "is not a readable image" in rest[0] and rest[3:] == ["2 more files have an error, see the table."]
    left, overlays = done.stderr.splitlines()
    assert "not read: 1 .gif" in left and "holds 1 more" in overlays and overlays.endswith(": x.png")
    assert command(tmp_path / "model.safetensors", folder / "a.png", tmp_path / "out") == 1
    assert "a folder is wanted" in capsys.readouterr().err
