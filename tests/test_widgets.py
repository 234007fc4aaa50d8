"""Explorers: what they compute against independent references, and shells that follow their controls."""
import io
import sys

import matplotlib
import numpy as np
import pytest
import torch
from contourpy import contour_generator
from PIL import Image
from scipy.ndimage import gaussian_filter

pytest.importorskip("ipywidgets")

from rdlib import ReverseDistillation, fit, load_dataset, widgets
from rdlib.anomaly_map import fuse, gaussian_smooth
from rdlib.datasets.samples import AnomalyData, AnomalyDataset
from rdlib.figures import picture
from rdlib.widgets import defect_explorer, draw_defect
from rdlib.widgets.interactive import InteractiveModel, Settings, painted, weighted_map

SIZE = 64


@pytest.fixture(scope="module")
def data():
    """A few gears: 8 to train, 3 good and 5 defective ones, one of each kind, to test."""
    whole = load_dataset("synthetic/gear", size=SIZE, n_train=8)
    return AnomalyData(whole.name, whole.train, AnomalyDataset(whole.test.samples[37:45], (SIZE, SIZE)))


@pytest.fixture(scope="module")
def model(data):
    model = ReverseDistillation("resnet18", sigma=1.0)
    fit(model, data.train, 3, batch_size=4, progress=False)
    return model


@pytest.fixture(scope="module")
def interactive(model, data):
    return InteractiveModel(model, data)


def pixels(widget):
    """What a widgets.Image shows."""
    return np.asarray(Image.open(io.BytesIO(widget.value)).convert("RGB")).astype(int)


def test_a_weighted_map_with_weights_of_one_is_the_kits_own():
    scales = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    for fusion in ("add", "multiply"):
        assert torch.allclose(weighted_map(scales, (1, 1, 1), 2, fusion), gaussian_smooth(fuse(scales, fusion), 2))
        assert torch.allclose(weighted_map(scales, (0, 1, 1), 0, fusion), fuse(scales, fusion, (2, 3)))
    by_hand = gaussian_filter(0.5 * scales[0, 0].numpy() + 2 * scales[0, 2].numpy(), 1.5)
    assert np.abs(weighted_map(scales, (0.5, 0, 2), 1.5)[0].numpy() - by_hand).max() < 1e-5
    by_hand = scales[0, 0].numpy() ** 0.5 * scales[0, 1].numpy() ** 2
    assert np.abs(weighted_map(scales, (0.5, 2, 0), 0, "multiply")[0].numpy() - by_hand).max() < 1e-5


@pytest.mark.parametrize(("weights", "fusion", "word"), [((0, 0, 0), "add", "above 0"), ((1, -1, 1), "add", "negative"),
                                                         ((1, 1), "add", "three"), ((1, 1, 1), "max", "add, multiply")])
def test_a_map_of_nothing_is_refused(weights, fusion, word):
    with pytest.raises(ValueError, match=word):
        weighted_map(torch.rand(1, 3, 8, 8), weights, 1, fusion)


def test_a_view_has_the_models_map_and_score(interactive, model, data):
    image = data.test[4].image
    maps, scores = model.predict(image[None])
    view = interactive.view(4, interactive.settings)
    assert np.abs(view.map - maps[0].numpy()).max() < 2e-5 and view.score == pytest.approx(scores.item(), abs=2e-5)
    trained = model.predict(torch.stack([item.image for item in data.train]))[1].max().item()
    assert view.normal == view.threshold == pytest.approx(trained, abs=2e-5)
    assert view.ratio == pytest.approx(scores.item() / trained, abs=1e-4)
    half = interactive.view(4, interactive.settings._replace(factor=0.5))
    assert half.threshold == pytest.approx(trained / 2, abs=2e-5)
    again = interactive.view_of(image, interactive.settings, view.mask)
    assert np.array_equal(again.map, view.map) and again.verdict == view.verdict


def test_the_network_is_asked_once_an_image(interactive, monkeypatch):
    interactive.view(0, interactive.settings)
    monkeypatch.setattr(interactive.model, "scale_maps", None)  # asking again would fail
    interactive.view(0, Settings((1, 0, 2), 3.0, "multiply", 0.7))


def test_the_verdict_counts_pixels(interactive):
    view = interactive.view(5, interactive.settings._replace(factor=0.2))
    inside, outside = view.marked[view.mask].mean(), view.marked[~view.mask].mean()
    assert f"{inside:.0%} of the defect and {outside:.1%} of the rest" in view.verdict
    assert "called anomalous" in view.verdict and "called normal" in interactive.view(5, Settings(factor=99)).verdict


