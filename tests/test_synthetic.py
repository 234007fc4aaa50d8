"""The procedural benchmark keeps its promises: frozen pixels, exact masks, the same scene at every size."""
import json
import multiprocessing
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from freeze_synthetic import RECORD, of_kinds, of_split
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion
from sklearn.metrics import roc_auc_score

from rdlib import load_dataset
from rdlib.synthetic.export import export
from rdlib.synthetic.noise import (
    angle,
    blur,
    cell_distances,
    cosine,
    smooth_noise,
    spline_weights,
    stream,
    uniform,
)
from rdlib.synthetic.scenes import (
    CATEGORIES,
    DEFECTS,
    OBJECTS,
    TEXTURES,
    Scene,
    build_surface,
    damaged,
    render,
    scene_list,
    shown,
    visible,
)
from rdlib.utils.errors import DataError

KINDS = [(category, defect) for category in CATEGORIES for defect in DEFECTS[category]]
LOGICAL = [("gear", "missing_hole"), ("capsule", "misprint"), ("connector", "missing_pin"), ("blister", "empty"),
           ("blister", "wrong_tablet")]
FROZEN = json.loads(RECORD.read_text(encoding="utf-8"))


def difference(a, b):
    """The largest difference of the three channels, in gray levels, (H, W)."""
    return np.abs(a.astype(int) - b.astype(int)).max(-1)


def test_what_there_is():
    assert len(TEXTURES) >= 4 and len(OBJECTS) >= 4 and len(CATEGORIES) >= 8
    assert all(len(set(kinds)) >= 4 for kinds in DEFECTS.values())
    assert all(kind in DEFECTS[category] for category, kind in LOGICAL)


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_kind_is_frozen(category):
    assert of_kinds(category) == FROZEN["kinds at 256"][category]


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_default_split_is_frozen(category):
    assert of_split(category) == FROZEN["default split at 128"][category]


OLDER = """
import json
from freeze_synthetic import CATEGORIES, of_kinds
from threadpoolctl import threadpool_info
print(json.dumps({c: of_kinds(c) for c in CATEGORIES}))
print([library["architecture"] for library in threadpool_info() if library["user_api"] == "blas"])
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names processors of the x86-64 family")
@pytest.mark.parametrize("core, without", [
    ("Nehalem", "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V3 X86_V4"),
    ("Haswell", "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V4"),
])
def test_older_processors_give_the_same_pixels(core, without):
    """numpy and its BLAS made to do without the newer instructions, as they would on an older machine."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", OLDER], cwd=Path(__file__).parent, text=True,
                          env=os.environ | {"OPENBLAS_CORETYPE": core, "NPY_DISABLE_CPU_FEATURES": without},
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    answer, cores = done.stdout.splitlines()
    assert core in cores  # the wish was heard
    assert json.loads(answer) == FROZEN["kinds at 256"]


def test_threads_may_render_at_once():
    alone = [scene.render(64)[0] for scene in scene_list("gear", "train", train=24)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda scene: scene.render(64)[0], scene_list("gear", "train", train=24)))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_streams_follow_a_rule_that_outlives_the_process():
    assert stream("weave", "scene", seed=0).integers(10**6, size=3).tolist() == [844675, 936739, 21770]
    assert stream("weave", "cut", seed=0).integers(10**6, size=3).tolist() != [844675, 936739, 21770]


def test_tables_and_polynomials_are_close_to_what_they_stand_for():
    turns = np.linspace(-1.5, 1.5, 4001)
    assert np.abs(cosine(turns) - np.cos(2 * np.pi * turns)).max() < 0.002
    dx, dy = np.cos(2 * np.pi * turns[turns >= 0][:1300]), np.sin(2 * np.pi * turns[turns >= 0][:1300])
    assert np.abs(angle(dx, dy) - turns[turns >= 0][:1300]).max() < 0.00002


@pytest.mark.parametrize("size, rows, columns", [(64, 9, 21), (256, 200, 6), (256, 130, 130)])
def test_smooth_noise_is_the_product_of_whole_numbers(size, rows, columns):
    noise = smooth_noise(stream("a", seed=1), size, rows, columns)
    knots = stream("a", seed=1).integers(-127, 128, (rows + 3, columns + 3))
    exact = spline_weights(size, rows).astype(int) @ knots @ spline_weights(size, columns).astype(int).T
    assert np.abs(exact).max() < 2**24 and spline_weights(size, rows).sum(1).max() <= 257
    assert np.array_equal(noise, exact.astype(np.float32) * np.float32(1.7 / (127 * 256 * 256)))
    assert noise.dtype == np.float32 and 0.2 < noise.std() < 0.8 and abs(noise.mean()) < 0.3


