"""`make colab`: the kit as one file for Google Colab, without a published address.

    python notebooks/colab.py [--out build/colab.zip]

The zip holds a wheel of the library, the notebooks, the exercises as students get them, and what they read. Its
README.md says what to do with it; the set-up cell of every notebook finds it.
"""
import argparse
import shutil
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from pack import pack_kit
from series import ROOT

sys.path.insert(0, str(ROOT / "notebooks/exercises"))
from make import check_release, make_course

from rdlib.utils.files import written_atomically


def make_zip(archive: Path, release: Path) -> None:
    """Write the zip, whole or not at all, with the exercises of nbgrader's folder `release`."""
    check_release(release)
    with TemporaryDirectory() as temporary:
        kit = Path(temporary)
        pack_kit(kit, release)
        shutil.copy(ROOT / "notebooks/exercises/COLAB.md", kit / "README.md")
        with written_atomically(archive) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sorted(kit.rglob("*")):
                packed.write(path, path.relative_to(kit).as_posix())


def main() -> None:
    """Make the zip and print where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/colab.zip"))
    archive = parser.parse_args().out
    with TemporaryDirectory() as course:
        make_course(Path(course), variant=0)
        make_zip(archive, Path(course, "release"))
    print(f"For Google Colab: {archive}, {archive.stat().st_size / 1e6:.0f} MB. How to use it: README.md in it.")


if __name__ == "__main__":
    main()
