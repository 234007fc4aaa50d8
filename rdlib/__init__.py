"""rdlib: anomaly detection by reverse distillation (Deng & Li, CVPR 2022), a library to read and to use.

`import rdlib` is quick: what is named here, and every module of the library, is imported when it is first used.
"""
import importlib.util
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["FeatureMemory", "ForwardStudent", "ReverseDistillation", "Report", "Run", "best_device",
           "bootstrap_intervals", "evaluate", "fit", "load_dataset"]

if TYPE_CHECKING:  # what editors and type checkers read
    from rdlib import figures as figures
    from rdlib import synthetic as synthetic
    from rdlib import widgets as widgets
    from rdlib.baselines import FeatureMemory, ForwardStudent
    from rdlib.datasets import load_dataset
    from rdlib.evaluation import Report, evaluate
    from rdlib.hardware import best_device
    from rdlib.model import ReverseDistillation
    from rdlib.run import Run
    from rdlib.training import fit
    from rdlib.uncertainty import bootstrap_intervals
else:  # what Python does; hidden from type checkers, which would believe any name
    _HOMES = {"FeatureMemory": "baselines", "ForwardStudent": "baselines", "ReverseDistillation": "model",
              "Report": "evaluation", "Run": "run", "best_device": "hardware", "bootstrap_intervals": "uncertainty",
              "evaluate": "evaluation", "fit": "training", "load_dataset": "datasets"}

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            return getattr(importlib.import_module(f"rdlib.{_HOMES[name]}"), name)
        if importlib.util.find_spec(f"rdlib.{name}"):
            return importlib.import_module(f"rdlib.{name}")
        raise AttributeError(f"module 'rdlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    widgets = {"widgets"} if importlib.util.find_spec("ipywidgets") else set()  # help() opens what is listed
    return sorted({*globals(), *__all__, "figures", "synthetic", *widgets} - {"TYPE_CHECKING", "importlib"})
