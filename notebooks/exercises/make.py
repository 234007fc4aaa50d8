"""`make exercises`: a course folder for nbgrader, and a zip of notebooks for the students.

    python notebooks/exercises/make.py [--variant 7] [--out build/exercises] [--bundle]

OUT/course is the teacher's: nbgrader's settings, the sources with solutions, what is released, the gradebook.
OUT/exercises-variant-7.zip is for the students. The page for teachers, README.md beside this file, says how to go on.
"""
import argparse
import logging
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from traitlets.config import PyFileConfigLoader

sys.path.insert(0, str(Path(__file__).parents[1]))
from bundle import make_bundle
from demo import execute, images

from rdlib.utils.files import written_atomically

HERE = Path(__file__).parent
ASSIGNMENTS = tuple(sorted(path.name for path in (HERE / "source").iterdir() if path.is_dir()))
MARK = re.compile(r"^VARIANT = (\d+)  #", re.M)  # stands once in every source


def variant_of(notebook: nbformat.NotebookNode) -> int:
    """Return the variant that a notebook is set to. Raise ValueError unless exactly one line names it."""
    found = [match for cell in notebook.cells if cell.cell_type == "code" for match in MARK.findall(cell.source)]
    if len(found) != 1:
        raise ValueError(f"A source must have one line that begins 'VARIANT = 0  #', this one has {len(found)}.")
    return int(found[0])


def set_variant(path: Path, variant: int) -> None:
    """Set the variant of a source, in place."""
    notebook = nbformat.read(path, as_version=4)
    variant_of(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = MARK.sub(f"VARIANT = {variant}  #", cell.source)
    nbformat.write(notebook, path)


def check_gradebook(course: Path, variant: int) -> None:
    """Exit if the course holds work that was handed in for another variant."""
    gradebook, old = course / "gradebook.db", course / "source" / ASSIGNMENTS[0] / f"{ASSIGNMENTS[0]}.ipynb"
    if not (gradebook.exists() and old.exists()):
        return
    held = variant_of(nbformat.read(old, as_version=4))
    with Gradebook(f"sqlite:///{gradebook}") as book:
        handed_in = any(assignment.submissions for assignment in book.assignments)
    if handed_in and held != variant:
        sys.exit(f"{course} holds work that was handed in for variant {held}. Name another folder for variant "
                 f"{variant}: --out FOLDER, or ARGS=\"--variant ... --out FOLDER\" with make.")


def make_course(course: Path, variant: int) -> None:
    """Fill a course folder with sources of a variant, and let nbgrader make release and gradebook."""
    check_gradebook(course, variant)
    course.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "nbgrader_config.py", course)
    shutil.rmtree(course / "source", ignore_errors=True)
    shutil.copytree(HERE / "source", course / "source", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    config = PyFileConfigLoader("nbgrader_config.py", path=str(course)).load_config()
    config.CourseDirectory.root = str(course.resolve())
    # nbgrader calls its alembic by name, wherever this Python was started from.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    api = NbGraderAPI(config=config)
    api.log.setLevel(logging.ERROR)
    for name in ASSIGNMENTS:
        set_variant(course / "source" / name / f"{name}.ipynb", variant)
        done = api.generate_assignment(name, force=True, create=True)
        if not done["success"]:
            sys.exit(f"nbgrader could not make the release of {name}:\n{done.get('log') or ''}{done['error']}")


def check_release(release: Path) -> None:
    """Raise ValueError if a released notebook still holds a solution or a hidden test."""
    for path in release.rglob("*.ipynb"):
        if re.search("(BEGIN|END) (SOLUTION|HIDDEN TESTS)", path.read_text(encoding="utf-8")):
            raise ValueError(f"{path} still holds a solution or a hidden test. Check its markers.")


def hand_out(course: Path, archive: Path) -> None:
    """Zip the release for the students, with their README."""
    release = course / "release"
    check_release(release)
    with written_atomically(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(HERE / "STUDENTS.md", "exercises/README.md")
        for path in sorted(release.rglob("*")):
            if path.is_file():
                packed.write(path, (Path("exercises") / path.relative_to(release)).as_posix())


def store_pictures() -> None:
    """Run every source and store its figures as the hints that students see; needed after a figure was changed."""
    for name in ASSIGNMENTS:
        folder = HERE / "source" / name
        notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
        execute(notebook, folder / f"{name}.ipynb")
        for file, content, _ in images(notebook):
            with written_atomically(folder / "pictures" / file) as temporary:
                temporary.write_bytes(content)
            print(folder / "pictures" / file)


def main() -> None:
    """Make what the arguments ask for, and print where it is."""
    parser = argparse.ArgumentParser("make.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", type=int, default=0, help="a number of your choice for this class; default 0")
    parser.add_argument("--out", type=Path, default=Path("build/exercises"), help="where to; default build/exercises")
    parser.add_argument("--bundle", action="store_true", help="also a folder for a room without a network: OUT/offline")
    parser.add_argument("--data", nargs="+", default=[], metavar="CATEGORY",
                        help="with --bundle: also write these procedural categories as image files")
    parser.add_argument("--pictures", action="store_true",
                        help="only run the sources and store their figures, the hints that students see")
    args = parser.parse_args()
    if args.variant < 0:
        parser.error("a variant is 0 or more")
    if args.pictures:
        return store_pictures()
    course, archive = args.out / "course", args.out / f"exercises-variant-{args.variant}.zip"
    make_course(course, args.variant)
    hand_out(course, archive)
    print(f"The course folder, for the teacher: {course}\nTo hand out:                        {archive}")
    if args.bundle:
        make_bundle(args.out / "offline", course / "release", args.data)
        print(f"For a room without a network:       {args.out / 'offline'}")
    print("How to go on: notebooks/exercises/README.md")


if __name__ == "__main__":
    main()
