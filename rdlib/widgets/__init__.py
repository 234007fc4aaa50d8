"""Explore maps, thresholds and painted defects interactively; static figures show the same without a running kernel.

`InteractiveModel`, its settings and the static figures need no ipywidgets. The explorers need it and are imported at
first use. They run in JupyterLab, Notebook 7 and Colab.
"""
from importlib import import_module
from typing import TYPE_CHECKING

from rdlib.widgets.interactive import InteractiveModel, Settings, View, weighted_map
from rdlib.widgets.static import drawn_defects, map_settings

__all__ = ["InteractiveModel", "DefectExplorer", "DrawDefect", "Settings", "ThresholdExplorer", "View",
           "defect_explorer", "draw_defect", "drawn_defects", "map_settings", "threshold_explorer", "weighted_map"]

if TYPE_CHECKING:
    from rdlib.widgets.explore import DefectExplorer, defect_explorer
    from rdlib.widgets.paint import DrawDefect, draw_defect
    from rdlib.widgets.thresholds import ThresholdExplorer, threshold_explorer
else:
    _HOMES = {"DefectExplorer": "explore", "defect_explorer": "explore", "DrawDefect": "paint", "draw_defect": "paint",
              "ThresholdExplorer": "thresholds", "threshold_explorer": "thresholds"}

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'rdlib.widgets' has no attribute {name!r}")
        try:
            import ipywidgets  # noqa: F401 - a clear message before any other import fails
        except ImportError as error:
            raise ImportError("The explorers need ipywidgets: pip install ipywidgets anywidget. The static figures, "
                              "such as map_settings, do not need it.") from error
        return getattr(import_module(f"rdlib.widgets.{_HOMES[name]}"), name)