def test_blur_keeps_the_amount_and_moves_it():
    spot = np.zeros((128, 128), np.float32)
    spot[60:64, 60:64] = 1
    soft = blur(spot, 0.05, (0.1, -0.05))
    rows, columns = np.mgrid[:128, :128]
    assert 0.85 < soft.sum() / spot.sum() < 1.01
    assert abs((soft * columns).sum() / soft.sum() - (61.5 + 12.8)) < 0.6
    assert abs((soft * rows).sum() / soft.sum() - (61.5 - 6.4)) < 0.6


def test_cell_distances_equal_the_search_through_all_points():
    rng = stream("cells", seed=0)
    u, v = uniform(rng, 4, 9, (50, 1)), uniform(rng, 4, 9, (1, 60))
    points = uniform(stream("points", seed=3), 0.1, 0.9, (2, 128 * 128)).reshape(2, 128, 128)
    centres = np.arange(128)
    x, y = points[0] + centres, points[1] + centres[:, None]
    squares = (u[..., None, None] - x) ** 2 + (v[..., None, None] - y) ** 2
    nearest = np.sqrt(np.sort(squares[:, :, 2:11, 2:11].reshape(50, 60, -1), -1)[..., :2])
    first, second = cell_distances(stream("points", seed=3), *np.broadcast_arrays(u, v))
    assert np.abs(first - nearest[..., 0]).max() < 1e-5
    assert np.mean(np.abs(second - nearest[..., 1]) < 1e-5) > 0.98  # the second may lie two cells away, seldom


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("size", [64, 101, 256])
def test_size_type_and_range(category, size):
    image, mask = render(category, size=size, seed=1)
    assert image.shape == (size, size, 3) and image.dtype == np.uint8 and image.flags.c_contiguous
    assert mask.shape == (size, size) and mask.dtype == bool and not mask.any()
    assert 40 < image.mean() < 200 and image.std() > 10  # neither black nor burnt out nor flat
    assert (image == 255).mean() < 0.02
    assert build_surface(category, 1, size, None).image.dtype == np.float32  # a float64 would be slow, and is a slip


@pytest.mark.parametrize("category", CATEGORIES)
def test_scenes_of_a_category_differ(category):
    images = [render(category, size=64, seed=seed)[0] for seed in range(6)]
    assert all(difference(images[i], images[j]).mean() > 4 for i in range(6) for j in range(i))


@pytest.mark.parametrize("category, defect", KINDS)
@pytest.mark.parametrize("strength", [0.05, 0.5, 1.0])
def test_masks_are_exact(category, defect, strength):
    for size, seed in ((256, 0), (256, 1), (128, 2), (128, 3), (96, 4)):
        good, _ = render(category, size=size, seed=seed)
        bad, mask = render(category, size=size, seed=seed, defect=defect, strength=strength)
        changed = difference(good, bad)
        assert 0 < mask.mean() <= 0.4
        assert not changed[~mask].any()
        core = binary_erosion(mask, iterations=2 if size == 256 else 1)
        for region in (mask, core):
            assert not region.any() or (changed[region] >= 2).mean() >= 0.95


@pytest.mark.parametrize("category, defect", KINDS)
@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_masks_hold_what_was_painted(category, defect, strength):
    """Outside the mask the good picture is put back; what a defect of the benchmark loses by that is little."""
    good = build_surface(category, 2, 128, None)
    picture, faulty = (shown(image, good.lamp) for image in (good.image, damaged(good, category, 2, defect, strength)))
    painted = np.abs(faulty - picture).max(0)
    _, mask = render(category, size=128, seed=2, defect=defect, strength=strength)
    assert painted[~mask].sum() <= 0.1 * painted.sum()
    assert (painted[~mask] >= 2).sum() <= 0.1 * (painted >= 2).sum()


