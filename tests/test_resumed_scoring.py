"""A scoring run that stops keeps what it has and goes on; the table it ends with is that of a run without a stop."""
import gc
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
import weakref
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from test_scoring import THRESHOLD, Brightness, drawn, picture

from rdlib import ReverseDistillation
from rdlib.deploy import scoring
from rdlib.deploy.scoring import score_folder
from rdlib.deploy.table import COLUMNS

NAMES = [f"{i:02d}.png" for i in range(10)]


@pytest.fixture
def folder(tmp_path):
    """Ten images, of which every third has a bright square."""
    folder = tmp_path / "in"
    folder.mkdir()
    for i, name in enumerate(NAMES):
        picture(64, 128, 40 + i, (8, 16) if i % 3 == 0 else None).save(folder / name)
    return folder


def score(folder, out, model=None, **options):
    return score_folder(model or Brightness(), folder, out, progress=False, **options)


def rows(out):
    """The names of the complete rows in the file."""
    lines = (out / "scores.csv").read_text("utf-8").split("\n")[:-1]
    assert lines[0] == ",".join(COLUMNS)
    return [line.split(",")[0] for line in lines[1:]]


def assert_as_without_a_stop(folder, out, **options):
    resumed, model = score(folder, out, resume=True, **options), Brightness()
    pd.testing.assert_frame_equal(resumed, score(folder, out.with_name("whole"), model, **options))
    assert (out / "scores.csv").read_bytes() == (out.with_name("whole") / "scores.csv").read_bytes()
    assert drawn(out) == drawn(out.with_name("whole"))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_interrupted_run_keeps_its_rows_and_goes_on(folder, tmp_path, num_workers):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        score(folder, out, Brightness(stops_after=2), batch_size=3, num_workers=num_workers)
    assert rows(out) == NAMES[:6] and drawn(out) == ["00.png.png", "03.png.png"]
    model = Brightness()
    score(folder, out, model, batch_size=3, num_workers=num_workers, resume=True)
    assert model.batches == [3, 1], "only what is missing"
    assert_as_without_a_stop(folder, out)


SCRIPT = """
import os, resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_scoring import Brightness
from rdlib.deploy.scoring import score_folder
class Killed(Brightness):
    def predict(self, images, batch_size=32, precision="float32"):
        if len(self.batches) == 2 and sys.argv[2] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if len(self.batches) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (Path(sys.argv[4], "scores.csv").stat().st_size + 20,) * 2)
        return super().predict(images)
score_folder(Killed(), Path(sys.argv[3]), Path(sys.argv[4]), batch_size=3, overlays="none", progress=False)
"""


@pytest.mark.parametrize("how", ["killed", "full"])
@pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")
def test_a_killed_process_or_a_full_disk_keeps_the_rows(folder, tmp_path, how):
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", SCRIPT, os.path.dirname(__file__), how, folder, out], text=True,
                          capture_output=True)
    assert done.returncode == (-9 if how == "killed" else 1), done
    assert ("scores.csv could not be written: File too large. Choose another" in done.stderr) == (how == "full"), done
    assert rows(out) == NAMES[:6]
    assert_as_without_a_stop(folder, out, overlays="none")


def test_two_runs_do_not_write_into_one_folder(folder, tmp_path):
    out = tmp_path / "out"

    class Second(Brightness):
        def predict(self, images):
            for resume in (False, True):
                with pytest.raises(OSError, match="^Another scoring writes to .*out. Wait until it ends, or choose an"):
                    score(folder, out, resume=resume)
            return super().predict(images)

    assert list(score(folder, out, Second(), batch_size=3).file) == NAMES == rows(out)
    assert sorted(os.listdir(out)) == ["overlays", "run.json", "scores.csv"]
    (out / ".scoring.lock").touch()  # as a killed process leaves it
    assert len(score(folder, out, resume=True)) == 10


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_killed_worker_is_said_in_words(folder, tmp_path, monkeypatch):
    read, main = scoring.read_image, os.getpid()

    def killed(path, *options):
        if path.name == "06.png" and os.getpid() != main:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(path, *options)

    monkeypatch.setattr(scoring, "read_image", killed)
    with pytest.raises(OSError, match=r"^DataLoader worker .*\S \S+scores.csv has \d rows. Go on with --resume.$"):
        score(folder, out := tmp_path / "out", batch_size=1, num_workers=1, overlays="none")
    monkeypatch.setattr(scoring, "read_image", read)
    assert_as_without_a_stop(folder, out, overlays="none")


