"""The metrics are exact: against stored values, scikit-learn, slow code that anyone can check, and arithmetic."""
import json
from math import fsum

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from parity import FIXTURES
from scipy.ndimage import label
from sklearn import metrics as sk

from rdlib.course import agree
from rdlib.metrics import (
    PixelRanking,
    aupro,
    aupro_per_image,
    auroc,
    average_precision,
    f1_max,
    label_regions,
    pro_curve,
    region_shares,
)

STORED = json.loads((FIXTURES / "metrics.json").read_text())


@pytest.fixture(scope="module", params=STORED)
def stored(request):
    """Masks, maps and their stored metrics."""
    with np.load(FIXTURES / "metrics.npz") as file:
        return file[f"{request.param}_masks"], file[f"{request.param}_maps"], STORED[request.param]


def test_stored_values(stored):
    masks, maps, expected = stored
    ranking = PixelRanking(masks, maps)
    for limit, key in ((0.3, "aupro_030"), (0.05, "aupro_005"), (1.0, "aupro_100")):
        assert ranking.aupro(limit) == pytest.approx(expected[key], abs=1e-9, rel=0)
        assert aupro(masks, maps, limit) == pytest.approx(expected[key], abs=1e-9, rel=0)
    assert aupro(masks, maps) == ranking.aupro() == ranking.aupro(0.3)
    for value in (auroc(masks, maps), ranking.auroc()):
        assert value == pytest.approx(expected["pixel_auroc"], abs=1e-9, rel=0)
    for value in (average_precision(masks, maps), ranking.average_precision()):
        assert value == pytest.approx(expected["pixel_ap"], abs=1e-9, rel=0)
    assert aupro_per_image(masks, maps) == pytest.approx(expected["official_per_image_mean"], abs=1e-5, rel=0)


@st.composite
def labelled_maps(draw, dtype=np.float64):
    """Masks (N, H, W) with both classes, and maps of few levels, far apart or close, so that most scores are tied."""
    shape = draw(array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6))
    masks = draw(arrays(bool, shape))
    assume(masks.any() and not masks.all())
    levels, step = draw(st.sampled_from([1, 2, 5, 1000])), draw(st.sampled_from([0.25, 2**-30]))
    return masks, (1 + step * draw(arrays(np.int64, shape, elements=st.integers(-levels, levels)))).astype(dtype)


@given(labelled_maps())
def test_areas_equal_scikit_learns(data):
    masks, maps = data
    ranking, y, s = PixelRanking(masks, maps), masks.ravel(), maps.ravel()
    assert ranking.auroc() == pytest.approx(sk.roc_auc_score(y, s), abs=1e-12)
    assert ranking.average_precision() == pytest.approx(sk.average_precision_score(y, s), abs=1e-12)
    assert auroc(masks, maps) == sk.roc_auc_score(y, s)
    assert average_precision(masks, maps) == sk.average_precision_score(y, s)


@given(labelled_maps(np.float32))
def test_highest_f1_of_all_thresholds(data):
    masks, maps = data
    best = max(sk.f1_score(masks.ravel(), maps.ravel() >= t) for t in np.unique(maps))
    for value, threshold in (f1_max(masks, maps), PixelRanking(masks, maps).f1_max()):
        assert value == pytest.approx(best, abs=1e-12)
        assert value == pytest.approx(sk.f1_score(masks.ravel(), maps.ravel() >= threshold), abs=1e-12)


@given(labelled_maps())
def test_roc_corners_are_what_their_thresholds_give(data):
    masks, maps = data
    fpr, tpr, thresholds = PixelRanking(masks, maps).roc_curve()
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all() and (np.diff(tpr) >= 0).all() and (thresholds[1:] <= thresholds[:-1]).all()
    for x, y, t in zip(fpr, tpr, thresholds, strict=True):
        assert x == pytest.approx((maps[~masks] >= t).mean()) and y == pytest.approx((maps[masks] >= t).mean())
    theirs = zip(*sk.roc_curve(masks.ravel(), maps.ravel(), drop_intermediate=False), strict=True)
    ours = np.stack([fpr, tpr])
    for x, y, t in theirs:  # their curve passes through corners of ours, or runs along a flat piece of it
        level = tpr[np.searchsorted(-thresholds, -t, side="right") - 1]
        assert np.abs(ours.T - (x, y)).sum(1).min() < 1e-12 or y == pytest.approx(level)


