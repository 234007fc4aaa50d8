"""What the notebooks share: profiles, and models trained once for several of them."""
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rdlib import course
from rdlib.course import PROFILES, lesson, profile, source_hash

SMALL = replace(PROFILES["cpu"], size=64, epochs=1, n_train=8)


def test_the_profile_is_the_laptops_unless_the_environment_names_another(monkeypatch):
    monkeypatch.delenv("RDLIB_PROFILE", raising=False)
    assert profile() == PROFILES["cpu"]
    monkeypatch.setenv("RDLIB_PROFILE", "paper")
    assert (profile().backbone, profile().size, profile().epochs) == ("wide_resnet50_2", 256, 200)
    monkeypatch.setenv("RDLIB_PROFILE", "papper")
    with pytest.raises(ValueError, match="cpu, paper"):
        profile()


def test_a_lesson_is_trained_once_and_equal_the_second_time(monkeypatch, tmp_path):
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path))
    first = lesson("synthetic/gear", SMALL)
    assert first.run.seconds > 0 and len(first.run.losses) == 2
    second = lesson("synthetic/gear", SMALL)
    assert second.run.seconds == first.run.seconds and second.run.losses == first.run.losses
    image = first.data.test[0].image[None]
    assert torch.equal(first.model.predict(image)[0], second.model.predict(image)[0])
    other = lesson("synthetic/gear", SMALL, seed=1)
    assert other.run.losses != first.run.losses and len(list((tmp_path / "lessons").glob("*.pt"))) == 2


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """The folder that lessons are kept in."""
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path))
    return tmp_path / "lessons"


def test_a_lesson_of_another_precision_is_another_lesson(monkeypatch, kept):
    """One home, machines with and without fast bfloat16: each finds its own file, or trains."""
    for fast in (True, False, True):
        monkeypatch.setattr("rdlib.utils.hardware.has_fast_bf16", lambda device, fast=fast: fast)
        assert lesson("synthetic/gear", SMALL).run.settings["precision"] == ("bf16" if fast else "float32")
    assert len(list(kept.glob("*.pt"))) == 2


def test_a_lesson_is_trained_again_after_the_code_has_changed(monkeypatch, kept):
    lesson("synthetic/gear", SMALL)
    (old,) = kept.glob("*.pt")
    monkeypatch.setattr(course, "source_hash", lambda library: "of another version")
    before = old.read_bytes()
    lesson("synthetic/gear", SMALL)
    assert len(list(kept.glob("*.pt"))) == 2 and old.read_bytes() == before


def test_the_hash_follows_the_code_that_trains(tmp_path):
    library = tmp_path / "rdlib"
    shutil.copytree(Path(course.__file__).parent, library, ignore=shutil.ignore_patterns("__pycache__"))
    before = source_hash(library)
    assert before == source_hash(Path(course.__file__).parent)
    for name in ("figures/maps.py", "widgets/paint.py"):
        (library / name).write_text("# only shows")
    assert source_hash(library) == before
    for name in ("losses.py", "anomaly_map.py", "training/loop.py", "synthetic/noise.py"):
        (library / name).write_text((library / name).read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
        assert source_hash(library) != before
        before = source_hash(library)


@pytest.mark.parametrize("damage", ["damaged", "of other images"])
def test_a_lesson_that_does_not_fit_is_trained_again(kept, monkeypatch, damage):
    with monkeypatch.context() as patch:
        if damage == "of other images":
            patch.setattr("rdlib.training.loop.images_digest", lambda dataset: "of others")
        first = lesson("synthetic/gear", SMALL)
    (path,) = kept.glob("*.pt")
    if damage == "damaged":
        path.write_bytes(b"not a checkpoint")
    again = lesson("synthetic/gear", SMALL)
    assert again.run.losses == first.run.losses
    assert len(again.run.settings["training images"]) == 64
    assert lesson("synthetic/gear", SMALL).run.seconds == again.run.seconds, "the file is replaced"


def test_a_lesson_is_trained_where_nothing_can_be_stored(monkeypatch, tmp_path):
    """A file where the folder should be is refused to root as well, unlike a read-only folder."""
    (tmp_path / "lessons").touch()
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path))
    with pytest.warns(UserWarning, match=r"lessons.*\.pt cannot be written: .*Set RDLIB_DATA to a folder of yours\. "
                                         "The lesson is trained, but not stored"):
        found = lesson("synthetic/gear", SMALL)
    assert len(found.run.losses) == 2 and found.model.config.unfinished is None
