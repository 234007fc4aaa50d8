"""`make demo` on a reader's own folder, and `make doctor`."""
import copy
import http.server
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import demo
import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from rdlib import load
from rdlib.deploy import doctor
from rdlib.utils.files import is_reachable

ROOT = Path(__file__).parents[1]


NOTEBOOK = nbformat.read(ROOT / demo.NOTEBOOK, as_version=4)
CLOTH = re.compile(r"\b(fabrics?|cloth|woven|threads?|cuts?|holes?|stains?)\b|synthetic/weave")


@pytest.fixture
def folder(tmp_path):
    """The smallest data set that the demo takes, in MVTec AD's layout and of odd size."""
    rng, mask = np.random.default_rng(0), np.zeros((90, 70), np.uint8)
    mask[30:50, 20:40] = 255
    for place, number in (("train/good", 3), ("test/good", 1), ("test/rust", 1), ("ground_truth/rust", 1)):
        (tmp_path / place).mkdir(parents=True)
        for i in range(number):
            pixels = rng.integers(90, 160, (90, 70, 3), dtype=np.uint8)
            pixels[mask > 0] = 20 if "rust" in place else pixels[mask > 0]
            Image.fromarray(mask if "truth" in place else pixels).save(tmp_path / place / f"{i}.png")
    return tmp_path


@pytest.fixture
def main(monkeypatch):
    """The demo as a command, in this process; for what it says before it starts."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("RDLIB_DEMO_DATA", "")  # restored, whatever the command sets

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["demo", *map(str, arguments)])
        return demo.main()

    return run


def words(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def alt_texts(page):
    return [image["alt"] for image in BeautifulSoup(page, "html.parser").select('img[src^="data:"]')]


def test_demo_on_a_folder(folder, tmp_path):
    done = subprocess.run([sys.executable, "notebooks/demo.py", "--data", folder, "--out", tmp_path / "out"], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "image_auroc" in done.stdout and "aupro" in done.stdout and "quickstart.html" in done.stdout
    first, _, rest = done.stdout.partition("The size is chosen to keep the images' shape.")
    assert "layout: MVTec AD" in first and "size of files: 90 x 70" in first and "image_auroc" in rest
    page = (tmp_path / "out/quickstart.html").read_text(encoding="utf-8")
    assert "3 good images to train; 2 to test: good, rust" in page and "widget-view" not in page
    soup = BeautifulSoup(page, "html.parser")
    assert not CLOTH.search(" ".join(cell.get_text() for cell in soup.select(".jp-RenderedMarkdown")))
    links = re.findall(r'href="(?!https?:)([^"#]+)', page)
    assert len(links) > 10 and [link for link in links if not (tmp_path / "out" / link).is_file()] == []
    assert not re.search(r'<(script|img|link|iframe)[^>]* (src|href)="https?:', page), "nothing is asked of a network"
    pictures = {path.stem for path in (tmp_path / "out/quickstart").iterdir()}
    assert {"heatmaps", "scores", "loss", "curves"} <= pictures
    alts = alt_texts(page)
    assert len(alts) == len(pictures) and alts[0] == "One test image of each kind, from left to right: good, rust."
    assert all(alt[:40] in soup.get_text() for alt in alts), "each is printed below its figure"
    (heatmaps,) = (tmp_path / "out/quickstart").glob("heatmaps.*")
    assert Image.open(heatmaps).width > 600
    assert "choose_threshold" not in page and "save" not in [cell.id for cell in NOTEBOOK.cells]


@pytest.mark.slow
def test_demo_leaves_a_model_and_says_how_to_score_with_it(folder, tmp_path):
    """On images in good/ and bad/, below a name that a shell would change."""
    images, out = tmp_path / "it's $HOME #1", tmp_path / "o u t"
    for old, new in (("train/good", "good"), ("test/rust", "bad")):
        shutil.move(folder / old, images / new)
    rng = np.random.default_rng(9)
    Image.fromarray(rng.integers(90, 160, (90, 70, 3), dtype=np.uint8)).save(images / "good/9.png")
    done = subprocess.run([sys.executable, "notebooks/demo.py", "--out", out], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "RDLIB_DEMO_FOLDER": str(images), "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    model = load(out / "model.safetensors")
    assert model.threshold.size == (288, 224) and model.threshold.promise() in done.stdout
    command = done.stdout.splitlines()[-1].strip()
    scored = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True,
                            env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert scored.returncode == 0, scored.stderr
    table = pd.read_csv(out / "scores/scores.csv")
    assert sorted(table["file"]) == ["bad/0.png", *(f"good/{name}.png" for name in "0129")]


def test_a_page_says_in_words_what_its_figures_show(tmp_path):
    stored = [output.metadata[kind]["alt"] for cell in NOTEBOOK.cells for output in cell.get("outputs", [])
              for kind in output.get("data", {}) if kind.startswith("image/")]
    assert alt_texts(demo.page_of(NOTEBOOK, tmp_path)) == stored and len(set(stored)) > 5


def test_the_words_about_the_built_in_cloth_are_left_out_for_other_images():
    notebook = copy.deepcopy(NOTEBOOK)
    assert len(CLOTH.findall(words(notebook))) > 5, "the page of the cloth speaks of it"
    demo.drop_example(notebook)
    assert CLOTH.findall(words(notebook)) == []
    code = [[cell.id for cell in book.cells if cell.cell_type == "code"] for book in (notebook, NOTEBOOK)]
    assert code[0] == code[1]


NASTY = [b"two words", b"it's", b'say "cheese"', b"a$b $(shell touch x) $$HOME `touch y` $(touch z)", b"no#comment",
         b"-q", b"new\nline", b"\xff\xfe no UTF-8", b"back\\slash;&|*?", b"100%", b"at the end "]


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_make_demo_hands_over_any_path_unchanged(name, tmp_path):
    """With a Python that prints what reaches it."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    python = tmp_path / "env/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf %s "$RDLIB_DEMO_FOLDER" >got\nprintf %s "$*" >arguments\n', encoding="utf-8")
    python.chmod(0o755)
    for file in ("pyproject.toml", "constraints.txt", "env/.ready"):
        (tmp_path / file).touch()
    done = subprocess.run([b"make", b"demo", b"VENV=env", b"DATA=" + name], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "got").read_bytes() == name
    assert (tmp_path / "arguments").read_text(encoding="utf-8") == "notebooks/demo.py"
    assert {path.name for path in tmp_path.iterdir()} == {"Makefile", "env", "pyproject.toml", "constraints.txt", "got",
                                                         "arguments"}, "nothing in the path was run"


