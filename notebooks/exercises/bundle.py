"""What a room without a network needs: notebooks, the kit as a wheel with the teacher's weights in it, and lists of the
other wheels to fetch beforehand. `make exercises ARGS=--bundle` makes it."""
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from rdlib.synthetic.export import export

ROOT = Path(__file__).parents[2]
EXTRAS = {"notebooks": "to open and run them", "export": "notebook 12: a model as ONNX",
          "exercises": "grading, on the teacher's machine"}


def requirement_list() -> str:
    """What the kit and its notebooks need, from pyproject.toml, as pip reads it: bounds, one requirement a line."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = ["# Fetch these, with all that they need: see README.md.", *project["dependencies"]]
    for extra, purpose in EXTRAS.items():
        lines += [f"# {purpose}", *project["optional-dependencies"][extra]]
    return "\n".join(lines) + "\n"


def build_wheel(folder: Path) -> Path:
    """The kit as a wheel in `folder`, without asking the network. Stops with a message where it cannot be built."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
               "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"The kit's wheel could not be built. Is hatchling installed (extra 'test')?\n{done.stderr}")
    (wheel,) = folder.glob("rdlib-*.whl")
    return wheel


def make_bundle(folder: Path, release: Path, categories: list[str]) -> None:
    """Fill `folder`: notebooks, released exercises, the kit's wheel, lists of the others, a page that says what to do.

    What an earlier run put there is replaced; wheels that were fetched stay.
    """
    for name in ("notebooks", "data"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for old in folder.glob("wheels/rdlib-*.whl"):
        old.unlink()
    (folder / "wheels").mkdir(parents=True, exist_ok=True)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks",
                    ignore=shutil.ignore_patterns(".*", "exercises", "__pycache__"))
    shutil.copytree(release, folder / "notebooks" / "exercises")
    shutil.copy(Path(__file__).with_name("STUDENTS.md"), folder / "notebooks" / "exercises" / "README.md")
    shutil.copy(Path(__file__).with_name("OFFLINE.md"), folder / "README.md")
    shutil.copy(ROOT / "constraints.txt", folder)
    (folder / "requirements.txt").write_text(requirement_list(), encoding="utf-8")
    build_wheel(folder / "wheels")
    for category in categories:
        export(category, folder / "data")
