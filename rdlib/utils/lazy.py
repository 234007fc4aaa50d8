"""Import the names of a package when they are first used, so that the package itself is imported quickly."""
import ast
import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path

ONE_AT_A_TIME = threading.RLock()  # threads that import a package and its module at once would meet half-made ones


def lazy_names(package: str, file: str) -> tuple[Callable[[str], object], list[str]]:
    """Create the `__getattr__` and the `__all__` of a package from its stub, `__init__.pyi`.

    The stub names the module of each name; editors and type checkers read it as well. Modules of the package are
    imported as well when they are first used.

    Args:
        package: the package's `__name__`.
        file: the package's `__file__`.

    Returns:
        The function and the sorted names. The function raises AttributeError for an unknown name, and ImportError,
        with what to install, if the name needs a package that is not installed.
    """
    stub = ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8"))
    homes = {alias.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
             if node.module and node.module != package}

    def find(name: str) -> object:
        try:
            with ONE_AT_A_TIME:
                if name in homes:
                    return getattr(importlib.import_module(homes[name]), name)
                if importlib.util.find_spec(f"{package}.{name}"):
                    return importlib.import_module(f"{package}.{name}")
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("rdlib"):
                raise
            raise ImportError(f"{name} needs {error.name}: pip install {error.name}.", name=error.name) from error
        raise AttributeError(f"module '{package}' has no attribute {name!r}")
    return find, sorted({*homes} - {"__version__"})
