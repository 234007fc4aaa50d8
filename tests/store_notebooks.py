"""Execute notebooks top to bottom and store them with their outputs: `make notebooks`, after every edit.

    python tests/store_notebooks.py notebooks/00_quickstart.ipynb ...
"""
import sys
from pathlib import Path

import nbformat

from rdlib.demo import execute, tidy
from rdlib.files import written_atomically

for path in map(Path, sys.argv[1:]):
    notebook = nbformat.read(path, as_version=4)
    execute(notebook, path.parent)
    tidy(notebook)
    with written_atomically(path) as temporary:
        nbformat.write(notebook, temporary)
