"""One report object: maps, scores and metrics of a test set, whole and by kind of defect."""
import copy
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, label
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from test_metrics import elsewhere
from test_training import equal, images, weights
from torch.utils.data import ConcatDataset, DataLoader, Subset

from rdlib import ForwardStudent, MemoryBank, Report, ReverseDistillation, evaluate, fit, load_dataset
from rdlib.datasets.items import check_dataset
from rdlib.datasets.samples import AnomalyDataset, Item
from rdlib.detector import Scorer
from rdlib.evaluation.bootstrap import bootstrap_intervals, pixel_counts, pixel_metrics
from rdlib.evaluation.report import ALL_METRICS
from rdlib.figures import gallery
from rdlib.metrics import PixelRanking
from rdlib.threshold import Threshold
from rdlib.utils.errors import DataError, NotFiniteError


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
        for t, s in zip(teacher, student, strict=True):
            distance = 1 - (t * s).sum(1) / (t.norm(dim=1) * s.norm(dim=1))
            total = total + torch.nn.Upsample((64, 64), mode="bilinear", align_corners=True)(distance[None])[0, 0]
        expected = gaussian_filter(total.numpy(), 1.5)
        np.testing.assert_allclose(report.maps[i], expected, atol=1e-5)
        assert report.scores[i] == pytest.approx(expected.max(), abs=1e-5)