@pytest.mark.parametrize("category, defect", KINDS)
def test_defects_can_be_found(category, defect):
    """In the default test set at 128 x 128: none without a mask, none microscopic or huge, most of them plain."""
    scenes = [scene for scene in scene_list(category, "test") if scene.defect == defect]
    plain = 0
    for scene in scenes:
        image, mask = scene.render(128)
        good, _ = render(category, size=128, seed=scene.seed)
        assert 15 <= mask.sum() <= 0.2 * mask.size, scene
        plain += difference(good, image)[mask].mean() > 12
    assert plain >= 0.8 * len(scenes)


@pytest.mark.parametrize("category, defect", [pair for pair in KINDS if pair not in LOGICAL])
def test_strength_makes_it_worse(category, defect):
    """On the average over places; a logical defect is there or not."""
    totals = np.zeros(3)
    for seed in range(10, 18):
        good, _ = render(category, size=128, seed=seed)
        totals += [difference(good, render(category, size=128, seed=seed, defect=defect, strength=s)[0]).sum()
                   for s in (0.1, 0.5, 1.0)]
    assert totals[0] < totals[1] < totals[2]


@pytest.mark.parametrize("category, defect", LOGICAL)
def test_logical_defects_do_not_depend_on_strength(category, defect):
    weak, strong = (render(category, size=96, seed=4, defect=defect, strength=s)[0] for s in (0.1, 1.0))
    assert np.array_equal(weak, strong)


@pytest.mark.parametrize("category", CATEGORIES)
def test_light_and_colour_alone_do_not_give_it_away(category):
    """An image's mean color must not tell good from defective: that would be a task without localization."""
    test = [(scene.render(64)[0].mean((0, 1)), scene.defect is not None) for scene in scene_list(category, "test")]
    means, labels = np.array([m for m, _ in test]), np.array([label for _, label in test])
    centre = means[~labels].mean(0)
    assert roc_auc_score(labels, np.abs(means - centre).max(1)) < 0.75


@pytest.mark.parametrize("category, defect", KINDS)
def test_another_size_shows_the_same_scene(category, defect):
    (large, large_mask), (small, small_mask) = (
        render(category, size=s, seed=5, defect=defect, strength=0.9) for s in (256, 128))
    other, _ = render(category, size=128, seed=6, defect=defect)
    halved = large.reshape(128, 2, 128, 2, 3).mean((1, 3))
    assert difference(halved, small).mean() < 0.7 * difference(halved, other).mean()
    halved_mask = large_mask.reshape(128, 2, 128, 2).mean((1, 3)) > 0.4
    assert (halved_mask & small_mask).sum() > 0.5 * (halved_mask | small_mask).sum()


@pytest.mark.parametrize("category", CATEGORIES)
def test_defects_keep_their_place_at_every_size(category):
    """In the default split, but for one: the blocked hole of a sheet is chosen by pixel, and seed 121 falls between."""
    for scene in scene_list(category, "test")[40:]:
        large, small = scene.render(128)[1].reshape(64, 2, 64, 2).any((1, 3)), scene.render(64)[1]
        if (category, scene.defect, scene.seed) != ("mesh", "blocked", 121):
            assert (binary_dilation(large, iterations=2) & small).sum() > 0.5 * small.sum(), scene


def test_what_one_grey_level_or_one_pixel_changes_is_not_seen():
    difference = np.zeros((9, 9), np.float32)
    difference[2:5, 2:5], difference[7, :], difference[0, 8] = 2, 9, 9  # a square, a line one pixel wide, a corner
    expected = np.zeros((9, 9), bool)
    expected[2:5, 2:5] = True
    expected[[2, 2, 4, 4], [2, 4, 2, 4]] = False  # a square's corners have but four of nine
    assert np.array_equal(visible(difference), expected)
    assert not visible(np.full((9, 9), 1.9, np.float32)).any() and visible(np.full((9, 9), 2.0, np.float32))[4, 4]


@pytest.mark.parametrize("category", CATEGORIES)
def test_parts_of_the_set(category):
    train, test = scene_list(category, "train"), scene_list(category, "test")
    kinds = DEFECTS[category]
    assert len(train) == 200 and all(scene.defect is None for scene in train)
    assert [scene.defect for scene in test[:40]] == [None] * 40
    assert [scene.defect for scene in test[40:]] == [kinds[k % len(kinds)] for k in range(100)]
    assert all(0.4 <= scene.strength <= 1 for scene in test[40:])
    assert np.std([scene.strength for scene in test[40:]]) > 0.1
    for other_seed in (0, 1, 7):
        seeds = [scene.seed for scene in train + scene_list(category, "test", other_seed)]
        assert len(set(seeds)) == len(seeds) == 340
    assert scene_list(category, "test") == test != scene_list(category, "test", seed=1)