def test_a_torn_last_line_is_scored_again(folder, tmp_path):
    (folder / "03.png").rename(folder / 'a, "b"\nc.png')  # a name that needs quotes
    score(folder, out := tmp_path / "out")
    whole = (out / "scores.csv").read_bytes()
    start = whole.index(b"\n") + 1
    for end in range(start, len(whole), 61):
        (out / "scores.csv").write_bytes(whole[:end])
        model = Brightness()
        score(folder, out, model, resume=True)
        assert sum(model.batches) == 10 - whole[start:end].count(b"\n")
        assert (out / "scores.csv").read_bytes() == whole


def test_a_finished_run_has_nothing_left_to_do(folder, tmp_path):
    first, model = score(folder, tmp_path / "out"), Brightness()
    pd.testing.assert_frame_equal(score(folder, tmp_path / "out", model, resume=True), first)
    assert model.batches == []


def test_new_changed_and_broken_images_are_scored_and_vanished_ones_stay(folder, tmp_path):
    (folder / "04.png").write_text("torn")
    first = score(folder, out := tmp_path / "out").set_index("file")
    (folder / "01.png").unlink()
    picture(64, 128, 90).save(folder / "02.png")
    picture(64, 128, 91).save(tmp_path / "old.png")
    os.utime(tmp_path / "old.png", (0, 0))
    (tmp_path / "old.png").replace(folder / "03.png")  # as by `cp -p`: older than the table
    picture(64, 128, 44).save(folder / "04.png")
    picture(64, 128, 50).save(folder / "new.png")
    model = Brightness()
    table = score(folder, out, model, resume=True).set_index("file")
    assert list(table.index) == [*NAMES, "new.png"] == rows(out) and sum(model.batches) == 4
    kept = [name for name in NAMES if name not in ("02.png", "03.png", "04.png")]
    pd.testing.assert_frame_equal(table.loc[kept], first.loc[kept])
    assert list(table.score[["02.png", "03.png", "04.png", "new.png"]] * 255) == pytest.approx([90, 91, 44, 50])
    assert (table.error == "").all() and drawn(out) == ["00.png.png", "06.png.png", "09.png.png"], "03 is good now"


def test_a_run_without_resume_starts_again(folder, tmp_path):
    score(folder, out := tmp_path / "out")
    shutil.rmtree(folder)
    folder.mkdir()
    picture(64, 128, 40).save(folder / "00.png")
    with pytest.raises(KeyboardInterrupt):
        score(folder, out, Brightness(stops_after=0))
    assert rows(out) == []
    assert list(score(folder, out).file) == ["00.png"] and "00.png.png" not in drawn(out)


def test_resume_starts_where_nothing_was_begun(folder, tmp_path):
    assert list(score(folder, tmp_path / "out", resume=True).file) == NAMES


def test_rows_of_another_run_are_not_continued(folder, tmp_path):
    score(folder, out := tmp_path / "out")
    whole = (out / "scores.csv").read_bytes()
    shutil.copytree(folder, tmp_path / "other")
    cases = {"threshold": (Brightness(replace(THRESHOLD, score=0.4)), folder, {}),
             "threshold, size": (Brightness(None), folder, {"size": 64}),
             "folder": (Brightness(), tmp_path / "other", {})}
    for name, (model, images, options) in cases.items():
        with pytest.raises(ValueError, match=f"cannot be resumed: it was written with another {name}. Write to"):
            score(images, out, model, resume=True, **options)
    (out / "scores.csv").write_text("file,score\n00.png,0.5\n")
    with pytest.raises(ValueError, match="written with another version"):
        score(folder, out, resume=True)
    (out / "scores.csv").write_bytes(whole)
    (out / "run.json").unlink()
    with pytest.raises(ValueError, match="written with another class, threshold, size, folder"):
        score(folder, out, resume=True)
    assert (out / "scores.csv").read_bytes() == whole, "nothing is lost by asking"


def test_models_that_differ_in_weights_settings_or_region_do_not_continue_each_other(folder, tmp_path):
    def build(**options):
        model = ReverseDistillation("resnet18", weights=None, **{"sigma": 1, **options})
        model.threshold = replace(THRESHOLD, size=(32, 32))
        return model

    score(folder, out := tmp_path / "out", build())
    score(folder, out, build(), resume=True)
    part = build()
    part.set_roi(np.eye(32) > 0)
    part.threshold = replace(THRESHOLD, size=(32, 32))
    for model, name in ((build(seed=1), "weights"), (build(sigma=2), "config"), (part, "weights")):
        with pytest.raises(ValueError, match=f"written with another {name}. "):
            score(folder, out, model, resume=True)


