"""Draw your own defect: paint on a good image and watch map and score react.

The canvas is an anywidget (`canvas.js` beside this file); where anywidget is missing, sliders put a round spot.
"""
from dataclasses import replace
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import traitlets
from numpy.typing import NDArray

from rdlib.datasets.samples import AnomalyData
from rdlib.detector import Distillation
from rdlib.synthetic.paint import painted, spot
from rdlib.widgets.interactive import InteractiveModel
from rdlib.widgets.parts import LABEL, WIDTH, MapPanels, Panel, follow, side_by_side, slider, whole
from rdlib.widgets.picture import SIDE, encoded, photo

try:
    import anywidget
except ImportError:
    anywidget = None

DIRT = "#46301e"


def draw_defect(model: Distillation, data: AnomalyData, canvas: bool = True) -> "DrawDefect":
    """A brush on good images, the model's answer beside it. Static twin: `figures.drawn_defects`.

    Args:
        model: trained.
        data: what it was trained on; good test images are painted on, training images where there are none.
        canvas: paint by hand; False, or a missing anywidget: put a spot by sliders, which the keyboard moves too.
    """
    return DrawDefect(InteractiveModel(model, data), canvas)


class DrawDefect(widgets.VBox):
    """See `draw_defect`."""

    def __init__(self, interactive: InteractiveModel, canvas: bool = True):
        self.interactive = interactive
        test = interactive.data.test
        good = [i for i, label in enumerate(test.labels) if not label] if test else []
        self._images = [test[i].image for i in good] or [interactive.data.train[0].image]
        self.number = whole("good image", 0, 0, len(self._images) - 1)
        self.factor = slider("threshold", 1, 0.2, 3, 0.05, "In multiples of the highest value on good training images.")
        self.colour = widgets.ColorPicker(value=DIRT, description="colour", style=LABEL,
                                          layout=widgets.Layout(width=WIDTH, max_width="98%"))
        self.size = whole("brush (px)", max(2, self._height // 24), 1, self._height // 4, "Diameter, in image pixels.")
        self.canvas = PaintCanvas(*self._images[0].shape[1:]) if canvas and anywidget else None
        self.panels = MapPanels(*([self._board()] if self.canvas else []), truth="what you painted")
        super().__init__([side_by_side(widgets.VBox([self.number, self.factor]), self._tools()), self.panels])
        self.number.observe(lambda change: self.clear(), names="value")
        follow([self.factor], self.update)
        self.clear()

    @property
    def _height(self) -> int:
        return self._images[0].shape[1]

    @property
    def layer(self) -> NDArray:
        """(H, W, 4) uint8 RGBA, what is painted now."""
        height, width = self._images[0].shape[1:]
        if self.canvas:
            pixels = np.frombuffer(self.canvas.layer, np.uint8)
            return pixels.reshape(height, width, 4) if pixels.size else np.zeros((height, width, 4), np.uint8)
        return spot((height, width), self.x.value, self.y.value, self.size.value / 2 / width, self.colour.value,
                    self.opacity.value)

    def update(self) -> None:
        """Ask the network about the painted image, and show what it says."""
        layer = self.layer
        settings = replace(self.interactive.settings, factor=self.factor.value)
        view = self.interactive.view_of(painted(self._images[self.number.value], layer), settings, layer[..., 3] > 127)
        self.panels.show(view, f"Unpainted it scores {self._unpainted:.3f}. Now: ")

    def clear(self) -> None:
        """Take the paint off, and show the chosen image."""
        image = self._images[self.number.value]
        self._unpainted = self.interactive.view_of(image, self.interactive.settings).score
        if self.canvas:
            self.canvas.picture = encoded(photo(image.permute(1, 2, 0).numpy(), SIDE))
            self.canvas.layer = b""
            self.canvas.wiped += 1
        self.update()

    def _tools(self) -> widgets.VBox:
        if self.canvas:
            self.opacity = None
            wipe = widgets.Button(description="wipe off", layout=widgets.Layout(width="8em"))
            wipe.on_click(lambda button: self.clear())
            widgets.jslink((self.size, "value"), (self.canvas, "brush"))
            widgets.jslink((self.colour, "value"), (self.canvas, "colour"))
            self.canvas.brush, self.canvas.colour = self.size.value, self.colour.value
            self.canvas.observe(lambda change: self.update() if change.new else None, names="layer")
            return widgets.VBox([self.size, self.colour, wipe])
        self.x, self.y = slider("right", 0.5, 0, 1, 0.01), slider("down", 0.25, 0, 1, 0.01)
        self.opacity = slider("opacity", 1, 0, 1, 0.05)
        follow([self.x, self.y, self.size, self.opacity, self.colour], self.update)
        return widgets.VBox([self.x, self.y, self.size, self.opacity, self.colour])

    def _board(self) -> Panel:
        board = Panel("paint here", "")
        board.children = (board.caption, self.canvas)
        return board


if anywidget:
    class PaintCanvas(anywidget.AnyWidget):
        """A picture that can be painted on; `layer` holds the paint alone."""

        _esm = Path(__file__).with_name("canvas.js")
        picture = traitlets.Bytes().tag(sync=True)  # JPEG
        # height x width x RGBA, not premultiplied; empty where nothing is painted
        layer = traitlets.CBytes().tag(sync=True, echo_update=False)
        height, width = traitlets.Int().tag(sync=True), traitlets.Int().tag(sync=True)
        brush = traitlets.Int(5).tag(sync=True)  # diameter, in pixels of the layer
        colour = traitlets.Unicode(DIRT).tag(sync=True)
        wiped = traitlets.Int(0).tag(sync=True)  # counts up whenever the canvas is to forget its paint

        def __init__(self, height: int, width: int):
            super().__init__(height=height, width=width)
