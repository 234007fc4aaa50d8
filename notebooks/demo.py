"""`make demo`: execute the quickstart, write it as a page and as images, and print its metrics.

    python notebooks/demo.py [--data FOLDER] [--out build]

It leaves the model, with a threshold, in OUT/model.safetensors. `make` hands FOLDER over in RDLIB_DEMO_FOLDER, since a
path on a command line would be changed by make and by the shell.
"""
import argparse
import base64
import os
import re
import shlex
import sys
import warnings
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from tqdm.auto import tqdm

from rdlib.datasets import load_dataset
from rdlib.datasets.check import check
from rdlib.utils.errors import DataError
from rdlib.utils.files import check_writable, written_atomically

NOTEBOOK = Path(__file__).with_name("00_quickstart.ipynb")
WIDGET = "application/vnd.jupyter.widget-view+json"
SAVE = """
from dataclasses import replace
from rdlib.deploy.train import choose_threshold, split_good

try:  # good test images were not trained on, so they can choose a threshold
    good = data.test.subset([i for i, label in enumerate(data.test.labels) if not label])
    held = split_good(replace(data, validation=data.validation or good), SEED)[1]
    model.threshold = choose_threshold(evaluate(model, held, progress=False))
    print(model.threshold.promise())
except ValueError as error:
    print(f"The model has no threshold. {error}")
model.save(os.environ["RDLIB_DEMO_MODEL"])
"""
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


def checked(folder: str) -> str:
    """Check a folder of images as `rdlib check` does, at the size that the quickstart takes. Return the text.

    Raises:
        DataError: the folder cannot be read, or lacks good or defective test images, which the quickstart needs.
    """
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # the text says the same
        data = load_dataset(f"folder:{folder}", size="fit")
    if data.test is None or len(set(data.test.labels)) < 2:
        train = shlex.join(["rdlib", "train", folder, "-o", "model.safetensors"])
        raise DataError("it needs test images, good ones in test/good and defective ones in test/NAME_OF_DEFECT. Good "
                        f"images alone are enough to train and to score: {train}")
    return f"{check(data)}\nThe size is chosen to keep the images' shape."


def drop_example(notebook: nbformat.NotebookNode) -> None:
    """Remove, in place, the cells tagged "example": they describe the built-in images only."""
    notebook.cells = [cell for cell in notebook.cells if "example" not in tags(cell)]


def metrics_text(notebook: nbformat.NotebookNode) -> str:
    """Return what the cell tagged "metrics" printed or showed."""
    outputs = [output for cell in notebook.cells if "metrics" in tags(cell) for output in cell.outputs]
    return "\n".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in outputs).strip()


def take(notebook: nbformat.NotebookNode, identifier: str) -> nbformat.NotebookNode:
    """Remove a cell, in place, and return it."""
    (cell,) = (cell for cell in notebook.cells if cell.id == identifier)
    notebook.cells.remove(cell)
    return cell


def score_command(model: Path, folder: str) -> str:
    """Return the command that scores `folder` with the model; without one, its place says FOLDER."""
    script = Path(sys.executable).with_name("rdlib")
    program = [str(script)] if script.exists() else [sys.executable, "-m", "rdlib"]
    return shlex.join([*program, "score", str(model), folder or "FOLDER", str(model.with_name("scores"))])


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
    parser.add_argument("--data", default=os.environ.get("RDLIB_DEMO_FOLDER", ""), metavar="FOLDER",
                        help="a folder of your own, with good and defective test images")
    parser.add_argument("--out", default="build", type=Path)
    args = parser.parse_args()
    sys.stdout.reconfigure(errors="surrogateescape")  # a path may be no UTF-8
    folder, model = "", args.out.resolve() / "model.safetensors"
    try:
        check_writable(model, "Choose another folder by --out.")
    except OSError as error:
        sys.exit(str(error))
    if args.data:
        tilde = args.data.startswith("~/") and not Path(args.data).exists()  # most shells leave DATA=~/x alone
        folder = str((Path(args.data).expanduser() if tilde else Path(args.data)).resolve())
        os.environ["RDLIB_DEMO_DATA"] = f"folder:{folder}"
        try:
            print(checked(folder))
        except DataError as error:
            sys.exit(f"The demo cannot use {args.data}: {error}")
    os.environ["RDLIB_DEMO_MODEL"] = str(model)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    if os.environ.get("RDLIB_DEMO_DATA"):
        drop_example(notebook)
    notebook.cells.append(nbformat.v4.new_code_cell(SAVE, id="save"))
    try:
        execute(notebook, NOTEBOOK)
    except CellExecutionError as error:
        print(f"The demo stopped with {error.ename}: {error.evalue}", file=sys.stderr)
        return 1
    tidy(notebook)
    take(notebook, "setup")  # of no use on a page
    promise = "".join(output.get("text", "") for output in take(notebook, "save").outputs)
    write_demo(notebook, args.out)
    print(f"The model:  {model}: {promise}Score images with it:\n  {score_command(model, folder)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
