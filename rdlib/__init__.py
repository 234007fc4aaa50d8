"""rdlib: anomaly detection by reverse distillation (Deng & Li, CVPR 2022), a library to read and to use.

`import rdlib` is quick: what is named here, and every module of the library, is imported when it is first used.
"""
import importlib.util
import threading
from typing import TYPE_CHECKING

from rdlib.utils.version import __version__ as __version__

__all__ = ["MemoryBank", "ForwardStudent", "ReverseDistillation", "Report", "Run", "best_device",
           "bootstrap_intervals", "evaluate", "fit", "load_dataset"]

if TYPE_CHECKING:  # what editors and type checkers read
    from rdlib import figures as figures
    from rdlib import synthetic as synthetic
    from rdlib import widgets as widgets
    from rdlib.datasets.load import load_dataset
    from rdlib.evaluation.bootstrap import bootstrap_intervals
    from rdlib.evaluation.report import Report, evaluate
    from rdlib.model import ReverseDistillation
    from rdlib.training.loop import fit
    from rdlib.training.run import Run
    from rdlib.utils.hardware import best_device
    from rdlib.variants.baselines import ForwardStudent, MemoryBank
else:  # what Python does; hidden from type checkers, which would believe any name
    _HOMES = {"MemoryBank": "variants", "ForwardStudent": "variants", "ReverseDistillation": "model",
              "Report": "evaluation", "Run": "training", "best_device": "utils.hardware",
              "bootstrap_intervals": "evaluation", "evaluate": "evaluation", "fit": "training",
              "load_dataset": "datasets"}

    _ONE_AT_A_TIME = threading.RLock()  # two threads that import a package and its module would meet half-made ones

    def __getattr__(name: str) -> object:
        with _ONE_AT_A_TIME:
            if name in _HOMES:
                return getattr(importlib.import_module(f"rdlib.{_HOMES[name]}"), name)
            if importlib.util.find_spec(f"rdlib.{name}"):
                return importlib.import_module(f"rdlib.{name}")
        raise AttributeError(f"module 'rdlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    widgets = {"widgets"} if importlib.util.find_spec("ipywidgets") else set()  # help() opens what is listed
    return sorted({*globals(), *__all__, "figures", "synthetic", *widgets} - {"TYPE_CHECKING", "importlib", "threading"})
