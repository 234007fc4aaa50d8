"""Bootstrap intervals: every shortcut against the long way round."""
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score
from test_metrics import elsewhere

from rdlib.evaluation.bootstrap import bootstrap_intervals, pixel_counts, pixel_metrics, resample_weights
from rdlib.evaluation.report import Report
from rdlib.metrics import PixelRanking


def made_up(n, size, seed=0, largest=0.3):
    """A report on n images, every other one with one or two defects, that maps find now and then."""
    draw = np.random.default_rng(seed)
    masks = np.zeros((n, size, size), bool)
    for i in range(0, n, 2):
        for _ in range(1 + i % 4 // 2):
            y, x = draw.integers(0, size, 2)
            h, w = draw.integers(2, max(3, int(largest * size)), 2)
            masks[i, y:y + h, x:x + w] = True
    noise = gaussian_filter(draw.normal(size=masks.shape), (0, 1.5, 1.5)) * draw.uniform(0.5, 2, (n, 1, 1))
    maps = (noise + 0.2 * gaussian_filter(masks.astype(float), (0, 2, 2))).astype(np.float32)
    labels = masks.any((1, 2)).astype(int)
    dataset = SimpleNamespace(labels=labels.tolist(), defect_types=["good"] * n, has_masks=True)
    return Report(dataset, maps, maps.max((1, 2)), masks, 0.3, 0.0)


def test_every_class_keeps_its_size():
    labels = np.array([0, 1, 1, 0, 0, 1, 1])
    weights = resample_weights(labels, 500, seed=0)
    assert weights.shape == (500, 7) and (weights[:, labels == 0].sum(1) == 3).all()
    assert (weights[:, labels == 1].sum(1) == 4).all() and weights.max() > 2
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.15)
    assert np.array_equal(weights, resample_weights(labels, 500, seed=0))
    assert not np.array_equal(weights, resample_weights(labels, 500, seed=1))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=12))
def test_an_image_is_counted_as_one_pixel(scored):
    """The AUROC is that of repeated images. Many scores are equal, and count half."""
    labels = np.arange(len(scored)) % 2
    scores, counts = (np.array(column, float) for column in zip(*scored, strict=True))
    counts[:2] += 1  # both classes are there
    repeated = np.repeat(np.arange(len(scored)), counts.astype(int))
    expected = roc_auc_score(labels[repeated], scores[repeated])
    pixels = pixel_counts(labels[:, None, None], scores[:, None, None])
    assert pixel_metrics(pixels, counts[None], 0.3)[0][0] == pytest.approx(expected, abs=1e-12)


def long_way(report, weights):
    """Pixel AUROC and AUPRO of the images repeated and ranked anew."""
    repeated = np.repeat(np.arange(len(weights)), weights.astype(int))
    ranking = PixelRanking(report.masks[repeated], report.maps[repeated])
    return ranking.auroc(), ranking.aupro(0.3)


def test_few_defect_pixels_are_counted_without_loss():
    report = made_up(10, 24, largest=0.25)
    assert report.masks.sum() < 1024
    weights = resample_weights(report.labels, 20, seed=0)
    found = pixel_metrics(pixel_counts(report.masks, report.maps), weights, 0.3)
    np.testing.assert_allclose(np.transpose(found), [long_way(report, w) for w in weights], atol=1e-12)


def test_many_pixels_are_counted_almost_without_loss():
    report = made_up(24, 96, largest=0.6)
    assert report.masks.sum() > 10_000
    weights = resample_weights(report.labels, 8, seed=0)
    found = pixel_metrics(pixel_counts(report.masks, report.maps), weights, 0.3)
    np.testing.assert_allclose(np.transpose(found), [long_way(report, w) for w in weights], atol=5e-5)


def test_equal_scores_fall_together():
    report = made_up(8, 24)
    coarse = replace(report, maps=np.round(report.maps * 3).astype(np.float32))
    weights = resample_weights(report.labels, 5, seed=0)
    found = pixel_metrics(pixel_counts(coarse.masks, coarse.maps), weights, 0.3)
    np.testing.assert_allclose(np.transpose(found), [long_way(coarse, w) for w in weights], atol=1e-12)


