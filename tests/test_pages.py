"""The pages in Markdown: links lead somewhere, examples run, and what a page names exists."""
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from rdlib.cli import main
from rdlib.datasets.load import CLASSES, load_dataset
from rdlib.synthetic import CATEGORIES, DEFECTS
from rdlib.utils.errors import DataError

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "notebooks"))
from series import anchor  # noqa: E402

FOLDERS = (".", "data", "data/*", "rdlib", "notebooks", "notebooks/book", "notebooks/exercises", "tests/fixtures")
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
         for folder in FOLDERS for path in sorted(ROOT.glob(f"{folder}/*.md"))}
README = PAGES["README.md"]
CODE = {name: "\n".join(re.findall(r"^```.*?^```|`[^`\n]+`", text, re.M | re.S)) for name, text in PAGES.items()}

COMMANDS = sorted(set(re.findall(r"(?:^|`|python -m |/)rdlib ([a-z]+)", "\n".join(CODE.values()), re.M)))


def anchors(text):
    """The fragments of a page's headings, as GitHub makes them."""
    return {anchor(line) for line in re.findall(r"^#+ .*", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)}


def test_the_pages_of_the_readme_are_there():
    assert {"README.md", "CHANGELOG.md", "data/README.md", "data/results/README.md", "data/reference/README.md",
            "data/teacher/README.md", "rdlib/README.md", "notebooks/README.md", "notebooks/glossary.md"} <= set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files_and_headings(name):
    text = re.sub(r"^```.*?^```|`[^`\n]*`(?!\])", "", PAGES[name], flags=re.M | re.S)
    for address in re.findall(r"\]\(([^)\s]+)\)", text):
        if address.startswith(("https://", "http://")):
            continue
        place, _, fragment = unquote(address).partition("#")
        target = (ROOT / name).parent / place if place else ROOT / name
        assert target.exists(), f"{name} leads to {address}"
        if fragment:
            assert fragment in anchors(target.read_text(encoding="utf-8")), f"{name} leads to {address}"


@pytest.mark.parametrize("name", PAGES)
def test_pictures_are_described(name):
    assert all(len(words.split()) > 5 for words in re.findall(r"!\[([^]]*)\]\((?!http)", PAGES[name]))


def test_the_readme_fits_on_a_page():
    assert len(README.splitlines()) <= 150


def test_the_example_of_the_readme_runs_as_printed(tmp_path):
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert float(re.search(r"'image_auroc': ([\d.]+)", done.stdout).group(1)) > 0.9
    assert {path.name for path in tmp_path.iterdir()} == {"weave.png", "weave.safetensors"}


def test_every_command_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for name, code in CODE.items():
        assert set(re.findall(r"\bmake ([a-z][a-z-]*)", code)) <= targets, name
        missing = [script for script in re.findall(r"python ([\w./]+\.py)", code) if not (ROOT / script).is_file()]
        assert not missing, name
    assert {"demo", "test"} <= set(re.findall(r"make ([a-z]+)", CODE["README.md"]))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_library_exists(command, capsys):
    assert {"train", "score", "export", "doctor"} <= {*COMMANDS}
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0


def test_the_map_of_the_library_is_whole():
    listed = re.findall(r"\]\(([\w/]+\.py)\)", PAGES["rdlib/README.md"])
    library = {path.relative_to(ROOT / "rdlib").as_posix() for path in (ROOT / "rdlib").rglob("*.py")}
    assert len(listed) == len(set(listed))
    assert set(listed) == {name for name in library if not name.endswith("/__init__.py")}


def test_every_data_set_of_the_page_is_known(tmp_path):
    section = PAGES["data/README.md"].split("## Data sets by name")[1].split("\n## ")[0]
    names = [name for row in re.findall(r"^\| (.*?) \|", section, re.M) for name in re.findall(r"`([^`]+)`", row)]
    assert {name.partition("/")[0] for name in names} >= {"synthetic", "mvtec", "visa", "btad", *CLASSES}
    for name in names:
        try:
            load_dataset(name, root=tmp_path)
        except DataError:  # known, but not in this folder; an unknown name is a ValueError of another type
            continue
        assert name.startswith(("synthetic", "photo", "digits"))


def test_the_page_counts_the_benchmark_right():
    page = PAGES["data/README.md"]
    assert f"| {sum(map(len, DEFECTS.values()))} types." in page
    assert all(f"`{category}`" in page for category in CATEGORIES)


def test_the_picture_is_the_one_on_record():
    picture = ROOT / "data/pictures/magnetic_tiles.png"
    record = json.loads(picture.with_suffix(".json").read_text(encoding="utf-8"))
    assert hashlib.sha256(picture.read_bytes()).hexdigest() == record["sha256"]
    assert "held-out good training tiles" in record["threshold"]["rule"] and record["held_out"] >= 100
    script, *words = re.sub(r"^python ", "", record["command"]).split()
    options = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True, check=True,
                             env={**os.environ, "PYTHONPATH": str(ROOT)}).stdout
    assert all(word in options for word in words if word.startswith("--"))
