"""Write pages that need neither other files nor a network, and among them the report page of a training."""
import base64
from pathlib import Path

import jinja2
import numpy as np

from rdlib.datasets.samples import AnomalyData
from rdlib.evaluation import Report
from rdlib.figures import gallery, loss_curve, roc_and_pro, score_histogram
from rdlib.figures.canvas import stored
from rdlib.figures.style import ORANGE
from rdlib.training import Run
from rdlib.utils.files import written_atomically

WORST = 6  # images of each class


def write_page(path: Path, data: AnomalyData, split: str, run: Run, report: Report) -> None:
    """Write the report page. Its template is page.html, which escapes every text.

    Args:
        path: file to write.
        data: the images that were read.
        split: in words, how the images for the threshold were chosen.
        run: the training run; its model has a threshold.
        report: predictions on the test images or, without test images, on those that chose the threshold.
    """
    threshold, order, table = run.model.threshold, np.argsort(report.scores), report.table()
    assert threshold is not None
    good, bad = order[report.labels[order] == 0][::-1], order[report.labels[order] == 1]
    histogram = score_histogram(report)
    histogram.axes[0].axvline(threshold.score, color=ORANGE, linestyle="dashed", label="threshold")
    histogram.axes[0].legend()
    figures = [loss_curve(run), histogram, *([roc_and_pro(report)] if len(good) and len(bad) else [])]
    render(path, "page.html", data=data, split=split, run=run, report=report, threshold=threshold,
           counts=[(len(part), (report.scores[part] >= threshold.score).sum()) for part in (good, bad)],
           figures=figures, source=lambda figure: embedded(stored(figure)),
           worst=[(gallery(report, indices=part, threshold=threshold.pixel), table.iloc[part])
                  for part in (good[:WORST], bad[:WORST]) if len(part)])


def render(path: Path, template: str, **values: object) -> None:
    """Write a page from a template beside this file, with the values that it names. Every text is escaped."""
    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    text = templates.get_template(template).render(values)
    with written_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files may be no UTF-8


def embedded(content: bytes) -> str:
    """Return a PNG or JPEG file as a source for a page."""
    return f"data:image/{'png' if content[1:4] == b'PNG' else 'jpeg'};base64,{base64.b64encode(content).decode()}"
