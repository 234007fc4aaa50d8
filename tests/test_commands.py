"""`make demo` on a reader's own folder, and `make doctor`."""
import http.server
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from rdlib import doctor
from rdlib.synthetic import scene_list
from rdlib.weights import is_reachable

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path):
    """A small data set in MVTec AD's layout, of odd size: 24 good images, and a test set of 8 with masks."""
    scenes = [("train/good", s) for s in scene_list("weave", "train", train=24)]
    scenes += [(f"test/{s.defect or 'good'}", s) for s in scene_list("weave", "test", good=4, defective=4)]
    for i, (place, scene) in enumerate(scenes):
        image, mask = scene.render(96)
        for sub, pixels in ((place, image), (place.replace("test", "ground_truth"), mask)):
            if sub == place or scene.defect:
                (tmp_path / sub).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(tmp_path / sub / f"{i:03d}{'' if sub == place else '_mask'}.png")
    return tmp_path


def demo(*arguments):
    return subprocess.run([sys.executable, "-m", "rdlib.demo", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_demo_on_a_folder(folder, tmp_path):
    done = demo("--data", str(folder), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "image_auroc" in done.stdout and "aupro" in done.stdout and "quickstart.html" in done.stdout
    page = (tmp_path / "out/quickstart.html").read_text()
    assert "24 good images to train; 8 to test" in page and "widget-view" not in page
    links = re.findall(r'href="(?!https?:)([^"#]+)', page)
    assert len(links) > 10 and [link for link in links if not (tmp_path / "out" / link).is_file()] == []
    assert not re.search(r'<(script|img|link|iframe)[^>]* (src|href)="https?:', page), "nothing is asked of a network"
    pictures = {path.stem for path in (tmp_path / "out/quickstart").iterdir()}
    assert {"heatmaps", "scores", "loss", "curves"} <= pictures
    (heatmaps,) = (tmp_path / "out/quickstart").glob("heatmaps.*")
    assert Image.open(heatmaps).width > 600


def test_demo_says_what_is_wrong_with_a_folder(tmp_path):
    (tmp_path / "test").mkdir()
    done = demo("--data", str(tmp_path), "--out", str(tmp_path / "out"))
    assert done.returncode == 1 and "has no folder train/good" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("parts", [["train/good"], ["train/good", "test/good"], ["train/good", "test/cut"]])
def test_demo_asks_for_test_images_before_it_starts(folder, parts, tmp_path):
    for part in parts:
        shutil.copytree(folder / part, tmp_path / "some" / part)
    done = demo("--data", str(tmp_path / "some"), "--out", str(tmp_path / "out"))
    assert done.returncode == 1 and "it needs test images" in done.stderr and not (tmp_path / "out").exists()


def test_doctor_says_ten_things(monkeypatch, tmp_path):
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(doctor, "is_reachable", lambda url: False)
    lines = doctor.lines()
    assert len(lines) == 10 and all(line.startswith(("ok", "--")) for line in lines)
    assert lines[8].startswith("--") and "README" in lines[8], "MVTec AD is missing, and the line says what to do"
    assert lines[9].startswith("--") and "weights=" in lines[9]
    (tmp_path / "mvtec/bottle/train/good").mkdir(parents=True)
    assert doctor.lines()[8].startswith("ok")


def test_reachable_is_what_answers(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.handle_request, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    assert is_reachable(url)
    server.server_close()
    assert not is_reachable(url, timeout=0.5)
