"""The ONNX file says what PyTorch says, for every setting, any batch; and what goes wrong is said clearly."""
import copy
import hashlib
import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from test_evaluation import all_at_once

from rdlib import ForwardStudent, MemoryBank, ReverseDistillation, evaluate, load_dataset
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
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["model.onnx", "model.onnx.txt"]
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
    with pytest.raises(ValueError, match="64 x 96 pixels. .* at 64 x 64. Resize"):
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
    with pytest.raises(ValueError, match="no precision of an exported model 'bf16'. Choose one of: float32, auto"):
        evaluate(detector, data, precision="bf16", progress=False)
    data.size = 96, 96
    data._kept.clear()
    with pytest.raises(ValueError, match="64 x 64 pixels.*at 96 x 96"):
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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.txt"]


@pytest.fixture(scope="module")
def model():
    return CASES["paper"]()


@pytest.fixture(scope="module")
def graph(model):
    return export._traced(model, (64, 64))


def test_a_file_that_differs_is_not_written(model, graph, monkeypatch, tmp_path):
    monkeypatch.setattr(export, "_traced", lambda *_: copy.deepcopy(graph))
    other = ReverseDistillation("resnet18", weights=None, sigma=2, seed=3)
    with pytest.raises(RuntimeError, match="was not written: it differs from PyTorch by"):
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
    with pytest.raises(ValueError, match=r"to compare on are \(N, 3, 64, 64\)"):
        export_onnx(model, tmp_path / "model.onnx", 64, images=torch.rand(1, 3, 32, 32))


def test_sides_that_are_no_multiples_of_32_are_refused(model, tmp_path):
    for size in (100, (64, 80)):
        with pytest.raises(ValueError, match="multiples of 32, got .*(100|80)"):
            export_onnx(model, tmp_path / "x.onnx", size)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("other", [lambda: MemoryBank("resnet18", None), lambda: torch.nn.Linear(2, 2), lambda: None])
def test_other_classes_are_not_exported(other, tmp_path):
    name = type(other()).__name__
    with pytest.raises(ValueError, match=f"or ForwardStudent can be exported, to an .onnx file; got a {name} and"):
        export_onnx(other(), tmp_path / "model.onnx", 64)


def test_files_that_are_no_exported_model(tmp_path, graph):
    with pytest.raises(WeightsError, match="cannot be read .*No such file.*Check the path"):
        OnnxDetector(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    onnx.save(graph, tmp_path / "foreign.onnx")  # sound, but without the kit's metadata
    for name in ("text.onnx", "foreign.onnx"):
        with pytest.raises(WeightsError, match=f"{name} cannot be read as an exported model"):
            OnnxDetector(tmp_path / name)


def parts(graph):
    return [graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]


def test_nothing_in_the_file_is_later_than_its_ir_version(exported):
    _, path, _ = exported
    proto = onnx.load(path)
    assert proto.ir_version == 8 and [(opset.domain, opset.version) for opset in proto.opset_import] == [("", 18)]
    assert not proto.functions and not any(part.metadata_props for part in parts(proto.graph))
    assert not any(node.attribute for node in proto.graph.node for attribute in node.attribute
                   if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)), "no inner graphs"
    kinds = {tensor.data_type for tensor in proto.graph.initializer}
    kinds |= {value.type.tensor_type.elem_type for value in parts(proto.graph)[1 + len(proto.graph.node):]
              if isinstance(value, onnx.ValueInfoProto)}
    assert max(kinds) <= onnx.TensorProto.BFLOAT16, "the types of IR version 8"
    assert str(Path(export.__file__).parent).encode() not in path.read_bytes(), "no paths of this machine"


