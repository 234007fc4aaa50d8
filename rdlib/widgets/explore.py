"""Explore how scales, smoothing and threshold change the anomaly map, the outline and the score of an image."""
import ipywidgets as widgets
import numpy as np

from rdlib.anomaly_map import FUSIONS
from rdlib.datasets.samples import GOOD, AnomalyData
from rdlib.detector import Distillation
from rdlib.widgets.interactive import InteractiveModel, Settings
from rdlib.widgets.parts import MapPanels, control, factor_slider, side_by_side


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
                        for name, weight in zip(("fine", "middle", "coarse"), own.weights, strict=True)]
        self.fusion = control(widgets.Dropdown, "fusion", own.fusion, options=FUSIONS)
        self.sigma = control(widgets.FloatSlider, "smoothing (px)", own.sigma, max=8, step=0.5,
                             tooltip="Standard deviation of the Gaussian, in pixels of the image.")
        self.factor = factor_slider()
        self.panels = MapPanels()
        self._count()
        self.kind.observe(lambda change: self._count(), names="value")
        for part in (self.kind, self.number, *self.weights, self.fusion, self.sigma, self.factor):
            part.observe(lambda change: self.update(), names="value")
        super().__init__([side_by_side(widgets.VBox([self.kind, self.number, self.sigma, self.factor]),
                                       widgets.VBox([*self.weights, self.fusion])), self.panels])
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

    def _count(self) -> None:
        self.number.value, self.number.max = 0, int((self._defects == self.kind.value).sum()) - 1
