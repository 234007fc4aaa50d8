"""Provide the parts of the explorers: labeled sliders, images with a caption, a color bar, a readout."""
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import ipywidgets as widgets
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from rdlib.figures.picture import draw_outlines, enlarged, heat
from rdlib.widgets.interactive import View

Control = TypeVar("Control", bound=widgets.Widget)
BAR = Path(__file__).with_name("bar.html")
TOP = 2.0  # end of the color scale, in multiples of normal
SIDE = 448  # pixels of an image's longer side, shown at half that size or more


def control(kind: type[Control], label: str, value: object, **options: object) -> Control:
    """Create a labeled control, such as a slider, with the options of its class."""
    return kind(value=value, description=label, style={"description_width": "8.5em"},
                layout=widgets.Layout(width="400px", max_width="98%"), **options)  # a phone shows less


def factor_slider() -> widgets.FloatSlider:
    """Create the slider for the threshold."""
    return control(widgets.FloatSlider, "threshold", 1, min=0.2, max=3, step=0.05,
                   tooltip="A multiple of the map's highest value on good training images.")


def side_by_side(*parts: widgets.Widget) -> widgets.Box:
    """Put widgets in a row that wraps on a narrow page."""
    return widgets.Box(parts, layout=widgets.Layout(display="flex", flex_flow="row wrap", align_items="flex-start",
                                                    grid_gap="4px 16px"))


def photo(image: NDArray) -> Image.Image:
    """Resize an (H, W, 3) image in [0, 1] to a longer side of `SIDE` pixels."""
    pixels = Image.fromarray((image * 255 + 0.5).clip(0, 255).astype(np.uint8))
    return ImageOps.contain(pixels, (SIDE, SIDE), Image.Resampling.BICUBIC)


def encoded(image: Image.Image) -> bytes:
    """Encode an image as JPEG."""
    file = BytesIO()
    image.save(file, "jpeg", quality=90, subsampling=0)
    return file.getvalue()


class Panel(widgets.VBox):
    """An image, or another widget, below its caption.

    A readout describes it in words, since a widgets.Image has no alt text. The image gets no tooltip, since ipywidgets
    8.1 does not show an image with one.
    """

    def __init__(self, caption: str, hint: str, content: widgets.Widget | None = None):
        self.caption = widgets.HTML(f"<b title='{hint}'>{caption}</b>")
        self.image = widgets.Image(format="jpeg", layout=widgets.Layout(width="100%", height="auto"))
        super().__init__([self.caption, content or self.image], layout=widgets.Layout(width="264px", max_width="98%"))


class MapPanels(widgets.VBox):
    """An image with outlines, its map with a color bar, and the decision in a sentence."""

    def __init__(self, *more: widgets.Widget, truth: str = "the true defect"):
        self.outlined = Panel("marked", f"Outlines on the image: solid white, {truth}; dashed orange, where the map "
                              "reaches the threshold.")
        self.map = Panel("anomaly map", "The anomaly map: dark is normal, bright is anomalous.")
        self.bar, self.words = widgets.HTML(), widgets.HTML()
        self.map.children += (self.bar,)
        legend = widgets.HTML(f"<small>Solid white: {truth}. Dashed orange: map at or above the threshold. Normal: the "
                              "highest value of the map on good training images.</small>")
        super().__init__([side_by_side(*more, self.outlined, self.map), legend, self.words])

    def show(self, view: View, before: str = "") -> None:
        """Show a view, with marks at its threshold and score on the color bar. The sentence starts with `before`."""
        picture = draw_outlines(photo(view.image), view.map, view.threshold, view.mask)
        self.outlined.image.value = encoded(picture)
        self.map.image.value = encoded(heat(enlarged(view.map, picture.size), TOP * view.normal))
        colours = matplotlib.colormaps["viridis"](np.linspace(0, 1, 9), bytes=True)[:, :3].tolist()
        stops, top = ", ".join(f"rgb({r},{g},{b})" for r, g, b in colours), TOP * view.normal
        threshold, score = (min(98, 100 * value / top) for value in (view.threshold, view.score))  # % of the width
        self.bar.value = BAR.read_text(encoding="utf-8").format(stops=stops, threshold=threshold, score=score, low=0,
                                                                normal=view.normal, top=top)
        self.words.value = f"<div role='status' class='rdlib-words'>{escape(before)}{view.verdict}</div>"
