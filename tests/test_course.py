"""What the notebooks share: profiles, and models trained once for several of them."""
from dataclasses import replace

import pytest
import torch

from rdlib.course import PROFILES, lesson, profile

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
