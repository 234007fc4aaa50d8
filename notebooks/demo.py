"""`make demo`: execute the quickstart, keep it as a page and as pictures, and print its metrics.

    python notebooks/demo.py [--data FOLDER] [--out build]
"""
import argparse
import base64
import copy
import os
import re
import sys
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from tqdm.auto import tqdm

from rdlib.datasets import load_dataset
from rdlib.utils.errors import DataError
from rdlib.utils.files import written_atomically

NOTEBOOK = Path("notebooks/00_quickstart.ipynb")
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")  # where a Markdown link leads, if to another file
REMOTE = re.compile(r'<script[^>]* src="https?://[^>]*>\s*</script>')


def execute(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Run every cell of the notebook that lies at `path`, in place, with a progress bar.

    Raises CellExecutionError at the first cell that fails.
    """
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    with tqdm(total=cells, unit="cell", desc=path.stem) as bar:
        NotebookClient(notebook, kernel_name="python3", timeout=None,
                       resources={"metadata": {"path": str(path.parent)}},
                       extra_arguments=["--IPKernelApp.log_level=ERROR"],  # it warns of its own TCP ports
                       on_cell_executed=lambda **_: bar.update()).execute()


def unfit(name: str) -> str | None:
    """What keeps a data set from the quickstart, which shows good and defective test images; None if nothing does."""
    try:
        data = load_dataset(name)
    except DataError as error:
        return str(error)
    if data.test is None or len(set(data.test.labels)) < 2:
        return "it needs test images, good ones in test/good and defective ones in test/NAME_OF_DEFECT."
    return None


def drop_example(notebook: nbformat.NotebookNode) -> None:
    """Remove, in place, the cells tagged "example": what they say is true of the built-in images only."""
    notebook.cells = [cell for cell in notebook.cells if "example" not in cell.metadata.get("tags", [])]


WIDGET = "application/vnd.jupyter.widget-view+json"


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Take out, in place, what only a live kernel can show (progress bars) and what is noise to a reader."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs
                            if WIDGET not in output.get("data", {}) and output.get("name") != "stderr"]


def pictures(notebook: nbformat.NotebookNode) -> dict[str, bytes]:
    """The figures by file name, .png or .jpg: named after the cell's tag "figure:NAME", else by their number."""
    found = {}
    for cell in notebook.cells:
        names = [tag.removeprefix("figure:") for tag in cell.metadata.get("tags", []) if tag.startswith("figure:")]
        for output in cell.get("outputs", []):
            for kind, suffix in (("image/png", "png"), ("image/jpeg", "jpg")):
                if content := output.get("data", {}).get(kind):
                    name = names.pop(0) if names else len(found) + 1
                    found[f"{name}.{suffix}"] = base64.b64decode(content)
    return found


def page_of(notebook: nbformat.NotebookNode, folder: Path) -> str:
    """The notebook as HTML to lie in `folder`: its links lead from there, and it asks nothing of a network."""
    notebook, there = copy.deepcopy(notebook), os.path.relpath(NOTEBOOK.parent, folder)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(lambda link: os.path.normpath(os.path.join(there, link[1])).replace(os.sep, "/"),
                                   cell.source)
    soup = BeautifulSoup(HTMLExporter().from_notebook_node(notebook)[0], "html.parser")
    for image, words in zip(soup.select('img[src^="data:"]'), alt_texts(notebook), strict=True):
        image["alt"] = words  # nbconvert's template leaves it out
    return REMOTE.sub("", str(soup))  # for widgets and formulas: it has none


def alt_texts(notebook: nbformat.NotebookNode) -> list[str]:
    """What the figures show in words, in their order; empty for one that was shown without."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.metadata.get(kind, {}).get("alt", "") for output in outputs
            for kind in output.get("data", {}) if kind.startswith("image/")]


def metrics_text(notebook: nbformat.NotebookNode) -> str:
    """What the cell tagged "metrics" printed or showed."""
    for cell in notebook.cells:
        if "metrics" in cell.metadata.get("tags", []):
            return "\n".join(output.get("text", "") or output.get("data", {}).get("text/plain", "")
                             for output in cell.outputs).strip()
    return ""


def main() -> int:
    """Run the demo; the exit status is 1 where a cell failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a folder of your own: train/good, test/good, test/DEFECT, ground_truth/DEFECT")
    parser.add_argument("--out", default="build", type=Path)
    args = parser.parse_args()
    if not NOTEBOOK.exists():
        sys.exit(f"{NOTEBOOK} is not here. Run the demo from the folder that you cloned the kit into.")
    if args.data:
        os.environ["RDLIB_DEMO_DATA"] = name = f"folder:{Path(args.data).expanduser().resolve()}"
        if problem := unfit(name):
            sys.exit(f"The demo cannot use {args.data}: {problem}")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    if os.environ.get("RDLIB_DEMO_DATA"):
        drop_example(notebook)
    try:
        execute(notebook, NOTEBOOK)
    except CellExecutionError as error:
        print(f"The demo stopped with {error.ename}: {error.evalue}", file=sys.stderr)
        return 1
    tidy(notebook)
    page = args.out / "quickstart.html"
    with written_atomically(page) as temporary:
        temporary.write_text(page_of(notebook, args.out), encoding="utf-8")
    for name, content in pictures(notebook).items():
        with written_atomically(args.out / "quickstart" / name) as temporary:
            temporary.write_bytes(content)
    print(f"\n{metrics_text(notebook)}\n\nThe page:     {page}\nThe pictures: {args.out / 'quickstart'}/"
          "{" + ",".join(pictures(notebook)) + "}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
