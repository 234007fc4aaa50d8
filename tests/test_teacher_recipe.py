"""The recipe of the embedded teacher at its smallest: images by seed, a run that survives a stop, weights that load."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from rdlib.encoder import TeacherEncoder

RECIPE = Path(__file__).parents[1] / "data" / "teacher"


@pytest.fixture
def recipe(monkeypatch):
    """The recipe's modules: (bank, train), of a bank of four classes."""
    monkeypatch.syspath_prepend(str(RECIPE))
    import bank
    import train

    monkeypatch.setattr(bank, "SHARES", {"spectral": 1, "leaves": 1, "objects": 1, "blend": 1})
    return bank, train


def small(bank, train):
    """A bank and a recipe that take seconds."""
    return (bank.Bank(unit=1, images=4, masks=6, size=64),
            train.Recipe(steps=6, phases=((32, 6, 0.7), (64, 4, 0.3)), rate=1e-3))


def test_images_follow_from_their_seeds_alone(recipe):
    bank, _ = recipe
    from generators import FAMILIES
    for family in FAMILIES:
        images = bank.draw_images(family, 3, 2, 48, seed=5)
        assert images.shape == (2, 3, 48, 48) and images.dtype == np.uint8
        assert np.array_equal(images, bank.draw_images(family, 3, 2, 48, seed=5))
        assert not np.array_equal(images[0], images[1])
        assert not np.array_equal(images, bank.draw_images(family, 4, 2, 48, seed=5))
        assert not np.array_equal(images, bank.draw_images(family, 3, 2, 48, seed=6))


def test_masks_are_regions(recipe):
    bank, _ = recipe
    for i in range(40):
        mask = bank.draw_mask(np.random.default_rng(i), 64)
        assert mask.max() > 200 and 0 < mask.mean() / 255 < 0.6


def test_a_killed_run_ends_with_the_same_weights_and_a_teacher(recipe, tmp_path):
    bank, train = recipe
    stock, plan = small(bank, train)
    bank.render(tmp_path / "bank", stock, progress=False)
    state, whole, parts = (tmp_path / name for name in ("state", "whole.safetensors", "parts.safetensors"))

    run = train.Training(plan, stock)
    assert train.train(run, tmp_path / "bank", tmp_path / "other", progress=False)
    run.export(whole)

    run = train.Training(plan, stock)
    for i, _ in enumerate(run.run(tmp_path / "bank")):
        if i == 1:
            run.save(state)
        if i == 2:
            break  # killed: the third step is lost
    run = train.Training(plan, stock)
    run.load(state)
    assert run.step == 2 and train.train(run, tmp_path / "bank", state, progress=False)
    run.export(parts)
    assert whole.read_bytes() == parts.read_bytes()

    assert whole.stat().st_size <= 6_000_000
    with safe_open(whole, "pt") as file:
        about = json.loads(file.metadata()["about"])
    assert (about["version"], about["step"], about["images_seen"]) == (train.VERSION, 6, 4 * 6 + 2 * 4)
    features = TeacherEncoder("resnet18", weights=whole)(torch.randn(2, 3, 64, 64))
    assert [tuple(f.shape) for f in features] == [(2, 64, 16, 16), (2, 128, 8, 8), (2, 256, 4, 4)]
    assert all(f.isfinite().all() and f.std() > 0 for f in features)


def test_a_state_of_another_recipe_is_refused(recipe, tmp_path):
    bank, train = recipe
    stock, plan = small(bank, train)
    train.Training(plan, stock).save(tmp_path / "state")
    with pytest.raises(ValueError, match="another recipe"):
        train.Training(train.Recipe(steps=7, phases=plan.phases), stock).load(tmp_path / "state")


@pytest.mark.usefixtures("recipe")
def test_the_foreign_region_is_where_the_image_changed():
    from augment import make_batch
    draw = torch.Generator().manual_seed(0)
    images = (255 * torch.rand(32, 3, 64, 64, generator=draw)).byte()
    masks = torch.zeros(32, 1, 64, 64, dtype=torch.uint8)
    masks[:, :, 20:44, 20:44] = 255
    batch = make_batch(images, masks, torch.arange(32), 32, draw)
    assert (batch.foreign.amax((1, 2, 3)) == 0).any()
    assert (batch.visible[batch.foreign == 0] < 1e-6).all()
    assert (batch.share <= batch.foreign).all() and batch.images.isfinite().all()