def test_metadata_doc_string_and_text_file_tell_the_same(exported):
    model, path, _ = exported
    proto = onnx.load(path)
    notes = {entry.key: entry.value for entry in proto.metadata_props}
    about = json.loads(notes.pop("rdlib"))
    text = path.with_name("model.onnx.txt").read_text("utf-8")
    assert proto.doc_string == text == "".join(f"{name}: {words}\n" for name, words in notes.items())
    assert (notes["image_height"], notes["image_width"], notes["channel_order"]) == ("64", "96", "RGB")
    assert float(notes["score_threshold"]) == model.threshold.score
    assert float(notes["pixel_threshold"]) == model.threshold.pixel and str(model.threshold) in notes["threshold_rule"]
    for name, words in (("input", "images, float32, N x 3 x 64 x 96"), ("output_maps", "maps, float32, N x 64 x 96"),
                        ("output_scores", "scores, float32, N"), ("layout", "NCHW"), ("value_range", "0 to 1"),
                        ("resize", "bilinear with antialiasing"), ("normalization", "do not normalize"),
                        ("inside", "smoothing"), ("decision", ">= score_threshold"), ("about", "exported by rdlib "),
                        ("runs_with", "onnxruntime 1.14 and later (IR version 8, opset 18)")):
        assert words in notes[name]
    graph = onnx.load(path).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["images", "maps", "scores"]
    expected = json.loads(json.dumps(model.describe()))
    content = path.read_bytes().replace(about["sha256"].encode(), b"0" * 64)
    assert about.pop("sha256") == hashlib.sha256(content).hexdigest()
    assert about == expected | {"size": [64, 96]} == OnnxDetector(path).describe()


def test_a_changed_bit_anywhere_in_an_exported_file_is_found(exported, tmp_path):
    """Of its head, its weights, its notes and its SHA-256."""
    _, path, _ = exported
    whole, copy_ = path.read_bytes(), tmp_path / "m.onnx"
    near = whole.index(b'"sha256": "')
    places = [0, 9, near + 3, near + 20, near + 74, near + 100, len(whole) - 1]
    for place in places + np.random.default_rng(0).integers(len(whole), size=20).tolist():
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        copy_.write_bytes(changed)
        with pytest.raises(WeightsError, match=r"m\.onnx is not as it was written: .* it says (none|\w{64})\. "):
            OnnxDetector(copy_)
    copy_.write_bytes(b"")
    with pytest.raises(WeightsError, match=r"m\.onnx cannot be read as an exported model .*empty"):
        OnnxDetector(copy_)


def card(model, graph, monkeypatch, folder):
    """Export with a graph that is at hand, and read the notes."""
    monkeypatch.setattr(export, "_traced", lambda *_: copy.deepcopy(graph))
    export_onnx(model, folder / "model.onnx", 64)
    return {entry.key: entry.value for entry in onnx.load(folder / "model.onnx").metadata_props}


