"""Provide the canvas to paint on, an anywidget with its JavaScript in `canvas.js`."""
from pathlib import Path

import anywidget
import traitlets


class PaintCanvas(anywidget.AnyWidget):
    """An image to paint on. `layer` holds the paint."""

    _esm = Path(__file__).with_name("canvas.js")
    picture = traitlets.Bytes().tag(sync=True)  # JPEG
    # height x width x RGBA, not premultiplied; empty where nothing is painted
    layer = traitlets.CBytes().tag(sync=True, echo_update=False)
    height, width = traitlets.Int().tag(sync=True), traitlets.Int().tag(sync=True)
    brush = traitlets.Int(5).tag(sync=True)  # diameter, in pixels of the layer
    colour = traitlets.Unicode("#46301e").tag(sync=True)
    wiped = traitlets.Int(0).tag(sync=True)  # one more each time the canvas must drop its paint
