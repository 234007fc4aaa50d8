"""The explorers: sliders, a brush and a stop button around plain functions of `rdlib.exploring`.

Each has a static twin in `rdlib.figures`, for a page without a kernel. They are written for JupyterLab, Notebook 7 and
Colab. A threshold that is found by moving a slider over test images has been chosen on test data: play with it, and
take the one you use from good images set aside.
"""
try:
    import ipywidgets  # noqa: F401 - to say what is missing before anything else fails
except ImportError as error:
    raise ImportError("The explorers need ipywidgets: pip install ipywidgets anywidget. Their static twins in "
                      "rdlib.figures do without.") from error

from rdlib.widgets.explore import DefectExplorer, defect_explorer
from rdlib.widgets.monitor import TrainingMonitor
from rdlib.widgets.paint import DrawDefect, draw_defect
from rdlib.widgets.design import DefectDesigner, defect_designer
from rdlib.widgets.thresholds import ThresholdExplorer, threshold_explorer

__all__ = ["DefectDesigner", "DefectExplorer", "DrawDefect", "ThresholdExplorer", "TrainingMonitor", "defect_designer",
           "defect_explorer", "draw_defect", "threshold_explorer"]
