"""`make demo`: execute the quickstart, write it as a page and as images, and print its metrics.

    python notebooks/demo.py [--data FOLDER] [--out build]
"""
import argparse
import base64
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

NOTEBOOK = Path(__file__).with_name("00_quickstart.ipynb")
WIDGET = "application/vnd.jupyter.widget-view+json"
SUFFIX = {"image/png": "png", "image/jpeg": "jpg"}


def execute(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Run every cell of the notebook that lies at `path`, in place, with a progress bar.

    Raises:
        CellExecutionError: a cell failed; the ones below it were not run.
    """
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    with tqdm(total=cells, unit="cell", desc=path.stem) as bar:
        NotebookClient(notebook, kernel_name="python3", timeout=None,
                       resources={"metadata": {"path": str(path.parent)}},
                       extra_arguments=["--IPKernelApp.log_level=ERROR"],  # it warns of its own TCP ports
                       on_cell_executed=lambda **_: bar.update()).execute()


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Remove, in place, outputs that need a live kernel (progress bars), and stderr."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs
                            if WIDGET not in output.get("data", {}) and output.get("name") != "stderr"]


def tags(cell: nbformat.NotebookNode) -> list[str]:
    """Return the tags of a cell."""
    return cell.metadata.get("tags", [])


def images(notebook: nbformat.NotebookNode) -> list[tuple[str, bytes, str]]:
    """Return the figures' file names, contents and alt texts.

    A figure is named after its cell's tag "figure:NAME", or else numbered.
    """
    found = []
    for cell in notebook.cells:
        names = [tag.removeprefix("figure:") for tag in tags(cell) if tag.startswith("figure:")]
        for output in cell.get("outputs", []):
            for kind in SUFFIX.keys() & output.get("data", {}).keys():
                name = names.pop(0) if names else len(found) + 1
                found.append((f"{name}.{SUFFIX[kind]}", base64.b64decode(output.data[kind]),
                              output.metadata.get(kind, {}).get("alt", "")))
    return found


def page_of(notebook: nbformat.NotebookNode, folder: Path) -> str:
    """Return the notebook as HTML to lie in `folder`: its links lead from there, and it needs no network."""
    html, _ = HTMLExporter(embed_images=True).from_notebook_node(
        notebook, {"metadata": {"path": str(NOTEBOOK.parent)}})
    soup = BeautifulSoup(html, "html.parser")
    for image, (*_, alt) in zip(soup.select(".jp-OutputArea img"), images(notebook), strict=True):
        image["alt"] = alt  # nbconvert's template leaves it out
    for link in soup.select("a[href]"):
        if not re.match("[a-z]+:|#", link["href"]):
            link["href"] = Path(os.path.relpath(NOTEBOOK.parent / link["href"], folder)).as_posix()
    for script in soup.select("script[src]"):  # for widgets and formulas: the page has none
        script.decompose()
    return str(soup)


def unfit(name: str) -> str | None:
    """Return why the quickstart cannot use a data set, which needs good and defective test images; None if it can."""
    try:
        data = load_dataset(name)
    except DataError as error:
        return str(error)
    if data.test is None or len(set(data.test.labels)) < 2:
        return "it needs test images, good ones in test/good and defective ones in test/NAME_OF_DEFECT."
    return None


def drop_example(notebook: nbformat.NotebookNode) -> None:
    """Remove, in place, the cells tagged "example": they describe the built-in images only."""
    notebook.cells = [cell for cell in notebook.cells if "example" not in tags(cell)]


def metrics_text(notebook: nbformat.NotebookNode) -> str:
    """Return what the cell tagged "metrics" printed or showed."""
    outputs = [output for cell in notebook.cells if "metrics" in tags(cell) for output in cell.outputs]
    return "\n".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in outputs).strip()


def write_demo(notebook: nbformat.NotebookNode, out: Path) -> None:
    """Write page and images of the executed quickstart below `out`; print its metrics and where the files are."""
    with written_atomically(out / "quickstart.html") as temporary:
        temporary.write_text(page_of(notebook, out), encoding="utf-8")
    for name, content, _ in images(notebook):
        with written_atomically(out / "quickstart" / name) as temporary:
            temporary.write_bytes(content)
    print(f"\n{metrics_text(notebook)}\n\nThe page:   {out / 'quickstart.html'}\nThe images: {out / 'quickstart'}/"
          f"{{{','.join(name for name, *_ in images(notebook))}}}")


def main() -> int:
    """Run the demo; return 1 as exit status where a cell failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a folder of your own: train/good, test/good, test/DEFECT, ground_truth/DEFECT")
    parser.add_argument("--out", default="build", type=Path)
    args = parser.parse_args()
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
    notebook.cells = [cell for cell in notebook.cells if cell.id != "setup"]  # of no use on a page
    write_demo(notebook, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
