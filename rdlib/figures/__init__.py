"""Every static figure of the kit, a function each: results go in, a matplotlib Figure comes out.

A figure carries a sentence drawn from its own data, `figure.summary`, so that nothing is told by picture alone: `show`
prints it below the picture and stores it as alt text. No figure stays open in pyplot and no global style is changed.
Colours are Okabe and Ito's and viridis, safe for the colour-blind, and never the only sign of a difference.
"""
from rdlib.figures.canvas import WIDTH, show
from rdlib.figures.curves import loss_curve, metric_curves, per_defect, roc_and_pro, score_histogram
from rdlib.figures.gallery import contour_threshold, examples, gallery
from rdlib.figures.lessons import confusion, pair_grid, pictures, side_by_side
from rdlib.figures.maps import scale_maps
from rdlib.figures.networks import Panel, panels, scatter, shapes
from rdlib.figures.operating import threshold_view, training_progress
from rdlib.figures.tables import class_matrix, effects, pro_by_hand
from rdlib.figures.threshold import threshold_choice

__all__ = ["WIDTH", "Panel", "class_matrix", "confusion", "contour_threshold", "effects", "examples", "gallery",
           "loss_curve", "metric_curves", "pair_grid", "panels", "per_defect", "pictures", "pro_by_hand", "roc_and_pro",
           "scale_maps", "scatter", "score_histogram", "shapes", "show", "side_by_side", "threshold_choice",
           "threshold_view", "training_progress"]
