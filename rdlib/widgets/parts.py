"""Provide the parts of the explorers: labelled sliders, images with a caption, a colour bar, a readout."""
from collections.abc import Callable, Sequence

import ipywidgets as widgets
import numpy as np
from PIL import Image

from rdlib.widgets.interactive import View
from rdlib.widgets.picture import colour_table, draw_outlines, encoded, heat, photo
from rdlib.widgets.static import TOP

WIDTH = "400px"  # of a control; a phone shows less
FACTOR_HINT = "A multiple of the map's highest value on good training images."
LABEL = {"description_width": "8.5em"}


def slider(label: str, value: float, low: float, high: float, step: float, hint: str = "") -> widgets.FloatSlider:
    """Make a slider over decimal numbers."""
    return widgets.FloatSlider(value=value, min=low, max=high, step=step, description=label, tooltip=hint,
                               readout_format=".2f", style=LABEL, layout=_row())


def whole(label: str, value: int, low: int, high: int, hint: str = "") -> widgets.IntSlider:
    """Make a slider over whole numbers."""
    return widgets.IntSlider(value=value, min=low, max=high, description=label, tooltip=hint, style=LABEL,
                             layout=_row())


def choice(label: str, options: Sequence, value: object) -> widgets.Dropdown:
    """Make a list to choose one option from."""
    return widgets.Dropdown(options=options, value=value, description=label, style=LABEL, layout=_row())


def _row() -> widgets.Layout:
    return widgets.Layout(width=WIDTH, max_width="98%")


def side_by_side(*parts: widgets.Widget) -> widgets.Box:
    """Put widgets in a row that wraps on a narrow page."""
    return widgets.Box(parts, layout=widgets.Layout(display="flex", flex_flow="row wrap", align_items="flex-start",
                                                    grid_gap="4px 16px"))


class Panel(widgets.VBox):
    """An image below its caption.

    A readout describes it in words: a widgets.Image has no alt text, and ipywidgets 8.1 does not show one that has a
    tooltip.
    """

    def __init__(self, caption: str, hint: str, width: str = "264px"):
        self.caption = widgets.HTML(f"<b title='{hint}'>{caption}</b>")
        self.image = widgets.Image(format="jpeg", layout=widgets.Layout(width="100%", height="auto"))
        super().__init__([self.caption, self.image], layout=widgets.Layout(width=width, max_width="98%"))

    def show(self, picture: Image.Image) -> None:
        """Replace the image."""
        self.image.value = encoded(picture)


class MapPanels(widgets.VBox):
    """An image with outlines, its map with a colour bar, and the verdict in words."""

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
        """Show a view; `before` is the start of the sentence."""
        self.outlined.show(draw_outlines(photo(view.image), view.map, view.threshold, view.mask))
        self.map.show(heat(view.map, TOP * view.normal))
        self.bar.value = colour_bar(view)
        self.words.value = f"<div role='status' class='rdlib-words'>{before}{view.verdict}</div>"


def colour_bar(view: View) -> str:
    """Draw viridis from 0 to twice normal as HTML, with marks at the threshold and at the image's score."""
    stops = ", ".join(f"rgb({r},{g},{b})" for r, g, b in colour_table()[np.linspace(0, 255, 9).astype(int)].tolist())
    top = TOP * view.normal

    def mark(value: float, sign: str) -> str:
        left = min(98, 100 * value / top)  # keeps the whole sign visible
        return f"<span style='position:absolute;left:{left:.1f}%;transform:translateX(-50%)'>{sign}</span>"

    ticks = "".join(f"<span>{value:.2f}</span>" for value in (0, view.normal, top))
    return (f"<div style='line-height:1.3;font-size:12px'><div style='position:relative;height:16px'>"
            f"{mark(view.threshold, '▼')}{mark(view.score, '◆')}</div>"
            f"<div style='height:10px;background:linear-gradient(to right,{stops})'></div>"
            f"<div style='display:flex;justify-content:space-between'>{ticks}</div>"
            "<div>▼ threshold &nbsp; ◆ score &nbsp; in the middle: normal</div></div>")


def follow(controls: Sequence[widgets.Widget], answer: Callable[[], None]) -> None:
    """Call `answer` each time one of the controls changes."""
    for control in controls:
        control.observe(lambda change: answer(), names="value")
