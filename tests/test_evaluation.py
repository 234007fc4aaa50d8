"""One report object: maps, scores and metrics of a test set, whole and by kind of defect."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from rdlib import ReverseDistillation, evaluate, load_dataset
from rdlib.samples import AnomalyDataset


@pytest.fixture(scope="module")
def data():
    """Sixteen test images of the fabric: four good, twelve defective."""
    test = load_dataset("synthetic/weave", size=64).test
    return AnomalyDataset(test.samples[:4] + test.samples[-12:], test.size)


@pytest.fixture(scope="module")
def model():
    return ReverseDistillation("resnet18", sigma=1.5)


@pytest.fixture(scope="module")
def report(model, data):
    return evaluate(model, data, batch_size=5, progress=False)


def test_maps_are_the_models_by_another_road(model, data, report):
    """One image at a time, eq. 1 written out, scipy's smoothing."""
    model.eval()
    for i in (0, 7):
        with torch.no_grad():
            teacher, student = model(data[i].image[None])
        total = 0
        for t, s in zip(teacher, student):
            distance = 1 - (t * s).sum(1) / (t.norm(dim=1) * s.norm(dim=1))
            total = total + torch.nn.Upsample((64, 64), mode="bilinear", align_corners=True)(distance[None])[0, 0]
        expected = gaussian_filter(total.numpy(), 1.5)
        np.testing.assert_allclose(report.maps[i], expected, atol=1e-5)
        assert report.scores[i] == pytest.approx(expected.max(), abs=1e-5)


def test_metrics_against_scikit_learn(data, report):
    masks = np.stack([data[i].mask.numpy() for i in range(16)])
    assert report.metrics["image_auroc"] == roc_auc_score(data.labels, report.scores)
    assert report.metrics["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), report.maps.ravel()), abs=1e-12)
    assert set(report.metrics) == set(report.METRICS) and all(0 <= v <= 1 for v in report.metrics.values())


def test_per_defect_judges_one_kind_against_all_good(data, report):
    table = report.per_defect()
    assert list(table.index) == ["cut", "hole", "stain", "thread"] and table["images"].tolist() == [3, 3, 3, 3]
    chosen = (report.defects == "stain") | (report.labels == 0)
    expected = roc_auc_score(report.labels[chosen], report.scores[chosen])
    assert table.loc["stain", "image_auroc"] == expected


def test_evaluate_leaves_the_mode_and_the_gradients_alone(model, data):
    model.train()
    evaluate(model, data, progress=False)
    assert model.ocbe.training and all(p.grad is None for p in model.parameters())


def test_batches_do_not_matter(model, data, report):
    again = evaluate(model, data, batch_size=16, progress=False)
    np.testing.assert_allclose(again.maps, report.maps, atol=1e-5)


def test_without_masks_there_are_no_pixel_metrics(model, data):
    blind = AnomalyDataset(data.samples, data.size, has_masks=False)
    metrics = evaluate(model, blind, progress=False).metrics
    assert np.isnan(metrics["aupro"]) and np.isnan(metrics["pixel_auroc"]) and metrics["image_auroc"] >= 0


def test_only_good_images(model, data):
    report = evaluate(model, AnomalyDataset(data.samples[:3], data.size), progress=False)
    assert np.isnan(report.image_auroc) and np.isnan(report.aupro) and report.per_defect().empty


def test_metrics_without_meaning_are_nan_and_the_others_stay(report):
    perfect = replace(report, maps=report.masks.astype(np.float32))
    assert np.isnan(perfect.aupro_per_image) and perfect.pixel_auroc == 1
    assert perfect.aupro == pytest.approx(1, abs=1e-12)
    everywhere = replace(report, masks=np.ones_like(report.masks))
    assert np.isnan(everywhere.pixel_auroc) and everywhere.image_auroc == report.image_auroc


def test_no_test_images(model):
    with pytest.raises(ValueError, match="no test images"):
        evaluate(model, None)


@pytest.mark.parametrize("images, message", [
    (torch.zeros(3, 64, 64), r"\(B, 3, H, W\)"), (torch.zeros(1, 1, 64, 64), "Repeat grey"),
    (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "Divide"), (torch.zeros(1, 3, 64, 100), "multiples of 32")])
def test_images_of_the_wrong_kind(model, images, message):
    with pytest.raises(ValueError, match=message):
        model.predict(images)


def test_bf16_rounds_the_networks_and_not_the_maps(model, data, report):
    rounded = evaluate(model, data, precision="bf16", progress=False)
    assert rounded.maps.dtype == np.float32 and not np.array_equal(rounded.maps, report.maps)
    assert len(np.unique(rounded.maps)) > 0.9 * rounded.maps.size, "bfloat16 maps would have few distinct values"
    np.testing.assert_allclose(rounded.maps, report.maps, atol=0.05)
