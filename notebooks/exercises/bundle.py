"""Pack the kit for a room without a network, with lists of the other wheels to fetch beforehand, and a page.

`make exercises ARGS=--bundle` makes it.
"""
import shutil
import tomllib
from pathlib import Path

from pack import pack_kit
from series import ROOT

from rdlib.synthetic.export import export

EXTRAS = {"notebooks": "to open and run them", "export": "notebook 12: a model as ONNX",
          "exercises": "grading, on the teacher's machine"}


def requirement_list() -> str:
    """Return what the kit and its notebooks need, from pyproject.toml: bounds for pip, one requirement a line."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = ["# Fetch these, with all that they need: see README.md.", *project["dependencies"]]
    for extra, purpose in EXTRAS.items():
        lines += [f"# {purpose}", *project["optional-dependencies"][extra]]
    return "\n".join(lines) + "\n"


def make_bundle(folder: Path, release: Path, categories: list[str]) -> None:
    """Fill `folder` with the kit, lists of requirements, and a page with instructions.

    Args:
        folder: files of an earlier run are replaced; wheels that were fetched stay.
        release: nbgrader's folder of released exercises.
        categories: procedural categories that are also written as image files, to data/.
    """
    pack_kit(folder, release)
    shutil.copy(Path(__file__).with_name("OFFLINE.md"), folder / "README.md")
    shutil.copy(ROOT / "constraints.txt", folder)
    (folder / "requirements.txt").write_text(requirement_list(), encoding="utf-8")
    for category in categories:
        export(category, folder / "data")
