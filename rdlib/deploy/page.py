"""Write the pages of `rdlib train` and `rdlib check`, which need neither other files nor a network."""
import base64
import io
from functools import partial
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image, ImageOps

from rdlib.datasets.check import Findings
from rdlib.datasets.samples import AnomalyData, Sample
from rdlib.evaluation import Report
from rdlib.figures import gallery, loss_curve, roc_and_pro, score_histogram
from rdlib.figures.canvas import stored
from rdlib.figures.picture import draw_outlines
from rdlib.figures.style import ORANGE
from rdlib.images import as_images
from rdlib.training import Run
from rdlib.utils.errors import DataError
from rdlib.utils.files import written_atomically

WORST = 6  # images of each class on the page of a training
SIDE, SHOWN = 240, 4  # pixels of the longer side of an image on the page of a check; images of a type


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


def write_check(path: Path, data: AnomalyData, findings: Findings, expected: str) -> None:
    """Write the page of a check. Its template is check.html, which escapes every text.

    Args:
        path: file to write.
        data: the images that were checked.
        findings: what `datasets.check` found.
        expected: what training would take, in words.
    """
    render(path, "check.html", data=data, findings=findings, expected=expected, shown=SHOWN,
           picture=partial(_picture, size=data.train.size))


def _picture(sample: Sample, size: tuple[int, int]) -> str:
    """Draw an image at (H, W) = `size` with the outline of its mask. Return a source, "" for an unreadable image."""
    try:
        image, mask = sample.load(size)
    except DataError:
        return ""
    pixels = (255 * as_images(image)[0].movedim(0, -1)).round().byte().numpy()
    drawn = ImageOps.contain(Image.fromarray(pixels), (SIDE, SIDE))
    draw_outlines(drawn, np.zeros(size), 1, (mask == 1).numpy())
    drawn.save(content := io.BytesIO(), "jpeg", quality=85)
    return embedded(content.getvalue())