def test_metrics_against_scikit_learn(data, report):
    masks = np.stack([data[i].mask.numpy() for i in range(16)])
    assert report.metrics["image_auroc"] == roc_auc_score(data.labels, report.scores)
    assert report.metrics["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), report.maps.ravel()), abs=1e-12)
    assert set(report.metrics) == set(ALL_METRICS) and all(0 <= v <= 1 for v in report.metrics.values())


def test_per_defect_judges_one_kind_against_all_good(data, report):
    table = report.per_defect()
    assert list(table.index) == ["cut", "hole", "stain", "thread"] and table["images"].tolist() == [3, 3, 3, 3]
    chosen = (report.defect_types == "stain") | (report.labels == 0)
    expected = roc_auc_score(report.labels[chosen], report.scores[chosen])
    assert table.loc["stain", "image_auroc"] == expected


@pytest.fixture(scope="module")
def blots():
    """Predictions of six images: four with regions in their left half, one of a defect whose mask is unknown."""
    draw = np.random.default_rng(3)
    masks = np.zeros((6, 32, 40), bool)
    for i, mask in enumerate(masks[:4]):
        mask[3:9, 2 + i:9] = mask[20:26 + i, 4:19] = True
    maps = gaussian_filter(draw.normal(size=masks.shape) + masks, (0, 1, 1)).round(2).astype(np.float32)
    unknown = np.zeros_like(masks)
    unknown[:, :, 20:] = unknown[5] = True
    masks[2, 4:20, 25:33] = True  # what is said of unknown pixels does not count
    dataset = SimpleNamespace(labels=[1, 1, 1, 1, 0, 1], defect_types=["a", "a", "b", "b", "good", "b"], has_masks=True,
                              subset=lambda index: SimpleNamespace(
                                  labels=[[1, 1, 1, 1, 0, 1][i] for i in index], has_masks=True,
                                  defect_types=[["a", "a", "b", "b", "good", "b"][i] for i in index]))
    return Report(dataset, maps, maps.max((1, 2)), masks, 0.3, 0.0, unknown=unknown)


def test_unknown_pixels_are_left_out_of_all_pixel_metrics(blots):
    known = ~blots.unknown
    truth, scores = blots.masks[known], blots.maps[known]
    assert blots.pixel_auroc == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert blots.pixel_ap == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    precision, recall, _ = precision_recall_curve(truth, scores)
    assert blots.pixel_f1_max == pytest.approx((2 * precision * recall / (precision + recall)).max(), abs=1e-12)
    regions = [(i, label(mask, np.ones((3, 3)))[0] == number) for i, mask in enumerate(blots.masks & known)
               for number in range(1, label(mask, np.ones((3, 3)))[1] + 1)]
    assert len(regions) == 8
    normal, curve = known & ~blots.masks, [(0, 0)]
    for threshold in np.unique(blots.maps)[::-1]:
        marked = blots.maps >= threshold
        curve.append(((marked & normal).sum() / normal.sum(), np.mean([marked[i][region].mean() for i, region in
                                                                       regions])))
    fpr, pro = np.array(curve).T
    inside = fpr <= 0.3
    fpr, pro = np.append(fpr[inside], 0.3), np.append(pro[inside], np.interp(0.3, fpr, pro))
    assert blots.aupro == pytest.approx(np.trapezoid(pro, fpr) / 0.3, abs=1e-9)


def test_unknown_pixels_are_as_good_as_cut_off(blots):
    """The report of the left halves of the known images has the same metrics and intervals."""
    rest = np.s_[:5, :, :20]
    cut = Report(SimpleNamespace(labels=[1, 1, 1, 1, 0], defect_types=list("aabb") + ["good"], has_masks=True),
                 blots.maps[rest], blots.scores[:5], blots.masks[rest], 0.3, 0.0)
    for name in ("pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro", "aupro_per_image"):
        assert getattr(blots, name) == getattr(cut, name) and 0 < getattr(cut, name) < 1
    weights = np.vstack([np.ones(5), np.random.default_rng(0).multinomial(5, [0.2] * 5, 20)])
    counts = [pixel_metrics(pixel_counts(report.masks[:5], report.maps[:5], report.unknown[:5]), weights, 0.3)
              for report in (blots, cut)]
    np.testing.assert_array_equal(*counts)
    assert len(bootstrap_intervals(blots, 10)) == 3
    exact = bootstrap_intervals(blots, 10).loc["aupro"]
    assert exact["value"] == blots.aupro and exact["binning"] < 0.01


def test_known_pixels_give_the_same_numbers_as_without_a_mask_of_unknown_ones(report):
    other = replace(report, unknown=np.zeros_like(report.masks))
    assert other.metrics == report.metrics and repr(other) == repr(report)
    assert not report.unknown.any() and other.per_defect().equals(report.per_defect())


def test_a_report_counts_images_with_unknown_pixels_and_judges_each_type_by_the_known_ones(blots):
    assert "unknown: 6 of 6 masks, in part or whole" in repr(blots)
    table = blots.per_defect()
    index = [2, 3, 4, 5]
    known = ~blots.unknown[index]
    assert table.loc["b", "images"] == 3 and table.loc["b", "pixel_auroc"] == pytest.approx(
        roc_auc_score(blots.masks[index][known], blots.maps[index][known]), abs=1e-12)
    blind = replace(blots, unknown=np.ones_like(blots.masks))
    assert np.isnan(blind.pixel_auroc) and np.isnan(blind.aupro) and np.isnan(blind.aupro_per_image)
    with pytest.raises(ValueError, match="same shape"):
        PixelRanking(blots.masks, blots.maps, blots.unknown[:, :5])


def test_a_saved_report_keeps_unknown_pixels(model, data, tmp_path):
    def some(index):
        item = data[index]
        return item if index % 3 else Named(item.image, item.label)

    report = evaluate(model, [some(index) for index in range(16)], progress=False)
    assert report.unknown.any((1, 2)).sum() == 4  # 6, 9, 12 and 15 are defective; 0 and 3 are good
    report.save(tmp_path / "report.npz")
    again = Report.load(tmp_path / "report.npz")
    assert np.array_equal(again.unknown, report.unknown) and again.metrics == report.metrics
    assert again.dataset.has_masks


def test_the_gallery_shows_unknown_pixels_gray_and_counts_only_defects_with_a_mask(report):
    unknown = np.zeros_like(report.masks)
    unknown[5] = True
    part = replace(report, masks=report.masks & ~unknown, unknown=unknown)
    figure = gallery(part, indices=[0, 5, 6], threshold=float(report.maps.min()))
    assert "of 1 good image and meets the true region in 1 of 1 defective image." in figure.summary
    shown = [axis.images[-1].get_array() for axis in figure.axes[1:12:4]]
    assert [np.unique(part).tolist() for part in shown] == [[0], [0.5], [0, 1]]


class Named:
    def __init__(self, image, label):
        self.image, self.label = image, label


def test_a_report_shows_itself_in_a_few_lines_without_arrays_or_times(report):
    assert repr(report) == (f"Report\n  images: 16, 12 of them anomalous\n  image_auroc: {report.image_auroc:.3f}\n"
                            f"  pixel_auroc: {report.pixel_auroc:.3f}\n  aupro: {report.aupro:.3f}")
    blind = replace(report, masks=np.zeros_like(report.masks), seconds=1e6, threshold=1.50001234)
    assert repr(blind).endswith(f"image_auroc: {report.image_auroc:.3f}\n  threshold: 1.5")
    assert f"aupro</th><td style=\"text-align: left\">{report.aupro:.3f}<" in report._repr_html_()


@pytest.fixture
def stored(report, tmp_path):
    """A report with a threshold, and the file it was saved to."""
    report = replace(report, threshold=float(np.median(report.scores)), fpr_limit=0.2)
    report.save(tmp_path / "new" / "report.npz")
    return report, tmp_path / "new" / "report.npz"


def test_the_table_has_a_row_an_image(data, stored):
    report, _ = stored
    table = report.table()
    assert table.columns.tolist() == ["name", "defect", "score", "anomalous"] and len(table) == 16
    assert table["name"].tolist() == [sample.name for sample in data.samples]
    assert table["defect"].tolist() == data.defect_types and np.array_equal(table["score"], report.scores)
    assert table["anomalous"].dtype == bool
    assert table["anomalous"].tolist() == [float(score) >= report.threshold for score in report.scores]
    assert replace(report, threshold=float(report.scores[3])).table()["anomalous"][3], "a score at the threshold alarms"
    assert "anomalous" not in replace(report, threshold=None).table()


def test_a_report_has_the_threshold_of_its_model(model, data, report, monkeypatch):
    few = AnomalyDataset(data.samples[:2], data.size)
    assert report.threshold is None and evaluate(model, few, progress=False).threshold is None
    threshold = Threshold(score=1.25, pixel=1.0, size=(64, 64), rule="by hand", good=1, alarms=0)
    monkeypatch.setattr(model, "threshold", threshold)
    assert evaluate(model, few, progress=False).threshold == 1.25


@pytest.mark.parametrize("with_images", [True, False])
def test_a_stored_report_is_equal(data, stored, with_images):
    report, path = stored
    again = Report.load(path, data if with_images else None)
    for name in ("maps", "scores", "masks", "labels", "defect_types"):
        before, after = getattr(report, name), getattr(again, name)
        assert np.array_equal(before, after) and before.dtype == after.dtype, name
    assert again.metrics == report.metrics and again.per_defect().equals(report.per_defect())
    assert again.table().equals(report.table()) and repr(again) == repr(report)
    assert (again.threshold, again.fpr_limit, again.seconds) == (report.threshold, 0.2, report.seconds)
    if with_images:
        assert np.array_equal(again.image(3), report.image(3))
    else:
        with pytest.raises(DataError, match=r"000 is not at hand.*Report\.load\(path, data\.test\)"):
            again.image(0)


def test_a_stored_report_without_masks_or_threshold(report, data, tmp_path):
    blind = AnomalyDataset(data.samples, data.size, has_masks=False)
    replace(report, dataset=blind).save(tmp_path / "report")  # the name is kept as it is
    again = Report.load(tmp_path / "report")
    assert again.threshold is None and np.isnan(again.aupro) and again.image_auroc == report.image_auroc
    assert [file.name for file in tmp_path.iterdir()] == ["report"]


def test_other_programs_read_a_stored_report_with_numpy_alone(stored):
    report, path = stored
    with np.load(path, allow_pickle=False) as file:
        assert roc_auc_score(file["labels"], file["scores"]) == report.image_auroc
        assert roc_auc_score(file["masks"].ravel(), file["maps"].ravel()) == pytest.approx(report.pixel_auroc, abs=1e-9)
        assert file["threshold"] == report.threshold and file["names"].tolist() == report.table()["name"].tolist()


def test_files_that_are_no_report_are_refused_in_words(stored, tmp_path):
    _, path = stored
    content = path.read_bytes()
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(tmp_path / "foreign.npz", images=np.zeros(3))
    np.savez(tmp_path / "short.npz", **arrays | {"scores": arrays["scores"][:3]})
    np.savez(tmp_path / "code.npz", **arrays | {"names": np.array([print] * 16, object)})
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "cut.npz").write_bytes(content[:len(content) // 2])
    (tmp_path / "spoilt.npz").write_bytes(content[:2000] + b"spoilt" + content[2006:])
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("foreign.npz", "short.npz", "code.npz", "array.npy", "cut.npz", "spoilt.npz", "empty.npz", "gone.npz"):
        with pytest.raises(DataError, match=f"(?s){name} cannot be read as a report.*Check it, or save"):
            Report.load(tmp_path / name)


def test_a_stored_report_belongs_to_its_test_set(stored, data):
    _, path = stored
    for other in (data.subset(range(15)), data.subset(range(15, -1, -1))):
        with pytest.raises(DataError, match="belongs to another test set"):
            Report.load(path, other)


KINDS = {
    "subset": lambda data: Subset(data, range(16)),
    "joined": lambda data: ConcatDataset([data.subset(range(9)), data.subset(range(9, 16))]),
    "loader": lambda data: DataLoader(data, 5), "loader of a subset": lambda data: DataLoader(Subset(data, range(16)))}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_report_takes_what_evaluate_takes(kind, stored, data):
    report, path = stored
    again = Report.load(path, KINDS[kind](data))
    assert np.array_equal(again.image(3), report.image(3)) and again.metrics == report.metrics


def test_a_stored_report_of_items_of_others(model, data, tmp_path):
    items = [(item.image, item.label, item.mask) for item in (data[index] for index in range(16))]
    report = evaluate(model, items, progress=False)
    report.save(tmp_path / "report.npz")
    for same in (items, DataLoader(items, 3)):
        again = Report.load(tmp_path / "report.npz", same)
        assert np.array_equal(again.image(3), report.image(3)) and again.metrics == report.metrics
    for other in (items[:15], items[::-1], [*items, items[0]], data):
        with pytest.raises(DataError, match=r"16 images of \(64, 64\) there, 1[567] of \(64, 64\) here"):
            Report.load(tmp_path / "report.npz", other)


def test_a_stored_report_of_another_size_or_of_no_test_set(stored, data):
    _, path = stored
    other = AnomalyDataset(data.samples, (96, 96))
    with pytest.raises(DataError, match=r"images of \(64, 64\) there, 16 of \(96, 96\) here"):
        Report.load(path, other)
    for wrong in ([], "images", {"test": data}, (item for item in data.samples), 3):
        with pytest.raises(ValueError, match="no length and indices|test set has no images|no item at index 0"):
            Report.load(path, wrong)


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
    with pytest.raises(ValueError, match="test set has no images"):
        evaluate(model, None)


@pytest.mark.parametrize("images, message", [
    (torch.zeros(64, 64), r"\(B, 3, H, W\)"), (torch.zeros(1, 2, 64, 64), "1 channel if they are gray"),
    (torch.zeros(1, 3, 64, 64, dtype=torch.int64), "white"), (torch.zeros(1, 3, 64, 100), "multiples of 32")])
def test_images_of_the_wrong_kind(model, images, message):
    with pytest.raises(ValueError, match=message):
        model.predict(images)


def test_bf16_rounds_the_networks_and_not_the_maps(model, data, report):
    rounded = evaluate(model, data, precision="bf16", progress=False)
    assert rounded.maps.dtype == np.float32 and not np.array_equal(rounded.maps, report.maps)
    assert len(np.unique(rounded.maps)) > 0.9 * rounded.maps.size, "bfloat16 maps would have few distinct values"
    np.testing.assert_allclose(rounded.maps, report.maps, atol=0.05)


def item(size, dtype=torch.float32):
    blank = torch.zeros(size, dtype=torch.bool)
    return Item(torch.zeros(3, *size, dtype=dtype), 0, blank, 0, blank)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_images_of_several_sizes_are_refused_in_words(batch_size):
    items = [item((64, 64)), item((64, 96))]
    loader = DataLoader(items, batch_size, collate_fn=check_dataset(items))
    with pytest.raises(ValueError, match="differ in size: the first is 64 x 64 pixels, another 64 x 96. Resize"):
        list(loader)


def test_what_can_be_trained_on_is_taken(data):
    for dataset in (data, Subset(data, [3, 5]), [item((64, 64))], []):
        loader = DataLoader(dataset, 2, collate_fn=check_dataset(dataset))
        assert all(isinstance(batch, Item) for batch in loader)


def test_a_threshold_is_evaluated_at_its_own_size(model, data, monkeypatch):
    threshold = Threshold(score=1.0, pixel=1.0, size=(64, 64), rule="by hand", good=1, alarms=0)
    monkeypatch.setattr(model, "threshold", threshold)
    assert len(evaluate(model, AnomalyDataset(data.samples[:1], (64, 64)), progress=False).scores) == 1
    with pytest.raises(ValueError, match="chosen, at 64 x 64 pixels.*mean nothing at 96 x 96"):
        evaluate(model, AnomalyDataset(data.samples[:1], (96, 96)), progress=False)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_without_a_finite_score_are_named(model, data, value):
    broken = SimpleNamespace(label=0, defect="good", name="torn.png",
                             load=lambda size: (torch.full((3, *size), value), torch.zeros(size, dtype=torch.bool)))
    test = AnomalyDataset([*data.samples[:3], broken, data.samples[3]], data.size)
    with pytest.raises(NotFiniteError, match=r"NaN or infinite: 3 \(torn.png\)\. ") as caught:
        evaluate(model, test, batch_size=2, progress=False)
    assert caught.value.indices == [3]

    class Silent(Scorer):
        """A model that does not check its scores."""

        threshold = image_size = None

        def predict(self, images, *_):
            return images[:, 0], images[:, 0].amax((1, 2))

    with pytest.raises(NotFiniteError, match=r"3 \(torn.png\)"):
        evaluate(Silent(), test, progress=False)


def test_a_diverged_model_is_refused_on_good_images_too(model, data):
    broken = copy.deepcopy(model)
    torch.nn.init.constant_(next(broken.student.parameters()), np.nan)
    with pytest.raises(NotFiniteError, match=r"NaN or infinite: 0 \(.*\), 1 \(.*smaller lr"):
        evaluate(broken, AnomalyDataset(data.samples[:3], data.size), progress=False)


def test_reports_take_tensors_of_any_device(report):
    other = replace(report, maps=elsewhere(report.maps), scores=elsewhere(report.scores),
                    masks=255 * torch.tensor(report.masks, dtype=torch.uint8))
    assert other.metrics == report.metrics and other.per_defect().equals(report.per_defect())


@contextmanager
def float64():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def all_at_once():
    with ExitStack() as stack:
        for switch in (float64(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)):
            stack.enter_context(switch)
        yield


MODELS = {"reverse": lambda: ReverseDistillation("resnet18", "random_calibrated", sigma=1.5),
          "forward": lambda: ForwardStudent("resnet18", None, sigma=1.5),
          "memory": lambda: MemoryBank("resnet18", sigma=1.5, size=50)}


@pytest.fixture(scope="module", params=MODELS)
def undisturbed(request, data):
    """A constructor, its model's weights, what it predicts of some images, and a function that asks another model."""
    few = AnomalyDataset(data.samples[:5], data.size)

    def predictions(model):
        report = evaluate(model, few, progress=False)
        maps, scores = model.predict(torch.stack([few[i].image for i in range(5)]))
        return {"maps": maps, "scores": scores, "seen": torch.from_numpy(report.maps)}

    make = MODELS[request.param]
    model = make()
    made = weights(model)
    if request.param == "memory":
        model.fit(few, progress=False)
    return make, made, model, predictions(model), predictions


@pytest.mark.parametrize("switch", [torch.enable_grad, torch.no_grad, torch.inference_mode, float64, all_at_once,
                                    lambda: torch.autocast("cpu", torch.bfloat16)])
def test_the_callers_switches_do_not_change_predictions(undisturbed, switch):
    _, _, model, expected, predictions = undisturbed
    with switch():
        before = torch.is_grad_enabled(), torch.get_default_dtype(), torch.is_autocast_enabled("cpu")
        got = predictions(model)
        assert before == (torch.is_grad_enabled(), torch.get_default_dtype(), torch.is_autocast_enabled("cpu"))
    assert equal(got, expected) and {x.dtype for x in got.values()} == {torch.float32}
    assert not got["maps"].requires_grad


def test_the_callers_switches_do_not_change_the_model_that_is_made(undisturbed):
    make, made, *_ = undisturbed
    with all_at_once():
        other = make()
    assert equal(weights(other), made) and {x.dtype for x in made.values()} <= {torch.float32, torch.int64}
    assert not any(value.is_inference() for value in other.state_dict().values())


def test_weights_that_change_inside_a_callers_autocast_are_seen(data):
    model, image = ReverseDistillation("resnet18", None), data[0].image[None]
    with torch.autocast("cpu", torch.bfloat16):
        before = model.predict(image, precision="bf16")[0]
        with torch.no_grad():
            next(model.student.parameters()).mul_(-1)
        after = model.predict(image, precision="bf16")[0]
    assert not torch.equal(before, after) and torch.equal(after, model.predict(image, precision="bf16")[0])


def test_a_model_made_and_used_in_inference_mode_can_be_trained(data, tmp_path):
    expected = ReverseDistillation("resnet18", None)
    expected.save(tmp_path / "m.safetensors")
    losses = fit(expected, images(4), 2, batch_size=4, progress=False).losses
    with torch.inference_mode():
        made, loaded = ReverseDistillation("resnet18", None), ReverseDistillation.load(tmp_path / "m.safetensors")
        for model in (made, loaded):
            evaluate(model, AnomalyDataset(data.samples[:2], data.size), progress=False)
    for model in (made, loaded):
        assert fit(model, images(4), 2, batch_size=4, progress=False).losses == losses


def test_images_of_another_size_than_their_set_says_are_evaluated_as_they_are():
    class Larger(AnomalyDataset):
        def __getitem__(self, index):
            item = super().__getitem__(index)
            blank = torch.zeros(96, 96, dtype=torch.bool)
            return item._replace(image=torch.zeros(3, 96, 96), mask=blank, unknown=blank)

    data = load_dataset("synthetic/weave", size=64).test
    report = evaluate(ReverseDistillation("resnet18", None), Larger(data.samples[:2], data.size), progress=False)
    assert report.maps.shape == report.masks.shape == (2, 96, 96)