@pytest.mark.parametrize("change", [
    lambda note: "", lambda note: "[", lambda note: "null", lambda note: "[" * 100_000, lambda note: '{"a": 1}',
    lambda note: json.dumps(note | {"began": "x"}), lambda note: json.dumps(note | {"began": math.inf}),
    lambda note: json.dumps(note | {"earlier": 3}), lambda note: json.dumps(note | {"earlier": [3]})])
def test_a_damaged_note_is_not_believed(change, folder, tmp_path):
    score(folder, out := tmp_path / "out")
    (out / "run.json").write_text(change(json.loads((out / "run.json").read_text("utf-8"))), "utf-8")
    with pytest.raises(ValueError, match="cannot be resumed: it was written with another .* or leave resume out to"):
        score(folder, out, resume=True)
    assert len(score(folder, out)) == 10


def test_without_the_time_of_the_run_all_is_scored_again(folder, tmp_path):
    score(folder, out := tmp_path / "out")
    note = json.loads((out / "run.json").read_text("utf-8"))
    (out / "run.json").write_text(json.dumps({name: note[name] for name in note if name != "began"}), "utf-8")
    score(folder, out, model := Brightness(), resume=True)
    assert sum(model.batches) == 10


@pytest.mark.parametrize("change", [
    lambda rows: rows + rows[-1:], lambda rows: [f"../{rows[0]}", *rows[1:]], lambda rows: [f"/{rows[0]}", *rows[1:]],
    *[lambda rows, to=to: [",".join([rows[0].split(",")[0], to, *rows[0].split(",")[2:]]), *rows[1:]]
      for to in ("", "nan", "inf", "1e999", "abc")],
    lambda rows: [rows[0].replace(",64,128,", ",64,,"), *rows[1:]],
    lambda rows: [rows[0].replace(",64,128,", ",1,128,"), *rows[1:]],
    lambda rows: [rows[0].replace(",64,128,", ",6.4,128,"), *rows[1:]]])
def test_rows_that_no_scoring_writes_are_not_believed(change, folder, tmp_path):
    score(folder, out := tmp_path / "out")
    lines = (out / "scores.csv").read_text("utf-8").splitlines()
    (out / "scores.csv").write_text("\n".join([lines[0], *change(lines[1:])]) + "\n", "utf-8")
    with pytest.raises(ValueError, match="cannot be resumed: it (has a row that no scoring writes, .*00.png|has a row "
                                         "that no scoring writes, 09.png|was written with another version). Write to "
                                         "another folder, or leave resume out to score all images again."):
        score(folder, out, resume=True)
    assert len(score(folder, out)) == 10


def test_an_unfinished_model_says_so_once_when_it_scores(folder, tmp_path):
    model = ReverseDistillation("resnet18", weights=None, sigma=1)
    model.config.unfinished = "after 3 of 10 epochs"
    with pytest.warns(UserWarning, match="training is unfinished: it ended after 3 of 10 epochs") as said:
        score(folder, tmp_path / "out", model, size=32)
    (warning,) = (each for each in said if "unfinished" in str(each.message))
    assert warning.filename == __file__, "it points to the caller's line"


class Watched(Brightness):
    """Counts its maps that are still in memory, and notes how much Python's objects take."""

    def __init__(self):
        super().__init__()
        self.maps, self.alive, self.memory = [], 0, []

    def predict(self, images, batch_size=32, precision="float32"):
        gc.collect()
        self.alive = max(self.alive, sum(kept() is not None for kept in self.maps))
        self.memory.append(tracemalloc.get_traced_memory()[0])
        maps = np.zeros((len(images), *self.image_size), np.float32)
        self.maps.append(weakref.ref(maps))
        return torch.from_numpy(maps), torch.zeros(len(images))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    (folder := tmp_path / "in").mkdir()
    Image.new("L", (4, 4)).save(folder / "0000.png")
    for i in range(1, 1200):
        os.link(folder / "0000.png", folder / f"{i:04d}.png")
    model = Watched()
    tracemalloc.start()
    try:
        assert len(score(folder, tmp_path / "out", model, batch_size=50)) == 1200
    finally:
        tracemalloc.stop()
    assert model.alive <= 1, "no maps are kept"
    assert model.memory[-1] - model.memory[3] < 100 * 1000, "no rows are kept: fewer than 100 bytes an image"


def test_what_a_run_depends_on_stands_beside_its_table(folder, tmp_path):
    score(folder, out := tmp_path / "out")
    about = pd.read_json(out / "run.json", typ="series")
    assert about["folder"] == str(folder.resolve()) and about["size"] == [32, 64]
    assert about["threshold"]["score"] == asdict(THRESHOLD)["score"]
