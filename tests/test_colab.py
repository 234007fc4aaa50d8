"""The kit without a checkout: colab.zip and the offline bundle hold the same, and the set-up cell installs it."""
import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from bundle import make_bundle
from colab import make_zip
from make import make_course
from series import notebooks, setup_cell

ROOT = Path(__file__).parents[1]
ADDRESS = "https://github.com/someone/kit"
OWN = {"README.md", "constraints.txt", "requirements.txt"}  # of the bundle or the zip alone
COLAB = {  # a stand-in for Colab's own package: Drive and uploads, as environment variables say
    "__init__.py": "",
    "drive.py": """
import os, pathlib, shutil
def mount(place):
    if os.environ["DRIVE"] == "declined":
        raise ValueError("mount failed")
    pathlib.Path(place, "MyDrive").mkdir(parents=True)
    if os.environ["DRIVE"]:
        shutil.copy(os.environ["DRIVE"], pathlib.Path(place, "MyDrive"))
""",
    "files.py": """
import os, pathlib, shutil
def upload():
    if not os.environ["UPLOAD"]:
        return {}
    name = "colab (1).zip"
    shutil.copy(os.environ["UPLOAD"], name)
    return {name: pathlib.Path(name).read_bytes()}
"""}
REPORT = """
import json, os
from importlib.util import find_spec
print(json.dumps({"folder": os.getcwd(), "rdlib": find_spec("rdlib").origin}))
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """The exercises as students get them."""
    course = tmp_path_factory.mktemp("course")
    make_course(course, 0)
    return course / "release"


@pytest.fixture(scope="module")
def archive(release, tmp_path_factory):
    """What `make colab` writes."""
    path = tmp_path_factory.mktemp("colab") / "colab.zip"
    make_zip(path, release)
    return path


def test_zip_and_bundle_hold_the_same_kit(archive, release, tmp_path):
    make_bundle(tmp_path, release, [])
    with zipfile.ZipFile(archive) as packed:
        files = {name for name in packed.namelist() if not name.endswith("/")}
        assert b"colab.zip" in packed.read("README.md")
        read = {name: packed.read(f"notebooks/{name}") for name in (path.name for path in notebooks())}
    bundled = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files - OWN == bundled - OWN and OWN <= bundled
    assert read == {path.name: path.read_bytes() for path in notebooks()}
    assert {"notebooks/glossary.md", "data/reference/published.csv", "notebooks/exercises/README.md"} <= files
    assert any(name.startswith("data/results/runs/") for name in files) and len(archive.read_bytes()) < 50e6


def clean_python(folder, *more):
    """Make an environment without the kit, in `folder`; torch and the rest, 5 GB, are lent by this one."""
    (folder / "lent").mkdir(parents=True)
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "rdlib" not in path.name:  # an editable install leaves a folder of that name
            (folder / "lent" / path.name).symlink_to(path)
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    site = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True,
                          capture_output=True, text=True).stdout.strip()
    Path(site, "lent.pth").write_text("\n".join(map(str, [folder / "lent", *more])) + "\n", encoding="utf-8")
    return python


@pytest.fixture
def in_colab(tmp_path):
    """Run the set-up cell as Colab would, in a clean environment, /content replaced by a folder."""
    content, stub = tmp_path / "content", tmp_path / "stub/google/colab"
    content.mkdir()
    stub.mkdir(parents=True)
    for name, text in COLAB.items():
        (stub / name).write_text(text, encoding="utf-8")
    python = clean_python(tmp_path / "env", tmp_path / "stub")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(drive="declined", upload=""):
        cell = setup_cell("").replace('Path("/content")', f"Path({str(content)!r})")
        return subprocess.run([python, "-c", f"import google.colab\n{cell}\n{REPORT}"], cwd=content, text=True,
                              capture_output=True, env=kept | {"DRIVE": str(drive), "UPLOAD": str(upload),
                                                               "PIP_NO_INDEX": "1"})

    return SimpleNamespace(run=run, content=content, environment=tmp_path / "env")


def check_installed(done, place):
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["folder"]).samefile(place.content / "kit/notebooks")
    assert Path(found["rdlib"]).is_relative_to(place.environment.resolve())
    site = Path(found["rdlib"]).parents[1]
    assert {path.name.partition("-")[0] for path in site.glob("*.dist-info")} == {"rdlib"}, "nothing else is renewed"


def test_the_zip_is_found_in_the_session_and_after_a_restart(archive, in_colab):
    (in_colab.content / "colab.zip").write_bytes(archive.read_bytes())
    check_installed(in_colab.run(), in_colab)
    (in_colab.content / "colab.zip").unlink()
    check_installed(in_colab.run(), in_colab)


def test_the_zip_is_found_on_drive(archive, in_colab):
    check_installed(in_colab.run(drive=archive), in_colab)


@pytest.mark.parametrize("drive", ["declined", ""], ids=["drive declined", "drive without it"])
def test_the_zip_is_uploaded(archive, in_colab, drive):
    check_installed(in_colab.run(drive=drive, upload=archive), in_colab)


def test_what_is_wrong_is_said(in_colab, tmp_path):
    done = in_colab.run()
    assert done.returncode and "mount failed" in done.stdout and "choose colab.zip" in done.stderr
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as packed:
        packed.writestr("other.txt", "something else")
    done = in_colab.run(upload=tmp_path / "other.zip")
    assert done.returncode and "There is no file that `make colab` wrote" in done.stderr


@pytest.fixture
def set_up(monkeypatch, tmp_path):
    """Run the set-up cell of a published kit in this process; return the commands that it starts."""

    def run(colab, installed, returncode=0):
        commands = []

        def start(command, **_):
            commands.append(" ".join(map(str, command)))
            if "clone" in command:
                (tmp_path / "kit/notebooks").mkdir(parents=True)
            return SimpleNamespace(returncode=returncode, stdout="", stderr="no network")

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: installed or None)
        monkeypatch.setattr(subprocess, "run", start)
        if colab:
            monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
        exec(setup_cell(ADDRESS).replace('Path("/content")', f"Path({str(tmp_path)!r})"), {})
        return commands

    return run


def test_a_published_kit_is_cloned(set_up, tmp_path):
    clone, install = set_up(colab=True, installed=False)
    assert clone.startswith("git clone") and f"{ADDRESS} {tmp_path / 'kit'}" in clone
    assert install.endswith(f"pip install -q {tmp_path / 'kit'}[colab]")
    assert Path.cwd() == tmp_path / "kit/notebooks"
    assert set_up(colab=True, installed=True) == [] and Path.cwd() == tmp_path / "kit/notebooks"


def test_a_command_that_fails_stops_the_notebook(set_up):
    with pytest.raises(SystemExit, match="git clone .* failed:\nno network"):
        set_up(colab=True, installed=False, returncode=1)


def test_elsewhere_the_cell_does_nothing_or_names_the_python(set_up, tmp_path):
    assert set_up(colab=False, installed=True) == [] and Path.cwd() == tmp_path
    with pytest.raises(SystemExit) as stopped:
        set_up(colab=False, installed=False)
    assert sys.executable in str(stopped.value) and "Choose the kernel" in str(stopped.value)


@pytest.mark.slow
def test_every_notebook_of_the_zip_runs_where_it_was_unpacked(archive, tmp_path):
    """The bundle holds the same files. The exercises wait for answers; test_exercises.py runs their solutions."""
    python = clean_python(tmp_path / "env")
    zipfile.ZipFile(archive).extractall(tmp_path / "kit")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    kept |= {"TQDM_MININTERVAL": "2", "OMP_NUM_THREADS": "1", "PIP_NO_INDEX": "1"}
    (wheel,) = (tmp_path / "kit/wheels").glob("rdlib-*.whl")
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{wheel}[colab]"], check=True, env=kept)
    done = subprocess.run([python, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-q", "-n", "2", "--dist",
                           "loadfile", "-p", "no:cacheprovider", "--ignore", "notebooks/exercises", "notebooks"],
                          cwd=tmp_path / "kit", env=kept, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
