"""Explorers with sliders and a brush, the functions they compute with, and a static twin of each.

`InteractiveModel`, its settings and the static figures need no widgets. The explorers need ipywidgets and are imported
when they are first used. They run in JupyterLab, Notebook 7 and Colab.
"""
from importlib import import_module
from typing import TYPE_CHECKING

from rdlib.widgets.interactive import InteractiveModel, Settings, View, weighted_map
from rdlib.widgets.static import designed_defects, drawn_defects, map_settings

__all__ = ["InteractiveModel", "DefectDesigner", "DefectExplorer", "DrawDefect", "Settings", "ThresholdExplorer",
           "TrainingMonitor", "View", "defect_designer", "defect_explorer", "designed_defects", "draw_defect",
           "drawn_defects", "map_settings", "threshold_explorer", "weighted_map"]

if TYPE_CHECKING:
    from rdlib.widgets.design import DefectDesigner, defect_designer
    from rdlib.widgets.explore import DefectExplorer, defect_explorer
    from rdlib.widgets.monitor import TrainingMonitor
    from rdlib.widgets.paint import DrawDefect, draw_defect
    from rdlib.widgets.thresholds import ThresholdExplorer, threshold_explorer
else:
    _HOMES = {"DefectDesigner": "design", "defect_designer": "design", "DefectExplorer": "explore",
              "defect_explorer": "explore", "TrainingMonitor": "monitor", "DrawDefect": "paint", "draw_defect": "paint",
              "ThresholdExplorer": "thresholds", "threshold_explorer": "thresholds"}

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'rdlib.widgets' has no attribute {name!r}")
        try:
            import ipywidgets  # noqa: F401 - to say what is missing before anything else fails
        except ImportError as error:
            raise ImportError("The explorers need ipywidgets: pip install ipywidgets anywidget. The static figures, such "
                              "as map_settings, do without.") from error
        return getattr(import_module(f"rdlib.widgets.{_HOMES[name]}"), name)
