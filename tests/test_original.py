"""Pixel metrics at the size of each mask file, against another road to maps, masks and metrics."""
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label, map_coordinates
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from torch.utils.data import ConcatDataset, DataLoader, Subset

from rdlib import Report, ReverseDistillation, evaluate, load_dataset
from rdlib.datasets.samples import AnomalyDataset
from rdlib.evaluation import bootstrap_intervals
from rdlib.figures import gallery, roc_and_pro
from rdlib.metrics import PixelRanking, aupro_per_image
from rdlib.utils.errors import DataError

SIZES = [(150, 90), (64, 130)]  # higher and wider than the other, and than the model's size
PIXEL_METRICS = ("pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro", "aupro_per_image")


def folder_of(root, sizes):
    """Good images and two defect types of alternating size, the last one without a mask; masks have thin lines."""
    draw = np.random.default_rng(0)
    for kind, number in (("train/good", 2), ("test/good", 2), ("test/spot", 4), ("test/line", 3)):
        for i in range(number):
            size = sizes[i % len(sizes)]
            image, mask = draw.integers(90, 140, (*size, 3), dtype=np.uint8), np.zeros(size, np.uint8)
            if "spot" in kind:
                mask[20 + 5 * i:40 + 3 * i, 30:50] = mask[5:9, 5:9] = 255
            elif "line" in kind:
                mask[:, 40] = mask[50:54] = 255
            image[mask > 0] += draw.integers(0, 100, (mask > 0).sum(), dtype=np.uint8)[:, None]
            for folder, values in [(kind, image), (kind.replace("test", "ground_truth"), mask)][:1 + mask.any()]:
                path = root / folder / f"{i}{'_mask' * (values is mask)}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(path)
    (root / "ground_truth/line/2_mask.png").unlink()
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("two sizes"), SIZES)


@pytest.fixture(scope="module")
def test(root):
    return loaded(root)


def loaded(root, size=(64, 96)):
    with pytest.warns(UserWarning, match="without a mask"):
        return load_dataset(f"folder:{root}", size=size).test


@pytest.fixture(scope="module")
def model():
    return ReverseDistillation("resnet18", sigma=1.5)


@pytest.fixture(scope="module")
def report(model, test):
    return evaluate(model, test, progress=False, at="original")


@pytest.fixture(scope="module")
def truth(report, test):
    """Maps and masks of the images whose pixels are known, made by Pillow and scipy."""
    maps, masks = [], []
    for sample, small in zip(test.samples, report.maps, strict=True):
        if sample.defect == "good" or sample.masks:
            with Image.open((*sample.masks, sample.path)[0]) as file:
                mask = np.asarray(file) > 0 if sample.masks else np.zeros((file.height, file.width), bool)
            lines = [((np.arange(new) + 0.5) * old / new - 0.5).clip(0, old - 1)
                     for old, new in zip(small.shape, mask.shape, strict=True)]
            grid = np.meshgrid(*lines, indexing="ij")
            maps.append(map_coordinates(small.astype(float), grid, order=1))
            masks.append(mask)
    return maps, masks


def flat(images):
    return np.concatenate([image.ravel() for image in images])


