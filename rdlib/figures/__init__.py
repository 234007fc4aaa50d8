"""Draw results as matplotlib figures: one function for each kind of figure.

Every figure has a `summary`, a sentence computed from its data. `show` prints it and stores it as alt text. No figure
stays open in pyplot, and no global style is changed. The colours are Okabe and Ito's palette and viridis, which
color-blind readers can tell apart. Colour is never the only sign of a difference.
"""
from rdlib.figures.canvas import BLUE, GREEN, GREY, ORANGE, VERMILION, WIDTH, show
from rdlib.figures.curves import loss_curve, metric_curves, roc_and_pro, score_histogram
from rdlib.figures.gallery import contour_threshold, examples, gallery
from rdlib.figures.lessons import confusion, pictures, side_by_side
from rdlib.figures.maps import scale_maps
from rdlib.figures.networks import Panel, panels, shapes
from rdlib.figures.operating import threshold_view

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "VERMILION", "WIDTH", "Panel", "confusion", "contour_threshold",
           "examples", "gallery", "loss_curve", "metric_curves", "panels", "pictures", "roc_and_pro", "scale_maps",
           "score_histogram", "shapes", "show", "side_by_side", "threshold_view"]
