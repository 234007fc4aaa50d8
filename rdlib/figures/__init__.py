"""Draw results as matplotlib figures: one function for each kind of figure.

Every figure has a `summary`, a sentence computed from its data. `show` prints it and stores it as alt text. No figure
stays open in pyplot, and no global style is changed. The colors are Okabe and Ito's palette and viridis, which
color-blind readers can tell apart. Color is never the only sign of a difference.
"""
from rdlib.figures.canvas import show
from rdlib.figures.curves import loss_curve, roc_and_pro, score_histogram
from rdlib.figures.gallery import contour_threshold, examples, gallery
from rdlib.figures.networks import Panel, panels, pictures, shapes
from rdlib.figures.style import BLUE, GREEN, GREY, ORANGE, VERMILION, WIDTH

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "VERMILION", "WIDTH", "Panel", "contour_threshold", "examples",
           "gallery", "loss_curve", "panels", "pictures", "roc_and_pro", "score_histogram", "shapes", "show"]
