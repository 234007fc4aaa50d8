"""The ONNX file says what PyTorch says, for every setting, any batch; and what goes wrong is said clearly."""
import copy
import json
import sys
from contextlib import nullcontext

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from test_evaluation import all_at_once

from rdlib import ForwardStudent, ReverseDistillation, evaluate, load_dataset
from rdlib.deploy import export
from rdlib.deploy.export import OnnxDetector, export_onnx
from rdlib.threshold import threshold_from_good
from rdlib.utils.errors import NotFiniteError, WeightsError

CASES = {
    "paper": lambda: ReverseDistillation("resnet18", weights=None, sigma=2),
    "other": lambda: ReverseDistillation("resnet18", weights=None, sigma=0, scales=(2, 3), fusion="multiply",
                                         score="sum", normalize=False),
    "forward": lambda: ForwardStudent("resnet18", weights=None, sigma=1),
}
SIZE = (64, 96)
IMAGES = torch.rand(5, 3, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=CASES)
def exported(request, tmp_path_factory):
    """A model with a threshold, its file, and the difference that `export_onnx` returned."""
    path, model = tmp_path_factory.mktemp("onnx") / "deep" / "model.onnx", CASES[request.param]()
    maps, scores = model.predict(IMAGES)
    model.threshold = threshold_from_good(scores, maps.numpy(), 0.5)
    model.train()
    with nullcontext() if request.param == "paper" else all_at_once():  # a caller's switches do not reach the file
        difference = export_onnx(model, path)
    assert model.training, "the model is left as it was"
    return model, path, difference


def test_onnx_says_what_pytorch_says_whatever_the_batch(exported):
    model, path, difference = exported
    assert difference < 1e-5
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (IMAGES[:1], IMAGES, IMAGES.repeat(3, 1, 1, 1)):
        maps, scores = session.run(["maps", "scores"], {"images": batch.numpy()})
        wanted_maps, wanted_scores = model.predict(batch)
        np.testing.assert_allclose(maps, wanted_maps, atol=1e-4, rtol=0)
        np.testing.assert_allclose(scores, wanted_scores, rtol=1e-4)
    assert np.ptp(scores) > 0, "the images differ, and so do their scores"


def test_one_sound_file_that_knows_its_size_and_threshold(exported):
    model, path, _ = exported
    assert [entry.name for entry in path.parent.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(path, full_check=True)
    about = json.loads({entry.key: entry.value for entry in onnx.load(path).metadata_props}["rdlib"])
    assert about["size"] == [64, 96] and about["threshold"]["score"] == model.threshold.score
    assert about["config"]["sigma"] == model.config.sigma


def test_the_detector_predicts_in_batches_and_carries_the_threshold(exported):
    model, path, _ = exported
    detector = OnnxDetector(str(path))
    assert detector.threshold == model.threshold and detector.image_size == SIZE
    for got, wanted in zip(detector.predict(IMAGES, batch_size=2), model.predict(IMAGES), strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=r"exported for images \(B, 3, 64, 96\).*Resize"):
        detector.predict(torch.rand(1, 3, 64, 64))


def test_an_exported_model_is_evaluated_as_the_model_is(model, graph, monkeypatch, tmp_path):
    monkeypatch.setattr(export, "_traced", lambda *_: copy.deepcopy(graph))
    export_onnx(model, tmp_path / "model.onnx", 64)
    data = load_dataset("synthetic/weave", size=64).test
    data.samples = data.samples[:3] + data.samples[-3:]
    detector = OnnxDetector(tmp_path / "model.onnx")
    report, expected = (evaluate(scorer, data, batch_size=4, progress=False) for scorer in (detector, model))
    np.testing.assert_allclose(report.maps, expected.maps, atol=1e-4)
    assert report.metrics == pytest.approx(expected.metrics, abs=0.01, nan_ok=True)
    evaluate(detector, data, precision="auto", progress=False)
    with pytest.raises(ValueError, match="exported model computes in float32; got precision='bf16'"):
        evaluate(detector, data, precision="bf16", progress=False)
    data.size = 96, 96
    data._kept.clear()
    with pytest.raises(ValueError, match=r"exported for images \(B, 3, 64, 64\)"):
        evaluate(detector, data, progress=False)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_neither_exported_nor_scored(model, graph, monkeypatch, tmp_path, value):
    monkeypatch.setattr(export, "_traced", lambda *_: copy.deepcopy(graph))
    export_onnx(model, tmp_path / "model.onnx", 64)
    images = torch.rand(3, 3, 64, 64)
    images[1, 0, 5, 5] = value
    with pytest.raises(NotFiniteError, match="NaN or infinite: 1. "):
        OnnxDetector(tmp_path / "model.onnx").predict(images, batch_size=1)
    broken = copy.deepcopy(model)
    broken.student.stage1[0].bn1.running_var[0] = value
    with pytest.raises(WeightsError, match="not written: 'student.stage1.0.bn1.running_var' holds NaN or infinity"):
        export_onnx(broken, tmp_path / "other.onnx", 64)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.fixture(scope="module")
def model():
    return CASES["paper"]()


@pytest.fixture(scope="module")
def graph(model):
    return export._traced(model, (64, 64))


def test_a_file_that_differs_is_not_written(model, graph, monkeypatch, tmp_path):
    monkeypatch.setattr(export, "_traced", lambda *_: copy.deepcopy(graph))
    other = ReverseDistillation("resnet18", weights=None, sigma=2, seed=3)
    with pytest.raises(RuntimeError, match="differs from PyTorch by .* was not written"):
        export_onnx(other, tmp_path / "model.onnx", 64)
    assert not list(tmp_path.iterdir())
    assert export_onnx(model, tmp_path / "model.onnx", 64, images=torch.rand(2, 3, 64, 64)) < 1e-4
    assert OnnxDetector(tmp_path / "model.onnx").threshold is None


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_what_is_missing_is_named_with_its_command(model, graph, monkeypatch, tmp_path, name):
    monkeypatch.setattr(export, "_traced", lambda *_: copy.deepcopy(graph))
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"need {name}, .*pip install 'rdlib\[export\]'"):
        export_onnx(model, tmp_path / "model.onnx", 64)
    assert not list(tmp_path.iterdir())


def test_the_size_comes_from_somewhere(model, tmp_path):
    with pytest.raises(ValueError, match="Give the size"):
        export_onnx(model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=r"to compare on must be \(N, 3, 64, 64\)"):
        export_onnx(model, tmp_path / "model.onnx", 64, images=torch.rand(1, 3, 32, 32))


def test_files_that_are_no_exported_model(tmp_path, graph):
    with pytest.raises(WeightsError, match="There is no model file"):
        OnnxDetector(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    onnx.save(graph, tmp_path / "foreign.onnx")  # sound, but without the kit's metadata
    for name in ("text.onnx", "foreign.onnx"):
        with pytest.raises(WeightsError, match=f"{name} cannot be read as an exported model"):
            OnnxDetector(tmp_path / name)