def test_intervals_are_the_percentiles_of_the_long_way():
    report = made_up(12, 24)
    table = bootstrap_intervals(report, n_resamples=60, level=0.9, seed=3)
    weights = resample_weights(report.labels, 60, seed=3)
    repeated = [np.repeat(np.arange(12), w.astype(int)) for w in weights]
    values = {"image_auroc": [roc_auc_score(report.labels[r], report.scores[r]) for r in repeated]}
    values["pixel_auroc"], values["aupro"] = zip(*(long_way(report, w) for w in weights), strict=True)
    for name, row in table.iterrows():
        np.testing.assert_allclose(row[["low", "high"]].astype(float), np.percentile(values[name], [5, 95]), atol=1e-10)
        assert row["value"] == getattr(report, name) and row["low"] < row["value"] < row["high"]
        assert row["binning"] < 1e-12
    assert list(table.index) == ["image_auroc", "pixel_auroc", "aupro"]


def test_more_images_make_narrower_intervals():
    few, many = (bootstrap_intervals(made_up(n, 32), 300) for n in (12, 120))
    assert ((many.high - many.low) < 0.6 * (few.high - few.low)).all()


def test_a_whole_test_set_takes_seconds():
    report = made_up(140, 128)
    report.pixels, report.image_auroc  # noqa: B018 - known already after an evaluation
    began = time.process_time()
    table = bootstrap_intervals(report)
    assert time.process_time() - began < 10
    assert table.binning.max() < 2e-5


def test_metrics_without_meaning_have_no_interval():
    report = made_up(6, 24)
    blind = replace(report, dataset=SimpleNamespace(**vars(report.dataset) | {"has_masks": False}))
    table = bootstrap_intervals(blind, 20)
    assert table.loc[["pixel_auroc", "aupro"]].isna().all(axis=None) and table.loc["image_auroc"].notna().all()
    good = replace(report, dataset=SimpleNamespace(labels=[0] * 6, defect_types=["good"] * 6, has_masks=False))
    assert bootstrap_intervals(good, 20).isna().all(axis=None)


def test_resamples_without_any_region_are_left_out():
    """Labels come from folders: a defective image may have an empty mask."""
    report = made_up(6, 24)
    report.masks[[2, 4]] = False
    assert bootstrap_intervals(report, 200).notna().all(axis=None)


def test_tensors_of_another_device():
    report = made_up(8, 24)
    other = replace(report, maps=elsewhere(report.maps), scores=elsewhere(report.scores), masks=elsewhere(report.masks))
    assert bootstrap_intervals(other, 20).equals(bootstrap_intervals(report, 20))
    weights, labels = resample_weights(report.labels, 5, seed=0), elsewhere(report.labels)
    assert np.array_equal(resample_weights(labels, 5, seed=0), weights)
    one, two = (pixel_counts(f(report.masks), f(report.maps)) for f in (np.asarray, elsewhere))
    assert all(map(np.array_equal, one, two))


def test_what_is_no_label_score_or_mask_is_refused():
    report = made_up(4, 24)
    with pytest.raises(ValueError, match="Labels are 0 .*Found 0, 1, 2"):
        resample_weights([0, 1, 2, 1], 1, seed=0)
    with pytest.raises(ValueError, match="NaN"):
        pixel_counts(report.masks, report.maps * np.nan)
    with pytest.raises(ValueError, match="Masks are bool"):
        pixel_counts(report.masks * 0.5, report.maps)


@pytest.mark.parametrize("options", [{"n_resamples": 0}, {"level": 0}, {"level": 1}])
def test_intervals_that_there_are_not(options):
    with pytest.raises(ValueError, match=r"n_resamples must be a whole number from 1|level must be a number in"):
        bootstrap_intervals(made_up(4, 24), **options)
