"""Explore maps, thresholds and painted defects interactively. Static figures show the same without a running kernel.

The explorers need ipywidgets and run in JupyterLab, Notebook 7 and Colab. `InteractiveModel`, its settings and the
static figures do not need ipywidgets. Each name is imported at first use, from the module that `__init__.pyi` names.
"""
import ast
from importlib import import_module
from pathlib import Path

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_HOMES = {node.names[0].name: node.module for node in _STUB.body if isinstance(node, ast.ImportFrom) and node.module}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'rdlib.widgets' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ImportError as error:
        if error.name not in ("ipywidgets", "anywidget"):
            raise
        raise ImportError(f"{name} needs {error.name}: pip install {error.name}. The static figures, such as "
                          "map_settings, do not need it.", name=error.name) from error