def test_demo_says_what_is_wrong_with_a_folder(tmp_path, main):
    (tmp_path / "test").mkdir()
    with pytest.raises(SystemExit, match="holds no images"):
        main("--data", tmp_path, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("parts", [["train/good"], ["train/good", "test/good"], ["train/good", "test/rust"]])
def test_demo_asks_for_test_images_before_it_starts(folder, parts, tmp_path, main):
    for part in parts:
        shutil.copytree(folder / part, tmp_path / "some" / part)
    with pytest.raises(SystemExit, match="it needs test images") as ended:
        main("--data", tmp_path / "some", "--out", tmp_path / "out")
    assert shlex.split(str(ended.value).rpartition(": ")[2])[:3] == ["rdlib", "train", str(tmp_path / "some")]
    assert not (tmp_path / "out").exists()


def test_doctor_says_ten_things(monkeypatch, tmp_path):
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(doctor, "is_reachable", lambda url: False)
    lines = doctor.report_lines()
    assert len(lines) == 10 and all(line.startswith(("ok", "--")) for line in lines)
    assert lines[8].startswith("--") and "README" in lines[8], "MVTec AD is missing, and the line says what to do"
    assert lines[9].startswith("--") and "weights=" in lines[9]
    (tmp_path / "mvtec/bottle/train/good").mkdir(parents=True)
    assert doctor.report_lines()[8].startswith("ok")


def test_reachable_is_what_answers(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.handle_request, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    assert is_reachable(url)
    server.server_close()
    assert not is_reachable(url, timeout=0.5)
