"""rdlib: anomaly detection by reverse distillation (Deng & Li, CVPR 2022), a library to read and to use.

`import rdlib` is quick: each name, and each module of the library, is imported when it is first used. The names and
their modules are listed in `__init__.pyi`, which editors and type checkers read as well.
"""
import ast
import importlib.util
import threading
from pathlib import Path

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_HOMES = {alias.name: node.module for node in _STUB.body if isinstance(node, ast.ImportFrom) and node.module != "rdlib"
          for alias in node.names}
__all__ = sorted({*_HOMES} - {"__version__"})
_ONE_AT_A_TIME = threading.RLock()  # threads that import a package and its module at once would meet half-made ones


def __getattr__(name: str) -> object:
    with _ONE_AT_A_TIME:
        if name in _HOMES:
            return getattr(importlib.import_module(_HOMES[name]), name)
        if importlib.util.find_spec(f"rdlib.{name}"):
            return importlib.import_module(f"rdlib.{name}")
    raise AttributeError(f"module 'rdlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    widgets = {"widgets"} if importlib.util.find_spec("ipywidgets") else set()  # help() opens what is listed
    return sorted({"__doc__", "__version__", *__all__, "figures", "synthetic", *widgets})
