"""The procedural data set keeps its promises: the same scene every time, at every size, and masks that are exact."""
import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from rdlib.synthetic import CATEGORIES, DEFECTS, render, scene_list, stream

KINDS = [(category, defect) for category in CATEGORIES for defect in DEFECTS[category]]


def difference(a, b):
    """The largest difference of the three channels, in grey levels, (H, W)."""
    return np.abs(a.astype(int) - b.astype(int)).max(-1)


def test_there_are_four_kinds_of_each_category():
    assert CATEGORIES == ("weave", "washer")
    assert all(len(set(DEFECTS[category])) == 4 for category in CATEGORIES)


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("size", [64, 101, 256])
def test_size_type_and_range(category, size):
    image, mask = render(category, size=size, seed=1)
    assert image.shape == (size, size, 3) and image.dtype == np.uint8 and image.flags.c_contiguous
    assert mask.shape == (size, size) and mask.dtype == bool and not mask.any()
    assert 40 < image.mean() < 200 and image.std() > 15  # neither black nor burnt out nor flat
    assert (image == 255).mean() < 0.01


@pytest.mark.parametrize("category, defect", KINDS)
def test_the_same_call_gives_the_same_picture(category, defect):
    first, second = (render(category, size=64, seed=3, defect=defect) for _ in range(2))
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])
    other = render(category, size=64, seed=4, defect=defect)
    assert not np.array_equal(first[1], other[1])  # the defect lies elsewhere, or is another


def test_streams_follow_a_rule_that_outlives_the_process():
    assert stream("weave", "scene", 0).integers(10**6, size=3).tolist() == [844675, 936739, 21770]
    assert stream("weave", "cut", 0).integers(10**6, size=3).tolist() != [844675, 936739, 21770]


@pytest.mark.parametrize("category", CATEGORIES)
def test_scenes_of_a_category_differ(category):
    images = [render(category, size=64, seed=seed)[0] for seed in range(6)]
    assert all(difference(images[i], images[j]).mean() > 5 for i in range(6) for j in range(i))


@pytest.mark.parametrize("category, defect", KINDS)
@pytest.mark.parametrize("strength", [0.01, 0.5, 1.0])
def test_masks_are_exact(category, defect, strength):
    for size, seed in ((256, 0), (256, 1), (128, 2), (128, 3), (64, 4)):
        good, _ = render(category, size=size, seed=seed)
        bad, mask = render(category, size=size, seed=seed, defect=defect, strength=strength)
        changed = difference(good, bad)
        assert mask.any() and mask.mean() <= 0.4
        assert not changed[~mask].any()
        assert (changed[mask] >= 2).mean() >= 0.75  # even with its soft edge
        core = binary_erosion(mask, iterations=2 if size == 256 else 1)
        assert not core.any() or (changed[core] >= 2).mean() >= 0.95


@pytest.mark.parametrize("category, defect", KINDS)
def test_defects_can_be_found(category, defect):
    """From 0.5 on neither microscopic nor huge; and the stronger one changes the picture more, at the same place."""
    for seed in range(10, 16):
        good, _ = render(category, size=128, seed=seed)
        total, masks = [], []
        for strength in (0.1, 0.5, 1.0):
            bad, mask = render(category, size=128, seed=seed, defect=defect, strength=strength)
            total.append(difference(good, bad).sum())
            masks.append(mask)
        assert total[0] < total[1] < total[2]
        assert 0.003 <= masks[1].mean() <= masks[2].mean() <= 0.12
        assert (masks[1] & masks[2]).sum() > 0.5 * masks[1].sum()
        assert difference(good, bad)[mask].mean() > 10


@pytest.mark.parametrize("category, defect", KINDS)
def test_another_size_shows_the_same_scene(category, defect):
    (large, large_mask), (small, small_mask) = (render(category, size=s, seed=5, defect=defect) for s in (256, 128))
    other, _ = render(category, size=128, seed=6, defect=defect)
    halved = large.reshape(128, 2, 128, 2, 3).mean((1, 3))
    assert difference(halved, small).mean() < 0.7 * difference(halved, other).mean()
    halved_mask = large_mask.reshape(128, 2, 128, 2).mean((1, 3)) > 0.4
    assert (halved_mask & small_mask).sum() > 0.6 * (halved_mask | small_mask).sum()


@pytest.mark.parametrize("category", CATEGORIES)
def test_parts_of_the_set(category):
    train, test = scene_list(category, "train"), scene_list(category, "test")
    assert len(train) == 200 and all(scene.defect is None for scene in train)
    assert [scene.defect for scene in test[:40]] == [None] * 40
    assert [scene.defect for scene in test[40:]] == list(DEFECTS[category]) * 25
    assert all(0.4 <= scene.strength <= 1 for scene in test[40:])
    assert np.std([scene.strength for scene in test[40:]]) > 0.1
    for other_seed in (0, 1, 7):
        seeds = [scene.seed for scene in train + scene_list(category, "test", other_seed)]
        assert len(set(seeds)) == len(seeds) == 340
    assert scene_list(category, "test") == test != scene_list(category, "test", seed=1)


def test_a_scene_renders_as_the_function_does():
    scene = scene_list("washer", "test", good=1, defective=4)[-1]
    image, mask = scene.render(96)
    same = render("washer", size=96, seed=scene.seed, defect="missing", strength=scene.strength)
    assert np.array_equal(image, same[0]) and np.array_equal(mask, same[1])


@pytest.mark.parametrize("change, words", [
    ({"category": "carpet"}, "weave, washer"),
    ({"defect": "scratch"}, "cut, stain, thread, hole"),
    ({"strength": 0.0}, "strength"), ({"strength": 1.01}, "strength"), ({"strength": float("nan")}, "strength"),
    ({"size": 63}, "64"), ({"seed": -1}, "seed"),
])
def test_errors_say_what_there_is(change, words):
    with pytest.raises(ValueError, match=words):
        render(**{"category": "weave", "size": 64, "seed": 0, "defect": "cut"} | change)


def test_unknown_part_or_category():
    with pytest.raises(ValueError, match="train, test"):
        scene_list("weave", "validation")
    with pytest.raises(ValueError, match="weave, washer"):
        scene_list("carpet", "train")