def test_a_scene_renders_as_the_function_does():
    scene = scene_list("gear", "test", good=1, defective=1)[-1]
    image, mask = scene.render(96)
    same = render("gear", size=96, seed=scene.seed, defect="broken_tooth", strength=scene.strength)
    assert np.array_equal(image, same[0]) and np.array_equal(mask, same[1])


@pytest.mark.parametrize("change, words", [
    ({"category": "carpet"}, "weave, leather"),
    ({"defect": "scratch"}, "cut, hole, stain, thread"),
    ({"strength": 0.0}, "strength"), ({"strength": 1.01}, "strength"), ({"strength": float("nan")}, "strength"),
    ({"size": 63}, "64"), ({"seed": -1}, "seed"),
])
def test_errors_say_what_there_is(change, words):
    with pytest.raises(ValueError, match=words):
        render(**{"category": "weave", "size": 64, "seed": 0, "defect": "cut"} | change)


def test_unknown_part_or_category():
    with pytest.raises(ValueError, match="train, test"):
        scene_list("weave", "validation")
    with pytest.raises(ValueError, match="weave, leather"):
        scene_list("carpet", "train")
    for wrong in ({"seed": -1}, {"train": -3}, {"train": 100_001}, {"good": 60_000, "defective": 60_000}):
        with pytest.raises(ValueError, match="100000|must be a whole number from 0"):
            scene_list("weave", "train", **wrong)


def test_export_writes_what_an_mvtec_loader_reads(tmp_path):
    run = subprocess.run([sys.executable, "-m", "rdlib", "synthetic", str(tmp_path), "--category", "connector",
                          "--size", "64"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == str(tmp_path / "connector")
    assert not list(tmp_path.glob(".*"))
    read, direct = load_dataset("mvtec/connector", root=tmp_path, size=64), load_dataset("synthetic/connector", size=64)
    assert len(read.train) == 200 and len(read.test) == 140
    assert all((read.train[k].image == direct.train[k].image).all() for k in (0, 7, 199))
    of_kind = {kind: [k for k, name in enumerate(direct.test.defect_types) if name == kind]
               for kind in ("good", *DEFECTS["connector"])}
    for kind, places in of_kind.items():
        same = [k for k, name in enumerate(read.test.defect_types) if name == kind]
        assert len(same) == len(places)
        for a, b in zip(same, places, strict=True):
            assert (read.test[a].image == direct.test[b].image).all()
            assert (read.test[a].mask == direct.test[b].mask).all()
    mask = np.array(Image.open(next((tmp_path / "connector/ground_truth/bent_pin").glob("*_mask.png"))))
    assert mask.ndim == 2 and set(np.unique(mask)) == {0, 255}
    command = [sys.executable, "-m", "rdlib", "synthetic", str(tmp_path), "--category", "connector", "--size"]
    again = subprocess.run([*command, "64"], capture_output=True, text=True)  # goes on after a stop
    assert again.returncode == 0 and "exists already" in again.stderr and not again.stdout
    assert subprocess.run([*command, "--jobs"], capture_output=True).returncode == 2


def test_export_refuses_to_overwrite_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    def breaks(self, size):
        raise OSError("disk full")

    (tmp_path / "wood").mkdir()
    with pytest.raises(DataError, match="exists already"):
        export("wood", tmp_path, size=64, progress=False)
    for wrong in ({"size": 8}, {"jobs": 0}):
        with pytest.raises(ValueError, match="(size must be a whole number from 64|jobs .* from 1) to .*got "):
            export("mesh", tmp_path, progress=False, **wrong)
    monkeypatch.setattr(Scene, "render", breaks)  # the workers are forked where they can be
    if multiprocessing.get_start_method() == "fork":
        with pytest.raises(OSError, match="disk full"):
            export("mesh", tmp_path, size=64, jobs=1, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["wood"]
    with pytest.raises(ValueError, match="weave, leather"):
        export("carpet", tmp_path)
