"""Explore how scales, smoothing and threshold change the anomaly map, the outline and the score of an image."""
import ipywidgets as widgets
import numpy as np

from rdlib.anomaly_map import FUSIONS
from rdlib.datasets.samples import GOOD, AnomalyData
from rdlib.detector import Distillation
from rdlib.figures.picture import heat
from rdlib.widgets.interactive import InteractiveModel, Settings
from rdlib.widgets.parts import MapPanels, Panel, control, factor_slider, follow, side_by_side

SCALE_NAMES = ("fine", "middle", "coarse")


def defect_explorer(model: Distillation, data: AnomalyData) -> "DefectExplorer":
    """Create an explorer with sliders for the steps from distances to an anomaly map, for any test image.

    The threshold's unit is the highest value of the map on up to 16 training images. If you move the threshold until
    test images look right, you choose it on test data.

    Args:
        model: trained model; it is not changed.
        data: the model's training images, and test images.

    Returns:
        The explorer, a widget.

    Raises:
        ValueError: the data have no test images.
        NotFiniteError: distances are NaN or infinite.
    """
    return DefectExplorer(InteractiveModel(model, data))


class DefectExplorer(widgets.VBox):
    """The explorer that `defect_explorer` creates."""

    def __init__(self, interactive: InteractiveModel):
        self.interactive, own = interactive, interactive.settings
        self._defects = np.array(interactive.test.defect_types)
        kinds = list(dict.fromkeys(self._defects))
        self.kind = control(widgets.Dropdown, "defect type", next((k for k in kinds if k != GOOD), GOOD), options=kinds)
        self.number = control(widgets.IntSlider, "number", 0, max=0, tooltip="Number of the image within its type.")
        self.weights = [control(widgets.FloatSlider, name, weight, max=2, tooltip=f"Weight of the {name} scale.")
                        for name, weight in zip(SCALE_NAMES, own.weights, strict=True)]
        self.fusion = control(widgets.Dropdown, "fusion", own.fusion, options=FUSIONS)
        self.sigma = control(widgets.FloatSlider, "smoothing (px)", own.sigma, max=8, step=0.5,
                             tooltip="Standard deviation of the Gaussian, in pixels of the image.")
        self.factor = factor_slider()
        self.reset = widgets.Button(description="the model's own settings", layout=widgets.Layout(width="16em"))
        self.panels = MapPanels()
        self.scales = [Panel(name, f"Distance at the {name} scale, before it is weighted.", "128px")
                       for name in SCALE_NAMES]
        self.scales_top = max(self.interactive.reference.max().item(), 1e-12)
        self.controls = [*self.weights, self.fusion, self.sigma, self.factor]
        self._count()
        self.kind.observe(lambda change: self._count(), names="value")
        follow([self.kind, self.number, *self.controls], self.update)
        self.reset.on_click(lambda button: self.reset_settings())
        super().__init__([side_by_side(widgets.VBox([self.kind, self.number, self.sigma, self.factor]),
                                       widgets.VBox([*self.weights, self.fusion, self.reset])),
                          self.panels, side_by_side(*self.scales)])
        self.update()

    @property
    def index(self) -> int:
        """Return the index of the chosen image in the test set."""
        return int(np.flatnonzero(self._defects == self.kind.value)[self.number.value])

    @property
    def settings(self) -> Settings:
        """Return the settings of the controls. If all three weights are 0, each counts as 1."""
        weights = tuple(weight.value for weight in self.weights)
        return Settings(weights if any(weights) else (1.0, 1.0, 1.0), self.sigma.value, self.fusion.value,
                        self.factor.value)

    def update(self) -> None:
        """Show the chosen image with the chosen settings."""
        start = "" if any(weight.value for weight in self.weights) else "Every weight is 0; all three count as 1. "
        start += f"Image {self.index}, {self.kind.value}: "
        self.panels.show(self.interactive.view(self.index, self.settings), start)
        for panel, values in zip(self.scales, self.interactive.scales(self.index).numpy(), strict=True):
            panel.show(heat(values, self.scales_top))

    def reset_settings(self) -> None:
        """Set the controls to the model's own settings and the threshold to 1."""
        own = self.interactive.settings
        for widget, value in zip(self.controls, (*own.weights, own.fusion, own.sigma, own.factor), strict=True):
            widget.value = value

    def _count(self) -> None:
        self.number.value, self.number.max = 0, int((self._defects == self.kind.value).sum()) - 1