def slow_pro_curve(masks, maps):
    """Bergmann et al. word by word: every distinct score is a threshold, every region is looked at by itself."""
    regions = []
    for n, mask in enumerate(masks):
        components, count = label(mask, structure=np.ones((3, 3)))
        regions += [(n, components == i) for i in range(1, count + 1)]
    fpr, pro = [0.0], [0.0]
    for t in sorted(set(maps.ravel()), reverse=True):
        marked = maps >= t
        fpr.append((marked & ~masks).sum() / (~masks).sum())
        pro.append(sum((marked[n] & region).sum() / region.sum() for n, region in regions) / len(regions))
    return fpr, pro


def slow_area(fpr, pro, limit):
    """Trapezoid by trapezoid, the last one cut at the limit."""
    area = 0.0
    for x0, y0, x1, y1 in zip(fpr[:-1], pro[:-1], fpr[1:], pro[1:], strict=True):
        if x1 > limit:
            y1, x1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0), limit
        area += (x1 - x0) * (y0 + y1) / 2
        if x1 == limit:
            break
    return area / limit


@given(labelled_maps(), st.sampled_from([0.01, 0.05, 0.3, 0.5, 1.0]))
def test_aupro_equals_the_slow_and_obvious(data, limit):
    masks, maps = data
    expected = slow_area(*slow_pro_curve(masks, maps), limit)
    assert aupro(masks, maps, limit) == pytest.approx(expected, abs=1e-12)
    assert PixelRanking(masks, maps).aupro(limit) == aupro(masks, maps, limit)


@given(labelled_maps(np.float32))
def test_pro_curve_has_the_slow_curves_corners(data):
    masks, maps = data
    fpr, pro, thresholds = pro_curve(masks, maps)
    slow = np.stack(slow_pro_curve(masks, maps), axis=1)
    assert (fpr[0], pro[0], fpr[-1], pro[-1]) == (0, 0, 1, 1) and (thresholds[1:] <= thresholds[:-1]).all()
    for point in np.stack([fpr, pro], axis=1):
        assert np.abs(slow - point).sum(1).min() < 1e-12
    for t in np.unique(maps[masks]):  # where PRO rises
        here = int(np.flatnonzero(thresholds == t)[0])
        assert pro[here] == pytest.approx(slow[1 + (np.unique(maps) > t).sum(), 1])


def test_curve_of_a_picture_small_enough_for_the_head():
    """Two regions, of 1 and 2 pixels, and four normal pixels; the score 3 is shared by a defect and a normal pixel."""
    masks = np.array([[[1, 0, 1, 1, 0, 0, 0]]], dtype=bool)
    maps = np.array([[[9, 5, 3, 1, 3, 2, 0]]], dtype=float)
    fpr, pro, thresholds = pro_curve(masks, maps)
    assert fpr.tolist() == [0, 0, 0, 0.25, 0.5, 0.75, 0.75, 1]
    assert pro.tolist() == [0, 0, 0.5, 0.5, 0.75, 0.75, 1, 1]
    assert thresholds[[2, 4, 6]].tolist() == [9, 3, 1]
    assert aupro(masks, maps, 0.375) == pytest.approx((0.25 * 0.5 + 0.125 * (0.5 + 0.625) / 2) / 0.375)
    assert auroc(masks, maps) == PixelRanking(masks, maps).auroc() == pytest.approx((4 + 2.5 + 1) / 12)


def test_neighbours_touch_at_corners_and_regions_do_not_cross_images():
    masks = np.zeros((2, 4, 4), dtype=bool)
    masks[0, 0, 0] = masks[0, 1, 1] = masks[0, 2, 2] = masks[1, 2, 2] = True  # a diagonal; and one pixel elsewhere
    maps = np.zeros((2, 4, 4))
    maps[1, 2, 2] = 1  # one of two regions is found before any false alarm, the rest on the diagonal to (1, 1)
    assert aupro(masks, maps, 1.0) == pytest.approx(0.75)
    maps[0, 1, 1] = 1  # a third of the other region
    assert aupro(masks, maps, 1.0) == pytest.approx((1 + 2 / 3) / 2)


