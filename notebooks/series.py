"""The course as a whole: its notebooks in reading order, what each says of itself, and where the kit is published."""
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import nbformat

ROOT = Path(__file__).parents[1]
TIME = re.compile(r"^\| Time \| (.+) on a 2-core CPU; (.+) on a T4 \|$", re.M)
SETUP = '''\
import importlib.util
from pathlib import Path

REPOSITORY = ""  # where the kit is published
if importlib.util.find_spec("rdlib") is None:  # as in Colab: fetch the kit. Elsewhere there is nothing to do.
    if not REPOSITORY:
        raise SystemExit("Install the kit first: see 'Without make' in its README.")
    get_ipython().system(f"git clone -q --depth 1 {REPOSITORY} kit && pip install -q -e kit[notebooks,export]")
    import site
    site.main()  # an editable install is found from the next start on, or now
    get_ipython().system("nvidia-smi -L || echo 'No GPU: Runtime > Change runtime type gives one.'")
if Path("kit/notebooks").is_dir():  # in Colab, also after a restart: paths begin where the notebooks are
    get_ipython().run_line_magic("cd", "kit/notebooks")'''


def planned(root: Path = ROOT) -> dict[str, str]:
    """What each notebook teaches, by its name, in reading order: notebooks/map.toml."""
    return tomllib.loads((root / "notebooks/map.toml").read_text(encoding="utf-8"))


def notebooks(root: Path = ROOT) -> list[Path]:
    """The notebooks that there are, in reading order."""
    return sorted((root / "notebooks").glob("*.ipynb"))


def exercises(root: Path = ROOT) -> list[Path]:
    """The exercises as they are written, with their solutions."""
    return sorted((root / "notebooks/exercises/source").glob("*/*.ipynb"))


def repository(root: Path = ROOT) -> str:
    """Where the kit is published, "https://github.com/OWNER/NAME", or "": [tool.rdlib] in pyproject.toml.

    Raises ValueError for another address: Colab opens notebooks from GitHub only.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    address = project["tool"].get("rdlib", {}).get("repository", "").removesuffix("/").removesuffix(".git")
    if address and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise ValueError(f"repository in pyproject.toml is '{address}'. Write https://github.com/OWNER/NAME, or \"\".")
    return address


def setup_cell(address: str) -> str:
    """The source of every notebook's cell "setup"."""
    return SETUP.replace('REPOSITORY = ""', f'REPOSITORY = "{address}"')


class Card(NamedTuple):
    """What the map says of a notebook."""

    path: Path
    title: str
    learn: str
    cpu: str  # "under 2 minutes"
    t4: str  # "not yet measured"

    @property
    def number(self) -> str:
        """The notebook's place in the series: "00"."""
        return self.path.name[:2]


def card(path: Path) -> Card:
    """Read a notebook's first cell: title, and the row Time of its table.

    Raises ValueError where it has none, or where map.toml does not say what it teaches.
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
    """The fragment that GitHub gives a Markdown heading: "### FPR limit" -> "fpr-limit"."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading.lstrip("# ").strip())
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
