"""Explore maps, thresholds and painted defects interactively. Static figures show the same without a running kernel.

The explorers need ipywidgets and run in JupyterLab, Notebook 7 and Colab. `InteractiveModel`, its settings and the
static figures do not need ipywidgets. Each name is imported at first use, from the module that `__init__.pyi` names.
"""
from rdlib.utils.lazy import lazy_names

__getattr__, __all__ = lazy_names(__name__, __file__)
