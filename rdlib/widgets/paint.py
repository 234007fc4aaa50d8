"""Paint a defect on a good image; map and score follow.

The canvas is an anywidget. Without anywidget, sliders place a round spot.
"""
from dataclasses import replace
from importlib.util import find_spec

import ipywidgets as widgets
import numpy as np
from numpy.typing import NDArray

from rdlib.datasets.samples import AnomalyData
from rdlib.detector import Distillation
from rdlib.synthetic.paint import painted, spot
from rdlib.widgets.interactive import InteractiveModel
from rdlib.widgets.parts import FACTOR_HINT, LABEL, WIDTH, MapPanels, Panel, follow, side_by_side, slider, whole
from rdlib.widgets.picture import SIDE, encoded, photo

DIRT = "#46301e"
HAS_ANYWIDGET = find_spec("anywidget") is not None


def draw_defect(model: Distillation, data: AnomalyData, canvas: bool = True) -> "DrawDefect":
    """Show a good image to paint on, with the model's map and score. `drawn_defects` is the static figure.

    Args:
        model: trained.
        data: its training images, and test images; without good test images, a training image is painted on.
        canvas: paint with the mouse; False, or a missing anywidget: place a spot with sliders or the keyboard.

    Returns:
        The explorer, a widget.
    """
    return DrawDefect(InteractiveModel(model, data), canvas)


class DrawDefect(widgets.VBox):
    """See `draw_defect`."""

    def __init__(self, interactive: InteractiveModel, canvas: bool = True):
        self.interactive = interactive
        test = interactive.data.test
        self._images = [test[i].image for i, label in enumerate(test.labels) if not label] if test else []
        self._images = self._images or [interactive.data.train[0].image]
        height, width = self._shape = self._images[0].shape[1:]
        self.number = whole("good image", 0, 0, len(self._images) - 1)
        self.factor = slider("threshold", 1, 0.2, 3, 0.05, FACTOR_HINT)
        self.colour = widgets.ColorPicker(value=DIRT, description="colour", style=LABEL,
                                          layout=widgets.Layout(width=WIDTH, max_width="98%"))
        self.size = whole("brush (px)", max(2, height // 24), 1, height // 4, "Diameter, in image pixels.")
        self.canvas = None
        if canvas and HAS_ANYWIDGET:
            from rdlib.widgets.canvas import PaintCanvas
            self.canvas = PaintCanvas(height=height, width=width)
        self.panels = MapPanels(*([self._board()] if self.canvas else []), truth="what you painted")
        super().__init__([side_by_side(widgets.VBox([self.number, self.factor]), self._tools()), self.panels])
        self.number.observe(lambda change: self.clear(), names="value")
        follow([self.factor], self.update)
        self.clear()

    @property
    def layer(self) -> NDArray:
        """The present paint, (H, W, 4) uint8 RGBA."""
        height, width = self._shape
        if self.canvas:
            pixels = np.frombuffer(self.canvas.layer, np.uint8)
            return pixels.reshape(height, width, 4) if pixels.size else np.zeros((height, width, 4), np.uint8)
        return spot((height, width), self.x.value, self.y.value, self.size.value / 2 / width, self.colour.value,
                    self.opacity.value)

    def update(self) -> None:
        """Compute and show the map of the painted image."""
        layer = self.layer
        settings = replace(self.interactive.settings, factor=self.factor.value)
        view = self.interactive.view_of(painted(self._images[self.number.value], layer), settings, layer[..., 3] > 127)
        self.panels.show(view, f"Unpainted it scores {self._unpainted:.3f}. Now: ")

    def clear(self) -> None:
        """Remove the paint and show the chosen image."""
        image = self._images[self.number.value]
        self._unpainted = self.interactive.view_of(image, self.interactive.settings).score
        if self.canvas:
            self.canvas.picture = encoded(photo(image.permute(1, 2, 0).numpy(), SIDE))
            self.canvas.layer = b""
            self.canvas.wiped += 1
        self.update()

    def _tools(self) -> widgets.VBox:
        if self.canvas:
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
