"""Explore one threshold: confusion matrix, ROC point and PRO point follow a slider."""
from io import BytesIO

import ipywidgets as widgets
from PIL import Image, ImageDraw

from rdlib.evaluation.operating import OperatingPoint, operating_point
from rdlib.evaluation.report import Report
from rdlib.figures.canvas import ORANGE, canvas
from rdlib.figures.operating import OUTCOMES, describe, draw_threshold_curves
from rdlib.widgets.parts import follow, side_by_side, slider
from rdlib.widgets.picture import encoded

DPI = 96
PADDED = "style='padding:4px 10px'"
WARNING = ("This slider uses the test set. A threshold chosen here flatters the model. Choose yours from good images "
           "that you set aside for it.")


def threshold_explorer(report: Report) -> "ThresholdExplorer":
    """Show a slider over one threshold on maps and scores. `figures.threshold_view` is the static figure.

    Raises ValueError unless the report has good and anomalous test images, each scored by its map's maximum.
    """
    return ThresholdExplorer(report)


class ThresholdExplorer(widgets.VBox):
    """See `threshold_explorer`."""

    def __init__(self, report: Report):
        self.report = report
        low, high = float(report.maps.min()), float(report.scores.max())
        step = (high - low) / 200
        self.threshold = slider("threshold", (low + high) / 2, low, high + step, step, "For maps and image scores.")
        self.threshold.readout_format = ".3f"
        self._curves, self._pixels = self._draw_curves()
        self.matrix = widgets.HTML()
        layout = widgets.Layout(width=f"{self._curves.width}px", max_width="98%", height="auto")
        self.curves = widgets.Image(format="png", layout=layout)
        self.words = widgets.HTML()
        follow([self.threshold], self.update)
        super().__init__([self.threshold, side_by_side(self.matrix, self.curves), self.words,
                          widgets.HTML(f"<small>{WARNING}</small>")])
        self.update()

    def update(self) -> None:
        """Show the operating point of the threshold."""
        point = operating_point(self.report, self.threshold.value)
        self.matrix.value, self.words.value = matrix_html(point), f"<div role='status'>{describe(point)}</div>"
        picture = self._curves.copy()
        draw = ImageDraw.Draw(picture)
        places = [(point.fpr, point.tpr), (point.pixel_fpr, point.pro)]
        for to_pixels, place in zip(self._pixels, places, strict=False):
            x, y = to_pixels.transform(place)
            draw.circle((x, picture.height - y), 7, ORANGE, "black", 2)
        self.curves.value = encoded(picture, "png")

    def _draw_curves(self) -> tuple[Image.Image, list]:
        """Draw the curves without a point, once. Return them and each axes' transform from data to pixels."""
        report, panels = self.report, 1 + (self.report.pixels is not None)
        with canvas(1, panels, 3.0) as (figure, (axes,)):
            figure.set_figwidth(3.0 * panels)
            draw_threshold_curves(axes, report, operating_point(report, self.threshold.value))
            file = BytesIO()
            figure.savefig(file, format="png", dpi=DPI)
            figure.set_dpi(DPI)
            figure.draw_without_rendering()
            return Image.open(file).convert("RGB"), [axis.transData.frozen() for axis in axes]


def matrix_html(point: OperatingPoint) -> str:
    """Write the confusion matrix as an HTML table."""
    style = "text-align:center;border:1px solid #767676;padding:8px 14px"

    def cell(count: int, name: str) -> str:
        return f"<td style='{style}'><b style='font-size:20px'>{count}</b><br>{name}</td>"

    counts = ("good", point.tn, point.fp), ("anomalous", point.fn, point.tp)
    body = "".join(f"<tr><th scope='row' {PADDED}>is {kind}</th>{cell(passed, left)}{cell(called, right)}</tr>"
                   for (kind, passed, called), (left, right) in zip(counts, OUTCOMES, strict=True))
    return ("<table style='border-collapse:collapse'><caption>images</caption><tr><td></td>"
            f"<th scope='col' {PADDED}>called normal</th><th scope='col' {PADDED}>called anomalous</th></tr>"
            f"{body}</table>")
