"""Execute notebooks top to bottom and store them with their outputs: `make notebooks`, after every edit.

    python tests/store_notebooks.py notebooks/00_quickstart.ipynb ...

A notebook that warns is not stored: its readers would meet the warning, and here it would go with the progress bars.
"""
import sys
import time
from pathlib import Path

import nbformat
from nbconvert.preprocessors import CoalesceStreamsPreprocessor

sys.path.insert(0, str(Path(__file__).parents[1] / "notebooks"))
from demo import execute, tidy

from rdlib.utils.files import written_atomically


def warnings(notebook: nbformat.NotebookNode) -> list[str]:
    """List the warnings that cells wrote to stderr, each with the number of its cell."""
    return [f"cell {cell.execution_count}: {output.text.strip()}" for cell in notebook.cells
            for output in cell.get("outputs", []) if output.get("name") == "stderr" and "Warning" in output.text]


def store(path: Path) -> None:
    """Execute one notebook and write it back. Raises SystemExit where it warns."""
    notebook, began = nbformat.read(path, as_version=4), time.perf_counter()
    execute(notebook, path)
    seconds = time.perf_counter() - began
    if found := warnings(notebook):
        sys.exit(f"{path} was not stored, since it warns:\n" + "\n".join(found))
    tidy(notebook)
    CoalesceStreamsPreprocessor().preprocess(notebook, {})  # a line that came in two pieces is one again
    with written_atomically(path) as temporary:
        nbformat.write(notebook, temporary)
    print(f"{path}: {seconds:.0f} s, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        store(Path(argument))