def test_regions_and_what_their_pixels_add_to_pro():
    masks = np.zeros((3, 4, 5), dtype=bool)
    masks[0, 0, :4] = masks[0, 2, 1] = masks[0, 3, 2] = masks[2, 1:3, 1:3] = True  # 4 in a row, 2 at a corner; 4
    components, count, shares = label_regions(masks[0])
    assert count == 2 and sorted(np.bincount(components.ravel()).tolist()) == [2, 4, 14]
    assert shares.tolist() == [1 / 4] * 4 + [1 / 2] * 2
    components, count, shares = label_regions(masks[1])
    assert not components.any() and count == 0 and shares.shape == (0,)
    assert region_shares(masks) == pytest.approx(np.array([1 / 4] * 4 + [1 / 2] * 2 + [1 / 4] * 4) / 3)


@given(labelled_maps())
def test_only_the_order_of_the_scores_counts(data):
    masks, maps = data
    ranking = PixelRanking(masks, maps)
    for other in (3 * maps - 7, np.exp(maps / 64), maps**3):
        moved = PixelRanking(masks, other)
        assert (moved.aupro(), moved.auroc()) == (ranking.aupro(), ranking.auroc())
        assert moved.average_precision() == ranking.average_precision() and moved.f1_max()[0] == ranking.f1_max()[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int64, np.float16, np.float32])
def test_scores_of_any_number_type(dtype):
    """Unsigned numbers wrap when negated, and 0 is the score of most pixels in an 8-bit map."""
    draw = np.random.default_rng(0)
    masks, maps = draw.random((3, 9, 9)) > 0.8, draw.integers(0, 9, (3, 9, 9))
    mine, expected = PixelRanking(masks, maps.astype(dtype)), PixelRanking(masks, maps.astype(np.float64))
    assert (mine.auroc(), mine.aupro(), mine.f1_max()) == (expected.auroc(), expected.aupro(), expected.f1_max())
    assert aupro_per_image(masks, maps.astype(dtype)) == pytest.approx(aupro_per_image(masks, maps.astype(float)))


def test_tensors_lists_and_binary_scores():
    masks, maps = torch.tensor([[[True, False], [False, False]]]), torch.tensor([[[0.5, 0.7], [0.1, 0.2]]])
    assert PixelRanking(masks, maps).auroc() == auroc(masks, maps) == pytest.approx(2 / 3)
    assert auroc([0, 1, 1], [0.1, 0.2, 0.05]) == 0.5
    assert average_precision([0, 1], [0, 1]) == 1 and f1_max([0, 1], [3, 4]) == (1, 4)
    assert PixelRanking(masks, maps > 0.6).auroc() == pytest.approx(1 / 3)


def test_25_million_pixels_against_arithmetic():
    """Normal pixels have the ranks 0, 1, 2, ...; a defect pixel of score k - 0.5 is marked when the FPR is 1 - k / n.

    So every defect pixel adds its share of its region times the part of the FPR axis that lies right of that point.
    A float32 running sum would stop counting at 2^24 = 16.8 million.
    """
    masks = np.zeros((96, 512, 512), dtype=bool)
    share = np.zeros(masks.shape)
    for i in range(72):  # the last 24 images are good
        for top, side in ((10, 3 + i), (200, 1 + i % 5)):
            masks[i, top:top + side, 20:20 + side] = True
            share[i, top:top + side, 20:20 + side] = 1 / side**2 / 144
    n = int((~masks).sum())
    assert n > 2**24 and np.gcd(n, 10_000_019) == 1
    maps = np.empty(masks.shape)
    maps[~masks] = np.arange(n) * 10_000_019 % n  # every rank once, in no order
    k = np.random.default_rng(0).integers(int(0.6 * n), n, masks.sum())
    maps[masks] = k - 0.5
    share = share[masks]
    ranking = PixelRanking(masks, maps)
    del maps
    for limit in (0.05, 0.3, 1.0):
        assert ranking.aupro(limit) == pytest.approx(fsum(share * np.maximum(0, 1 - (1 - k / n) / limit)), abs=1e-9)
    assert ranking.auroc() == pytest.approx(fsum(k / n) / len(k), abs=1e-9)


def slow_official(masks, maps):
    """The official per-image PRO as its description has it: 200 thresholds, `>`, below 0.3 only, axis stretched."""
    areas = []
    for mask, scores in zip(masks, maps, strict=True):
        if not mask.any():
            continue
        components, count = label(mask, structure=np.ones((3, 3)))
        fpr, pro = [], []
        for t in np.arange(scores.min(), scores.max(), (scores.max() - scores.min()) / 200, dtype=scores.dtype):
            fpr.append(((scores > t) & ~mask).sum() / (~mask).sum())
            pro.append(np.mean([(scores > t)[components == i].mean() for i in range(1, count + 1)]))
        fpr, pro = np.array(fpr), np.array(pro)
        areas.append(sk.auc(fpr[fpr < 0.3] / fpr[fpr < 0.3].max(), pro[fpr < 0.3]))
    return np.mean(areas)


