"""rdlib: anomaly detection by reverse distillation (Deng & Li, CVPR 2022), a library to read and to use.

`import rdlib` is quick: each name, and each module of the library, is imported when it is first used. The names and
their modules are listed in `__init__.pyi`, which editors and type checkers read as well.
"""
from importlib.util import find_spec

from rdlib.utils.lazy import lazy_names

__getattr__, __all__ = lazy_names(__name__, __file__)


def __dir__() -> list[str]:
    widgets = {"widgets"} if find_spec("ipywidgets") else set()  # help() opens what is listed
    return sorted({"__doc__", "__version__", *__all__, "figures", "synthetic", *widgets})
