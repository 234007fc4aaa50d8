"""Describe the course as a whole: its notebooks in reading order, their first cells, and where the kit is published."""
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import nbformat

ROOT = Path(__file__).parents[1]
TIME = re.compile(r"^\| Time \| (.+) on a 2-core CPU; (.+) on a T4 \|$", re.M)
SETUP = '''\
# @title Set-up: run this cell first. In Google Colab it installs the kit.
import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

REPOSITORY = ""  # where the kit is published; without an address, Colab takes the file colab.zip
CONTENT = Path("/content")  # Colab's folder


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\\n{done.stdout}{done.stderr}")


def find_zip():
    from google.colab import drive, files
    if not any(CONTENT.glob("colab*.zip")):
        try:
            drive.mount(str(CONTENT / "drive"))  # asks for permission, unless it is mounted
        except Exception as error:
            print("Drive is not used:", error)
    found = [*CONTENT.glob("colab*.zip"), *CONTENT.glob("drive/MyDrive/colab*.zip")]
    if not found:
        print("colab.zip is neither in the session's files nor at the top of your Drive. Choose it here.")
        found = [Path(name) for name in files.upload()]
    kits = [path for path in found if "notebooks/glossary.md" in zipfile.ZipFile(path).namelist()]
    if not kits:
        raise SystemExit("There is no file that `make colab` wrote. Run this cell again and choose colab.zip.")
    return max(kits, key=lambda path: path.stat().st_mtime)


if "google.colab" in sys.modules:
    kit = CONTENT / "kit"
    if not kit.exists() and REPOSITORY:
        run("git", "clone", "-q", "--depth", "1", REPOSITORY, kit)
    elif not kit.exists():
        zipfile.ZipFile(find_zip()).extractall(kit)
    if find_spec("rdlib") is None:
        run(sys.executable, "-m", "pip", "install", "-q", f"{next(kit.glob('wheels/rdlib-*.whl'), kit)}[colab]")
    os.chdir(kit / "notebooks")
elif find_spec("rdlib") is None:
    raise SystemExit(f"This notebook runs in {sys.executable}, where rdlib is not installed. Choose the kernel of the "
                     "kit's environment (Kernel > Change Kernel), or install the kit: notebooks/README.md.")'''
COLLAPSED = {"jupyter": {"source_hidden": True}, "cellView": "form"}  # in JupyterLab; in Colab


def planned(root: Path = ROOT) -> dict[str, str]:
    """Read what each notebook teaches, by its name, in reading order: notebooks/map.toml."""
    return tomllib.loads((root / "notebooks/map.toml").read_text(encoding="utf-8"))


def notebooks(root: Path = ROOT) -> list[Path]:
    """List the notebooks, in reading order."""
    return sorted((root / "notebooks").glob("*.ipynb"))


def exercises(root: Path = ROOT) -> list[Path]:
    """List the sources of the exercises, which hold the solutions."""
    return sorted((root / "notebooks/exercises/source").glob("*/*.ipynb"))


def repository(root: Path = ROOT) -> str:
    """Read where the kit is published, "https://github.com/OWNER/NAME" or "": [tool.rdlib] in pyproject.toml.

    Raises:
        ValueError: another kind of address; Colab opens notebooks from GitHub only.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    address = project["tool"].get("rdlib", {}).get("repository", "").removesuffix("/").removesuffix(".git")
    if address and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise ValueError(f"repository in pyproject.toml is '{address}'. Write https://github.com/OWNER/NAME, or \"\".")
    return address


def setup_cell(address: str) -> str:
    """Return the source of every notebook's cell "setup"."""
    return SETUP.replace('REPOSITORY = ""', f'REPOSITORY = "{address}"')


class Card(NamedTuple):
    """A notebook's entry in the course map."""

    path: Path
    title: str
    learn: str
    cpu: str  # "under 2 minutes"
    t4: str  # "not yet measured"

    @property
    def number(self) -> str:
        """Return the notebook's place in the course: "00"."""
        return self.path.name[:2]


def card(path: Path) -> Card:
    """Read a notebook's title and times from its first cell.

    Raises:
        ValueError: the first cell has no title or no row Time, or map.toml does not list the notebook.
    """
    first = nbformat.read(path, as_version=4).cells[0].source
    time, learn = TIME.search(first), planned(path.parents[1]).get(path.stem)
    if not first.startswith("# ") or not time:
        raise ValueError(f"{path.name}: the first cell needs a title and the row '| Time | under N minutes on a 2-core "
                         "CPU; not yet measured on a T4 |'.")
    if not learn:
        raise ValueError(f"notebooks/map.toml does not say what {path.stem} teaches.")
    return Card(path, first.splitlines()[0].removeprefix("# "), learn, *time.groups())


def anchor(heading: str) -> str:
    """Return the fragment that GitHub gives a Markdown heading: "### FPR limit" -> "fpr-limit"."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading.lstrip("# ").strip())
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