def test_per_image_pro_is_the_official_function():
    draw = np.random.default_rng(0)
    masks, maps = draw.random((5, 20, 20)) > 0.9, draw.normal(size=(5, 20, 20))
    masks[1] = False
    maps *= draw.uniform(0.1, 10, (5, 1, 1))
    assert aupro_per_image(masks, maps) == pytest.approx(slow_official(masks, maps), abs=1e-12)
    scaled = maps * np.array([1, 100, 7, 0.01, 30])[:, None, None]  # blind to the images' own scales, AUPRO is not
    assert aupro_per_image(masks, scaled) == pytest.approx(aupro_per_image(masks, maps))
    assert aupro(masks, scaled) != pytest.approx(aupro(masks, maps), abs=1e-3)
    whole = draw.integers(0, 201, (5, 20, 20)).astype(float)
    whole[masks] = draw.integers(190, 201, masks.sum())
    whole[:, 0, :2] = 0, 200  # now the thresholds are 0, 1, 2, ..., and many scores equal one
    assert aupro_per_image(masks, whole) == pytest.approx(slow_official(masks, whole), abs=1e-12)


def test_per_image_pro_leaves_out_curves_without_width():
    draw = np.random.default_rng(1)
    masks, maps = draw.random((3, 20, 20)) > 0.9, draw.normal(size=(3, 20, 20))
    expected = aupro_per_image(masks[:1], maps[:1])
    maps[1] = 3.0  # no threshold at all
    maps[2] = masks[2]  # perfect, so no false positive at any threshold
    assert aupro_per_image(masks, maps) == expected
    with pytest.raises(ValueError, match="width"):
        aupro_per_image(masks[1:], maps[1:])
    maps[2] = 0.9925  # between the last two thresholds, 0.99 and 0.995: only the last has an FPR below 0.3
    maps[2][:2], maps[2, 9, 9] = 1.0, 0.0
    assert aupro_per_image(masks, maps) == expected


def test_an_empty_mask_adds_normal_pixels_but_no_region():
    draw = np.random.default_rng(0)
    masks, maps = np.zeros((2, 8, 8), dtype=bool), draw.normal(size=(2, 8, 8))
    masks[0, 2:5, 2:5] = True
    alone = slow_area(*slow_pro_curve(masks[:1], maps[:1]), 0.3)
    both = slow_area(*slow_pro_curve(masks, maps), 0.3)
    assert aupro(masks, maps) == pytest.approx(both) and aupro(masks[:1], maps[:1]) == pytest.approx(alone)
    assert both != pytest.approx(alone)
    maps[1] = -9  # never marked before the last defect pixel
    perfect = np.where(masks, 1.0, maps - 9)
    assert aupro(masks, perfect) == 1
    assert aupro_per_image(masks, maps) == aupro_per_image(masks[:1], maps[:1])


MASK = np.eye(4, dtype=bool)[None]
SCORES = np.arange(16.0).reshape(1, 4, 4)


@pytest.mark.parametrize("function", [auroc, average_precision, f1_max, PixelRanking, pro_curve, aupro,
                                      aupro_per_image])
@pytest.mark.parametrize("masks, maps, words", [
    (MASK, SCORES[:, :3], r"\(1, 4, 4\) and \(1, 3, 4\)"),
    (MASK, SCORES.reshape(4, 1, 4), "shape"),
    (MASK, np.where(SCORES == 5, np.nan, SCORES), "NaN"),
    (MASK, np.where(SCORES == 5, -np.inf, SCORES), "infinity"),
    (np.zeros_like(MASK), SCORES, "normal"), (np.ones_like(MASK), SCORES, "anomalous"),
    (MASK[:0], SCORES[:0], "Both classes"),
])
def test_errors_say_what_is_wrong(function, masks, maps, words):
    with pytest.raises(ValueError, match=words):
        function(masks, maps)


class Elsewhere(torch.Tensor):
    """A tensor on another device, as NumPy sees it: it cannot be read before `cpu()` was called."""

    def numpy(self, *args, **options):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def cpu(self):
        with torch._C.DisableTorchFunctionSubclass():
            return self.as_subclass(torch.Tensor)


