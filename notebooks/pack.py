"""Pack the kit as a folder that works without a checkout: notebooks, exercises, what they read, and a wheel."""
import shutil
import subprocess
import sys
from pathlib import Path

from series import ROOT, notebooks

READ = ("results", "pictures", "reference")  # folders of data/ that notebooks read or show; ../data from there
LEFT_OUT = shutil.ignore_patterns(".*", "*.error.txt", "*.html")


def build_wheel(folder: Path) -> Path:
    """Build the kit's wheel in `folder` without a network. Exit with a message where that fails."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
               "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"The kit's wheel could not be built. Is hatchling installed (extra 'test')?\n{done.stderr}")
    (wheel,) = folder.glob("rdlib-*.whl")
    return wheel


def pack_kit(folder: Path, release: Path) -> None:
    """Fill `folder` with the kit; replace what an earlier run wrote there, and keep other wheels.

    Args:
        folder: becomes notebooks/, data/, wheels/ and LICENSE.
        release: nbgrader's folder of released exercises.
    """
    for name in ("notebooks", "data"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for old in folder.glob("wheels/rdlib-*.whl"):
        old.unlink()
    for name in ("notebooks", "wheels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for path in (*notebooks(), *(ROOT / "notebooks").glob("*.md")):
        shutil.copy(path, folder / "notebooks")
    shutil.copytree(release, folder / "notebooks/exercises")
    shutil.copy(ROOT / "notebooks/exercises/STUDENTS.md", folder / "notebooks/exercises/README.md")
    for name in READ:
        shutil.copytree(ROOT / "data" / name, folder / "data" / name, ignore=LEFT_OUT)
    shutil.copy(ROOT / "LICENSE", folder)
    build_wheel(folder / "wheels")
