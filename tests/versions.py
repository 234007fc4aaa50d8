"""Note in tests/versions.csv what the unit tests have just passed with. `make test-oldest` and `make test-newest` do.

    python tests/versions.py oldest
"""
import csv
import datetime
import platform
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

from rdlib.utils.files import written_atomically

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "tests/versions.csv"


def required() -> list[Requirement]:
    """List what pyproject.toml asks for, extras included, as often as it does."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(line) for lines in (project["dependencies"], *project["optional-dependencies"].values())
            for line in lines]


def run_with() -> dict[str, dict[str, str]]:
    """Read the table: for each column, as "oldest 3.11", what stands in it under the package's name."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {column: {row["package"]: row[column] for row in rows} for column in rows[0] if column != "package"}


def note(kind: str) -> None:
    """Write this environment's versions into the column of its kind and Python, and leave the other columns."""
    columns = run_with() if TABLE.exists() else {}
    python = ".".join(platform.python_version_tuple()[:2])
    here = {"date": str(datetime.date.today()), "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version()}
    here |= {requirement.name: version(requirement.name) for requirement in required()}
    columns = dict(sorted((columns | {f"{kind} {python}": here}).items(), reverse=True))
    with written_atomically(TABLE) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["package", *columns])
        table.writerows([name, *(column.get(name, "") for column in columns.values())] for name in here)


if __name__ == "__main__":
    note(sys.argv[1])