def elsewhere(values):
    return torch.tensor(values).as_subclass(Elsewhere)


TENSORS = [elsewhere, lambda values: list(elsewhere(values)), lambda values: torch.tensor(values, dtype=torch.bfloat16),
           lambda values: torch.tensor(values, dtype=torch.float16),
           lambda values: torch.tensor(values, dtype=torch.float32, requires_grad=True)]
FUNCTIONS = [auroc, average_precision, f1_max, pro_curve, aupro, aupro_per_image,
             lambda masks, maps: PixelRanking(masks, maps).auroc()]


def test_the_stand_in_for_another_device_is_one():
    with pytest.raises(TypeError, match="cuda"):
        np.asarray(elsewhere(SCORES))
    with pytest.raises(TypeError, match="cuda"):
        np.asarray(elsewhere(SCORES).detach().float())


@pytest.mark.parametrize("made", TENSORS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_tensors_of_any_device_and_dtype(function, made):
    draw = np.random.default_rng(3)
    masks, maps = draw.random((3, 9, 9)) > 0.8, (draw.integers(0, 64, (3, 9, 9)) / 8).astype(np.float32)  # bf16 too
    np.testing.assert_array_equal(function(made(masks), made(maps)), function(masks, maps))


@pytest.mark.parametrize("made", TENSORS)
def test_answers_of_any_device_and_dtype_are_checked(made):
    agree("n", made(np.array([0.5, 2])), [0.5, 2])
    with pytest.raises(AssertionError, match="Mismatched elements: 1 / 2"):
        agree("n", made(np.array([0.5, 2])), [0.5, 3])


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("value", [2, -1, 0.1, np.nan, 255])
def test_masks_of_other_values_are_refused_with_what_was_found(function, value):
    masks = MASK.astype(float)
    masks[0, 0, 1] = value  # beside zeros and ones
    with pytest.raises(ValueError, match=rf"Masks are bool, .*Found .*{value}"):
        function(masks, SCORES)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_swapped_arguments_and_words_are_refused(function):
    with pytest.raises(ValueError, match=r"Found 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, \.\.\."):
        function(SCORES, MASK)
    with pytest.raises(ValueError, match="Found 'False', 'True'"):
        function(MASK.astype(str), SCORES)
    with pytest.raises(ValueError, match="scores must be numbers"):
        function(MASK, SCORES.astype(str))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_numbers_kept_as_objects_are_numbers(function):
    """So a column of a table with words in it, or with something missing, comes out of pandas."""
    for masks, maps in ((MASK.astype(object), SCORES), (MASK, SCORES.astype(object)),
                        (MASK.astype(int).astype(object), SCORES.astype(object))):
        np.testing.assert_array_equal(function(masks, maps), function(MASK, SCORES))
    with pytest.raises(ValueError, match="Masks are bool, .*Found 0, None"):
        function(np.where(MASK, 0, None), SCORES)


@pytest.mark.parametrize("function", [auroc, average_precision, f1_max])
@pytest.mark.parametrize("labels", [[0, 0, 1, 2], [0, 1, -1, 1], [0, 0, 1, np.nan], [0, 255, 0, 255], [0.9, 0.1, 0, 1],
                                    ["good", "bad", "good", "bad"], [None, 1, 0, 1]])
def test_labels_are_0_and_1(function, labels):
    with pytest.raises(ValueError, match=r"Labels are 0 \(normal\) and 1 \(anomalous\).*Found"):
        function(labels, [0.1, 0.2, 0.3, 0.4])
    assert function([0, 1.0, 0, 1], [1, 2, 3, 4]) == function([False, True, False, True], [1, 2, 3, 4])


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("masks", [255 * MASK.astype(np.uint8), MASK.astype(np.float32), MASK.astype(int)])
def test_masks_may_be_0_and_255_or_0_and_1(function, masks):
    np.testing.assert_array_equal(function(masks, SCORES), function(MASK, SCORES))


@pytest.mark.parametrize("limit", [0, -0.1, 1.01, float("nan")])
def test_limits_outside_the_axis(limit):
    with pytest.raises(ValueError, match="fpr_limit"):
        aupro(MASK, SCORES, limit)
    with pytest.raises(ValueError, match="fpr_limit"):
        PixelRanking(MASK, SCORES).aupro(limit)