def test_pixel_metrics_are_those_of_the_files_own_sizes(report, truth):
    maps, masks = truth
    assert {mask.shape for mask in masks} == {*SIZES} and len(masks) == 8
    scores, defect = flat(maps), flat(masks)
    assert report.pixel_auroc == pytest.approx(roc_auc_score(defect, scores), abs=1e-6)
    assert report.pixel_ap == pytest.approx(average_precision_score(defect, scores), abs=1e-5)
    precision, recall, _ = precision_recall_curve(defect, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert report.pixel_f1_max == pytest.approx(f1.max(), abs=1e-5)
    per_image = [aupro_per_image(mask[None], one[None].astype(np.float32)) for mask, one
                 in zip(masks, maps, strict=True) if mask.any()]
    assert report.aupro_per_image == pytest.approx(np.mean(per_image), abs=1e-3)


def test_aupro_is_that_of_the_files_own_sizes(report, truth):
    """The mean of the regions' marked shares, at every 50th score of a defect pixel."""
    maps, masks = truth
    regions = [scores[numbers == number] for mask, scores in zip(masks, maps, strict=True)
               for numbers, count in [label(mask, np.ones((3, 3)))] for number in range(1, count + 1)]
    assert len(regions) == 2 * 4 + 2
    normal = np.sort(flat(maps)[~flat(masks)])
    thresholds = np.sort(np.concatenate(regions))[::-50]
    fpr = 1 - np.searchsorted(normal, thresholds) / len(normal)
    pro = np.mean([[(region >= threshold).mean() for threshold in thresholds] for region in regions], axis=0)
    fpr, pro = np.append(0, fpr), np.append(0, pro)
    inside = fpr <= 0.3
    fpr, pro = np.append(fpr[inside], 0.3), np.append(pro[inside], np.interp(0.3, fpr, pro))
    assert report.aupro == pytest.approx(np.trapezoid(pro, fpr) / 0.3, abs=2e-3)


def test_image_scores_maps_and_masks_stay_at_the_models_size(report, model, test):
    usual = evaluate(model, test, progress=False)
    assert report.maps.shape == (9, 64, 96) and np.array_equal(report.maps, usual.maps)
    assert np.array_equal(report.scores, usual.scores) and np.array_equal(report.masks, usual.masks)
    assert report.image_auroc == usual.image_auroc
    assert all(getattr(report, name) != getattr(usual, name) for name in PIXEL_METRICS)
    assert "\n  at: original" in repr(report) and "\n  at:" not in repr(usual) and usual.at == "model"


def test_files_of_the_models_size_have_the_same_metrics(model, tmp_path):
    test = loaded(folder_of(tmp_path, [(64, 96)]))
    one, other = (evaluate(model, test, progress=False, at=at) for at in ("model", "original"))
    assert one.metrics == other.metrics and not np.isnan(list(one.metrics.values())).any()
    assert one.per_defect().equals(other.per_defect())


def test_each_type_and_the_intervals_are_at_the_files_own_sizes(report, truth):
    maps, masks = truth
    chosen = np.flatnonzero(report.defect_types[~report.unknown.all((1, 2))] != "spot")
    expected = roc_auc_score(flat([masks[i] for i in chosen]), flat([maps[i] for i in chosen]))
    assert report.per_defect().loc["line", "pixel_auroc"] == pytest.approx(expected, abs=1e-6)
    table = bootstrap_intervals(report, 5)
    assert table.loc["aupro", "value"] == report.aupro and table["binning"].max() < 0.005


def test_subsets_and_loaders_of_files_are_taken(model, test, report):
    for dataset in (Subset(test, range(9)), DataLoader(test, 4), ConcatDataset([test])):
        assert evaluate(model, dataset, progress=False, at="original").pixel_auroc == pytest.approx(
            report.pixel_auroc, abs=1e-6)


def test_figures_show_the_models_size(report):
    assert "best pixel F1" in gallery(report, n=3).summary
    assert f"AUPRO {report.aupro:.3f}" in roc_and_pro(report).summary


class Cropped(AnomalyDataset):
    """Items that may differ from the files."""


def test_data_without_mask_files_are_refused(model, test):
    drawn = load_dataset("synthetic/weave", size=64).test
    others = [drawn.subset([0, 30]), [test[0], test[8]], Cropped(test.samples, test.size),
              AnomalyDataset(test.samples, test.size, has_masks=False),
              AnomalyDataset([*test.samples, drawn.samples[0]], test.size)]
    for dataset in others:
        with pytest.raises(ValueError, match="at='original' needs mask files.*at='model'"):
            evaluate(model, dataset, progress=False, at="original")


@pytest.mark.parametrize("at", ["mask", None, 256])
def test_another_size_is_refused_before_any_work(model, test, report, at, monkeypatch):
    monkeypatch.setattr(model, "predict", None)
    for refused in (lambda: evaluate(model, test, at=at), lambda: replace(report, at=at)):
        with pytest.raises(ValueError, match=f"no at '{at}'. Choose one of: model, original"):
            refused()


def test_a_saved_report_is_loaded_with_its_files_only(report, test, tmp_path):
    report.save(tmp_path / "report.npz")
    again = Report.load(tmp_path / "report.npz", test)
    assert again.at == "original" and again.metrics == report.metrics and repr(again) == repr(report)
    with pytest.raises(ValueError, match=r"needs mask files.*Report.load\(path, data.test\)"):
        Report.load(tmp_path / "report.npz")
    with np.load(tmp_path / "report.npz") as file:
        np.savez(tmp_path / "foreign.npz", **{**file, "at": "elsewhere"})
    with pytest.raises(DataError, match="cannot be read as a report.*no at 'elsewhere'"):
        Report.load(tmp_path / "foreign.npz", test)


def test_nothing_counts_outside_an_image(report):
    masks, maps, unknown = report.pixel_arrays()
    assert masks.shape == maps.shape == unknown.shape == (9, 150, 130) and maps.dtype == np.float32
    outside = np.ones_like(masks)
    for i, sample in enumerate(report.dataset.samples):
        with Image.open(sample.path) as file:
            outside[i, :file.height, :file.width] = sample.defect != "good" and not sample.masks
    assert np.array_equal(unknown, outside) and not masks[unknown].any()
    assert PixelRanking(masks, maps + 99 * unknown, unknown).aupro() == report.aupro
