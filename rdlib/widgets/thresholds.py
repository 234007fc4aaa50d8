"""Explore how one threshold changes the confusion matrix and the points on the ROC and the PRO curve."""
import ipywidgets as widgets

from rdlib.evaluation.report import Report
from rdlib.figures.canvas import stored
from rdlib.figures.operating import threshold_view
from rdlib.widgets.parts import follow, slider

WARNING = ("This slider uses the test set. A threshold chosen here flatters the model. Choose yours from good images "
           "that you set aside for it.")


def threshold_explorer(report: Report) -> "ThresholdExplorer":
    """Create an explorer with a slider for the threshold of maps and scores.

    `figures.threshold_view` draws the same as a static figure. Raises ValueError unless the report has good and
    anomalous test images, and each image score is the map's maximum.
    """
    return ThresholdExplorer(report)


class ThresholdExplorer(widgets.VBox):
    """The explorer that `threshold_explorer` creates."""

    def __init__(self, report: Report):
        self.report = report
        low, high = float(report.maps.min()), float(report.scores.max())
        step = (high - low) / 200
        self.threshold = slider("threshold", (low + high) / 2, low, high + step, step, "For maps and image scores.")
        self.threshold.readout_format = ".3f"
        self.view = widgets.Image(layout=widgets.Layout(width="768px", max_width="98%", height="auto"))
        self.words = widgets.HTML()
        follow([self.threshold], self.update)
        super().__init__([self.threshold, self.view, self.words, widgets.HTML(f"<small>{WARNING}</small>")])
        self.update()

    def update(self) -> None:
        """Draw the results of the threshold and describe them in a sentence."""
        figure = threshold_view(self.report, self.threshold.value)
        self.view.value, self.words.value = stored(figure), f"<div role='status'>{figure.summary}</div>"