def test_what_is_not_known_is_not_claimed(model, graph, monkeypatch, tmp_path):
    model = copy.deepcopy(model)
    notes = card(model, graph, monkeypatch, tmp_path)
    assert notes["decision"] == "none: no threshold was saved with the model"
    assert not any("threshold" in name for name in notes)
    model.set_trained(64, (-2.25, 2.75))
    notes = card(model, graph, monkeypatch, tmp_path)
    assert notes["value_range"].startswith("-2.25 to 2.75. 0 to 1: 8-bit values divided by 255. Another range: ")
    detector = OnnxDetector(tmp_path / "model.onnx")
    for scorer in (model, detector):
        assert scorer.predict(torch.full((1, 3, 64, 64), 2.5))[1] > 0
        with pytest.raises(ValueError, match="values from -2.25 to 2.75, but files and 8-bit images give 0 to 1"):
            scorer.predict(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    model.set_trained(64, (0.25, 0.75))
    notes = card(model, graph, monkeypatch, tmp_path)
    assert notes["value_range"].startswith("0 to 1. ") and "white" not in notes


def test_white_is_told_and_used(model, graph, monkeypatch, tmp_path):
    model, values = copy.deepcopy(model), np.full((64, 64), 1000, np.uint16)
    model.set_trained(64, (0, 1), white=4095)
    notes = card(model, graph, monkeypatch, tmp_path)
    assert notes["white"].startswith("4095: divide values of more than 8 bits a channel by it, as floating point, ")
    detector = OnnxDetector(tmp_path / "model.onnx")
    assert detector.config.white == model.config.white == 4095
    expected = model.predict(torch.full((3, 64, 64), 1000 / 4095))[1]
    assert torch.allclose(detector.predict(values)[1], expected, atol=1e-4)
    model.set_trained(64, (0, 1))
    card(model, graph, monkeypatch, tmp_path)
    with pytest.raises(ValueError, match="uint16 .* the value of white is unknown. Give white="):
        OnnxDetector(tmp_path / "model.onnx").predict(values)


def test_an_untrained_model_takes_any_size_and_a_trained_one_its_own(model, graph, monkeypatch, tmp_path):
    model = copy.deepcopy(model)
    card(model, graph, monkeypatch, tmp_path)
    model.set_trained(96, (0, 1))
    with pytest.raises(ValueError, match="at 96 x 96 pixels"):
        card(model, graph, monkeypatch, tmp_path)


def test_the_region_of_interest_is_in_the_graph(tmp_path):
    model = CASES["paper"]()
    region = np.zeros((64, 64), bool)
    region[16:48, 8:40] = True
    model.set_roi(region)
    export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32)
    maps, scores = session.run(["maps", "scores"], {"images": images})
    for got, wanted in zip((maps, scores), model.predict(torch.from_numpy(images)), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4, rtol=1e-4)
    assert (maps[:, ~region] == 0).all() and maps[:, region].max() > 0
    images[:, :, ~region] = 0.5
    assert (session.run(["scores"], {"images": images})[0] == scores).all(), "what lies outside has no influence"
    notes = session.get_modelmeta().custom_metadata_map
    assert "a part of the image; the map is 0 outside" in notes["inside"]


def test_the_detector_takes_and_refuses_what_the_model_does(exported, tmp_path):
    model, path, _ = exported
    model, detector = copy.deepcopy(model), OnnxDetector(path)
    middle = float(model.predict(IMAGES)[1].sort().values[2])
    model.threshold = detector.threshold = replace(model.threshold, score=middle * (1 + 1e-5))
    bytes_ = (IMAGES * 255).round().byte()
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in bytes_]
    for i, picture in enumerate(pictures):
        picture.resize((100, 50)).save(tmp_path / f"{i}.png")
    files = [tmp_path / f"{i}.png" for i in range(5)]
    inputs = [IMAGES, IMAGES.double(), IMAGES[0], bytes_, pictures, pictures[0], files, str(files[0]),
              np.asarray(pictures[0]), np.asarray(pictures[0]) / 255, [*IMAGES]]
    for images in inputs:
        got, wanted = detector.decide(images), model.decide(images)
        torch.testing.assert_close(got.scores, wanted.scores.float(), atol=1e-4, rtol=1e-4)
        assert got.maps.shape == wanted.maps.shape and got.anomalous.dtype == torch.bool
    assert 0 < detector.decide(IMAGES).anomalous.sum() < 5
    assert detector.decide(IMAGES).anomalous.tolist() == model.decide(IMAGES).anomalous.tolist()
    wrong = [IMAGES * 255, IMAGES * 4 - 2, bytes_.int(), torch.rand(2, 64, 96), "none.png", 3, [],
             torch.rand(3, 32, 32)]
    for images in wrong:
        words = set()
        for scorer in (model, detector):
            with pytest.raises(ValueError) as refused:
                scorer.decide(images)
            words.add(str(refused.value))
        assert len(words) == 1
    detector.threshold = None
    with pytest.raises(ValueError, match="no threshold"):
        detector.decide(IMAGES)