def test_paint_covers_by_its_opacity():
    image = torch.rand(3, 5, 7)
    layer = np.zeros((5, 7, 4), np.uint8)
    layer[2, 3], layer[0, 0] = (255, 0, 51, 255), (255, 255, 255, 51)
    done = painted(image, layer)
    assert torch.allclose(done[:, 2, 3], torch.tensor([1, 0, 0.2]))
    assert torch.allclose(done[:, 0, 0], 0.8 * image[:, 0, 0] + 0.2) and torch.equal(done[:, 4], image[:, 4])


def test_a_heat_picture_has_viridis_colours():
    values = np.array([[0, 0.5], [1, 9]], np.float32)
    shown = np.asarray(picture.heat(values, 1.0))
    colours = np.array(matplotlib.colormaps["viridis"].colors)
    assert np.abs(shown / 255 - colours[[[0, 128], [255, 255]]]).max() < 1 / 255


def test_borders_and_dashes():
    values = np.zeros((20, 30), np.float32)
    values[5:10, 8:20] = 1
    (line,) = picture.border(values, 0.5)
    assert np.allclose(line.min(0), (8, 5)) and np.allclose(line.max(0), (20, 10))
    assert len(picture.border(np.ones((6, 6), np.float32), 0.5)) == 1  # closed at the edge of the picture
    assert len(contour_generator(z=np.ones((6, 6))).lines(0.5)) == 0
    straight = np.array([[0.0, 0.0], [50.0, 0.0], [100.0, 0.0]])
    parts = list(picture.dashes(straight, 10))
    assert [(part[0, 0], part[-1, 0]) for part in parts] == [(0, 10), (20, 30), (40, 50), (60, 70), (80, 90)]


def test_the_defect_explorer_follows_every_control(model, data):
    explorer = defect_explorer(model, data)
    assert explorer.settings == InteractiveModel(model, data).settings
    seen = {"start": (pixels(explorer.panels.map.image), explorer.panels.words.value)}
    first = pixels(explorer.panels.outlined.image)
    for name, control, value in (("fine", explorer.weights[0], 0.0), ("fusion", explorer.fusion, "multiply"),
                                 ("sigma", explorer.sigma, 4.0), ("kind", explorer.kind, "good"),
                                 ("number", explorer.number, 2)):
        control.value = value
        seen[name] = (pixels(explorer.panels.map.image), explorer.panels.words.value)
    steps = list(seen.values())
    for (a, words), (b, later) in zip(steps, steps[1:], strict=False):
        assert (a != b).any() and words != later
    assert explorer.index == 2 and "Image 2, good" in explorer.panels.words.value
    explorer.kind.value = "scratch"
    assert explorer.number.value == 0 and data.test.defect_types[explorer.index] == "scratch"
    before = explorer.panels.words.value
    explorer.factor.value = 0.2
    assert explorer.panels.words.value != before and (pixels(explorer.panels.outlined.image) != first).any()
    for weight in explorer.weights:
        weight.value = 0.0
    assert "Every weight is 0" in explorer.panels.words.value


def test_an_explorer_needs_test_images(model, data):
    with pytest.raises(ValueError, match="no test images"):
        defect_explorer(model, AnomalyData("x", data.train, None))


def test_what_is_painted_is_scored(model, data, interactive):
    board = draw_defect(model, data)
    clean = pixels(board.panels.map.image)
    layer = np.zeros((SIZE, SIZE, 4), np.uint8)
    layer[14:25, 27:38] = (70, 48, 30, 255)
    board.canvas.layer = memoryview(layer.tobytes())  # as it arrives from the browser
    view = interactive.view_of(painted(data.test[0].image, layer), interactive.settings, layer[..., 3] > 127)
    assert view.verdict in board.panels.words.value and (pixels(board.panels.map.image) != clean).any()
    wiped = board.canvas.wiped
    board.clear()
    assert not board.layer.any() and board.canvas.wiped == wiped + 1
    assert np.array_equal(pixels(board.panels.map.image), clean)
    board.number.value = 1
    assert (pixels(board.panels.map.image) != clean).any()


@pytest.mark.parametrize("package", ["ipywidgets", "anywidget"])
def test_without_a_package_its_explorers_say_what_to_install(interactive, monkeypatch, package):
    for name in [name for name in sys.modules if name.startswith("rdlib.widgets.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)  # its import fails
    with pytest.raises(ImportError, match=f"draw_defect needs {package}: pip install {package}"):
        _ = widgets.draw_defect
    assert widgets.InteractiveModel and widgets.Settings
    if package == "anywidget":
        assert widgets.defect_explorer
    with pytest.raises(AttributeError, match="no attribute 'draw_defekt'"):
        _ = widgets.draw_defekt


def test_an_error_inside_an_explorer_is_not_blamed_on_a_package(monkeypatch):
    monkeypatch.delitem(sys.modules, "rdlib.widgets.explore", raising=False)
    monkeypatch.setitem(sys.modules, "rdlib.widgets.parts", None)
    with pytest.raises(ImportError) as caught:
        _ = widgets.defect_explorer
    assert "pip install" not in str(caught.value)
