"""Paint a defect on a good image, and see how map and score change."""
import ipywidgets as widgets
import numpy as np
from numpy.typing import NDArray

from rdlib.datasets.samples import AnomalyData
from rdlib.detector import Distillation
from rdlib.widgets.canvas import PaintCanvas
from rdlib.widgets.interactive import InteractiveModel, painted
from rdlib.widgets.parts import MapPanels, Panel, control, encoded, factor_slider, photo, side_by_side


def draw_defect(model: Distillation, data: AnomalyData) -> "DrawDefect":
    """Create an explorer: a good image to paint on, with the model's map and score.

    Args:
        model: trained model; it is not changed.
        data: the model's training images, and test images. Without good test images, you paint on a training image.

    Returns:
        The explorer, a widget.

    Raises:
        NotFiniteError: distances are NaN or infinite.
    """
    return DrawDefect(InteractiveModel(model, data))


class DrawDefect(widgets.VBox):
    """The explorer that `draw_defect` creates."""

    def __init__(self, interactive: InteractiveModel):
        self.interactive = interactive
        test = interactive.data.test
        self._images = [test[i].image for i, label in enumerate(test.labels) if not label] if test else []
        self._images = self._images or [interactive.data.train[0].image]
        height, width = self._images[0].shape[1:]
        self.number = control(widgets.IntSlider, "good image", 0, max=len(self._images) - 1)
        self.factor = factor_slider()
        self.size = control(widgets.IntSlider, "brush (px)", max(2, height // 24), min=1, max=height // 4,
                            tooltip="Diameter, in image pixels.")
        wipe = widgets.Button(description="wipe off", layout=widgets.Layout(width="8em"))
        self.canvas = PaintCanvas(height=height, width=width, brush=self.size.value)
        self.colour = control(widgets.ColorPicker, "color", self.canvas.colour)
        self.panels = MapPanels(Panel("paint here", "", content=self.canvas), truth="what you painted")
        super().__init__([side_by_side(widgets.VBox([self.number, self.factor]),
                                       widgets.VBox([self.size, self.colour, wipe])), self.panels])
        widgets.jslink((self.size, "value"), (self.canvas, "brush"))
        widgets.jslink((self.colour, "value"), (self.canvas, "colour"))
        wipe.on_click(lambda button: self.clear())
        self.number.observe(lambda change: self.clear(), names="value")
        self.canvas.observe(lambda change: self.update() if change.new else None, names="layer")
        self.factor.observe(lambda change: self.update(), names="value")
        self.clear()

    @property
    def layer(self) -> NDArray:
        """Return the current paint, (H, W, 4) uint8 RGBA."""
        height, width = self.canvas.height, self.canvas.width
        return np.frombuffer(self.canvas.layer or bytes(4 * height * width), np.uint8).reshape(height, width, 4)

    def update(self) -> None:
        """Compute and show the map of the painted image."""
        layer = self.layer
        settings = self.interactive.settings._replace(factor=self.factor.value)
        view = self.interactive.view_of(painted(self._images[self.number.value], layer), settings, layer[..., 3] > 127)
        self.panels.show(view, f"Unpainted it scores {self._unpainted:.3f}. Now: ")

    def clear(self) -> None:
        """Remove the paint and show the chosen image."""
        image = self._images[self.number.value]
        self._unpainted = self.interactive.view_of(image, self.interactive.settings).score
        self.canvas.picture = encoded(photo(image.permute(1, 2, 0).numpy()))
        self.canvas.layer = b""
        self.canvas.wiped += 1
        self.update()
