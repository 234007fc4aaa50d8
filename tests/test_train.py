"""`rdlib train`: from a folder to a model with a threshold, and a report page."""
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from PIL import Image

import rdlib
from rdlib import cli, folder_dataset, load, load_dataset
from rdlib.cli import main
from rdlib.datasets import ArraySample
from rdlib.deploy import train
from rdlib.deploy.train import choose_teacher, choose_threshold, estimate, read_roi, split_good, train_model
from rdlib.threshold import rate_bound
from rdlib.utils.errors import DataError, WeightsError
from rdlib.utils.hardware import peak_memory_mib

QUICK = ("--size", "64", "--epochs", "1", "--teacher", "embedded")


def texture(seed, defect=False, shape=(80, 60)):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(90, 160, (*shape, 3), dtype=np.uint8)
    if defect:
        pixels[30:50, 20:40] = 10
    return Image.fromarray(pixels)


def fill(folder, seeds, **options):
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        texture(seed, **options).save(folder / f"{seed:03d}.png")
    return folder


@pytest.fixture
def images(tmp_path):
    """good/ and bad/ side by side, as of a person with a camera."""
    fill(tmp_path / "images/good", range(30))
    fill(tmp_path / "images/bad", range(100, 104), defect=True)
    return tmp_path / "images"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model that was trained on a recognized layout, what was printed, and its page."""
    folder = tmp_path_factory.mktemp("trained")
    fill(folder / "images/good", range(30))
    fill(folder / "images/bad", range(100, 104), defect=True)
    done = subprocess.run([sys.executable, "-m", "rdlib", "train", "images", "-o", "new/model.safetensors", *QUICK],
                          cwd=folder, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    return folder / "new/model.safetensors", done


def environment():
    return {**os.environ, "PYTHONPATH": str(Path(rdlib.__file__).parents[1])}


def data_of(good, validation=None, size=64):
    data = load_dataset(f"folder:{good}", size=size)
    if validation is None:
        return data
    from dataclasses import replace
    return replace(data, validation=load_dataset(f"folder:{validation}", size=size).train)


def test_it_trains_a_model_and_says_what_it_did(trained):
    path, done = trained
    out, model = done.stdout, load(path)
    n = int(re.search(r"(\d+) choose the threshold", out)[1])
    assert model.threshold.good == n and model.threshold.size == (64, 64)
    assert model.threshold.confidence == 0.95 and model.threshold.promise() in out
    assert "layout: good and defective folders side by side" in out and "size of files: 80 x 60 (34)" in out
    assert out.index("to find unusual ones") < out.index("choose the threshold"), "checked first"
    assert "trained on drawn images only" in out and "Less than a minute for 1 epoch and" in out and "GiB free" in out
    assert f"rdlib score {Path('new/model.safetensors')} FOLDER OUT" in out
    assert {file.name for file in path.parent.iterdir()} == {"model.safetensors", "model.html"}


def test_the_command_that_it_says_scores_with_the_threshold(trained, tmp_path, capsys):
    path, _ = trained
    fill(tmp_path / "new", range(200, 203))
    assert main(["score", str(path), str(tmp_path / "new"), str(tmp_path / "out"), "--quiet"]) == 0
    assert f"score at least {load(path).threshold.score:.4g}" in capsys.readouterr().out


def test_the_estimate_comes_before_the_time_is_spent(monkeypatch):
    class Run:
        epochs, steps_per_epoch, settings, seconds = 5, 10, {"batch_size": 4}, 0.0
        model = torch.nn.Identity()

    Run.model.device = torch.device("cpu")
    said, run = [], Run()
    callback = estimate(200, 2**20, said.append)
    for run.step in range(1, 51):
        run.seconds += 600 if run.step == 1 else 60  # the first step is slow
        callback(run)
        assert len(said) == (run.step >= 4)
    assert "About 96 min for 5 epochs and 200 images to score" in said[0]  # 46 steps, and 50 batches
    before = peak_memory_mib(torch.device("cpu")) / 1024
    assert 3.8 < float(re.search(r"Memory: about (\d+\.\d) GiB", said[0])[1]) - before < 4.0, "with maps and masks"
    quick, run.seconds = [], 0.0
    for run.step in range(1, 5):
        run.seconds += 0.1
        estimate(4, 64, quick.append)(run) if run.step == 4 else None
    assert quick[0].startswith("Less than a minute for 5 epochs")


def test_one_step_is_estimated_as_well():
    class Run:
        epochs, steps_per_epoch, settings, seconds, step = 1, 1, {"batch_size": 4}, 60.0, 1
        model = torch.nn.Identity()

    Run.model.device = torch.device("cpu")
    said = []
    estimate(40, 64**2, said.append)(Run())
    assert "About 10 min for" in said[0]


@pytest.mark.parametrize("n, held", [(300, 60), (101, 21), (60, 20), (40, 20), (31, 15), (2, 1)])
def test_a_fifth_is_held_out_at_least_twenty_never_more_than_half(n, held, tmp_path):
    fill(tmp_path / "good", range(n), shape=(32, 32))
    rest, part, words = split_good(data_of(tmp_path / "good", size=32), 0)
    assert (len(rest), len(part)) == (n - held, held)
    assert f"{n - held} good images train, {held} choose the threshold" in words
    names = {sample.name for sample in rest.samples}
    assert len(names) == n - held and not names & {sample.name for sample in part.samples}


@pytest.mark.parametrize("n", [100, 290, 291])
def test_the_split_says_how_many_images_would_promise_5_percent(n, tmp_path):
    data = data_of(fill(tmp_path / "good", range(3), shape=(32, 32)), size=32)
    data.train.samples = [ArraySample(np.random.default_rng(i).integers(0, 255, (32, 32, 3), dtype=np.uint8), str(i))
                          for i in range(n)]
    _, part, words = split_good(data, 0)
    promise = "To promise at most 5 % false alarms, 59 images must choose the threshold. Give 291 good images"
    assert (promise in words) == (len(part) < 59) == (n < 291)


def test_validation_images_choose_the_threshold(tmp_path):
    data = data_of(fill(tmp_path / "good", range(10)), fill(tmp_path / "other", range(50, 57)))
    rest, part, words = split_good(data, 0)
    assert (len(rest), len(part)) == (10, 7) and "validation" in words


def test_equal_images_count_once(tmp_path):
    fill(tmp_path / "good", range(10))
    other = fill(tmp_path / "other", range(50, 57))
    for i in range(5):
        shutil.copy(other / "050.png", other / f"copy{i}.png")
    shutil.copy(tmp_path / "good/003.png", other / "trained_on.png")
    rest, part, words = split_good(data_of(tmp_path / "good", other), 0)
    assert sorted(sample.path.name for sample in part.samples) == [f"{i:03d}.png" for i in range(50, 57)]
    assert len(rest) == 10 and "6 copies are left out" in words


@pytest.mark.parametrize("n", [1, 4])
def test_too_few_images_are_refused(n, tmp_path):
    folder = fill(tmp_path / "good", [0])
    for i in range(1, n):
        shutil.copy(folder / "000.png", folder / f"{i:03d}.png")
    with pytest.raises(DataError, match="none for the threshold.*Add good images"):
        split_good(data_of(folder), 0)


class Scored:
    def __init__(self, scores):
        self.scores = np.array(scores, np.float32)
        self.maps = np.broadcast_to(self.scores[:, None, None], (len(scores), 32, 32))


def test_from_59_images_on_the_promise_is_5_percent():
    scores = np.random.default_rng(0).uniform(1, 2, 59)
    threshold = choose_threshold(Scored(scores))
    assert (threshold.rate, threshold.confidence) == (0.05, 0.95) and threshold.score > scores.max()
    assert "at most 5 % of good images will alarm, with 95 % confidence" in threshold.promise()


@pytest.mark.parametrize("n", [1, 2, 20, 58])
def test_fewer_images_promise_the_smallest_rate_that_they_allow(n):
    threshold = choose_threshold(Scored(np.random.default_rng(0).uniform(1, 2, n)))
    assert rate_bound(0, n, 0.95) <= threshold.rate + 1e-9 < rate_bound(0, n, 0.95) + 0.0011
    assert abs(threshold.rate - (1 - 0.05 ** (1 / n))) < 0.0011, "as of n images without an alarm"
    assert f"{100 * threshold.rate:.3g} %" in threshold.promise()


def test_equal_scores_count_once():
    scores = np.repeat(np.random.default_rng(0).uniform(1, 2, 20), 5)
    assert choose_threshold(Scored(scores)).rate == choose_threshold(Scored(scores[::5])).rate > 0.13


def test_the_best_teacher_is_imagenet_where_it_is_at_hand(monkeypatch):
    monkeypatch.setattr(train, "download_state_dict", lambda url: {})
    assert choose_teacher("best", "resnet18")[0] == "imagenet"
    assert choose_teacher("best", "wide_resnet50_2")[0] == "imagenet"


def test_the_best_teacher_is_embedded_where_the_download_fails(monkeypatch):
    def fails(url):
        raise WeightsError("the file has the wrong hash")

    monkeypatch.setattr(train, "download_state_dict", fails)
    weights, words = choose_teacher("best", "resnet18")
    assert weights == "embedded" and "the wrong hash" in words and "miss more defects" in words
    with pytest.raises(WeightsError, match="the wrong hash"):
        choose_teacher("best", "wide_resnet50_2")


def test_the_words_name_the_teacher_that_is_used():
    assert "drawn images" in choose_teacher("auto", "resnet18")[1]
    assert "ImageNet" in choose_teacher("auto", "resnet50")[1]
    assert choose_teacher("my.pth", "resnet18") == ("my.pth", "weights from my.pth.")


def test_the_default_epochs_make_about_300_steps(images, tmp_path, monkeypatch):
    class Enough(Exception):
        pass

    def fit(model, dataset, epochs, **options):
        raise Enough(len(dataset), epochs)

    monkeypatch.setattr(train, "fit", fit)
    for batch_size, expected in ((16, 300), (1, 20)):  # of 15 images
        with pytest.raises(Enough) as stopped:
            train_model(data_of(images / "good"), tmp_path / "m.safetensors", teacher="embedded", batch_size=batch_size)
        assert stopped.value.args == (15, expected)


# --- region of interest


def test_a_box_in_pixels_of_the_images(tmp_path):
    dataset = data_of(fill(tmp_path / "good", range(3), shape=(128, 192))).train
    roi = read_roi("48,32,192,64", dataset)
    expected = np.zeros((128, 192), bool)
    expected[32:64, 48:192] = True
    assert roi.dtype == torch.bool and np.array_equal(roi, expected[1::2, 1::3])


@pytest.mark.parametrize("box", ["0,0,193,128", "-1,0,50,50", "60,0,60,50", "50,0,40,50"])
def test_a_box_outside_is_refused(box, tmp_path):
    dataset = data_of(fill(tmp_path / "good", range(3), shape=(128, 192))).train
    with pytest.raises(ValueError, match="192 x 128 pixels.*--roi 0,0,192,128"):
        read_roi(box, dataset)


def test_a_mask_image_is_white_inside(tmp_path):
    dataset = data_of(fill(tmp_path / "good", range(3), shape=(128, 128))).train
    values = np.zeros((128, 128), np.uint8)
    values[:64, 64:] = 255
    Image.fromarray(values).save(tmp_path / "1,2,3.png")
    assert np.array_equal(read_roi(str(tmp_path / "1,2,3.png"), dataset), values[::2, ::2] > 0)
    Image.fromarray(values[:100]).save(tmp_path / "other.png")
    with pytest.raises(DataError, match="128 x 100 pixels, the images 128 x 128"):
        read_roi(str(tmp_path / "other.png"), dataset)
    for text in (str(tmp_path / "none.png"), "10,10", "0,0,10.5,20", "left half"):
        with pytest.raises(ValueError, match="neither X0,Y0,X1,Y1 in whole pixels nor the file of a mask"):
            read_roi(text, dataset)
    Image.fromarray(values * 0).save(tmp_path / "black.png")
    for text in (str(tmp_path / "black.png"), "0,0,1,1"):
        with pytest.raises(ValueError, match="holds no pixel at the model's size"):
            read_roi(text, dataset)


def test_images_of_two_sizes_have_no_region(tmp_path):
    fill(tmp_path / "good", range(3))
    fill(tmp_path / "good", [3], shape=(80, 80))
    with pytest.raises(DataError, match="images of one size.*--roi"):
        read_roi("0,0,10,10", data_of(tmp_path / "good").train)


def test_a_turned_photograph_counts_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "good").mkdir()
    for i in range(3):
        texture(i, shape=(64, 128)).save(tmp_path / f"good/{i}.jpg", exif=exif)  # upright: 64 wide, 128 high
    roi = read_roi("0,0,64,64", data_of(tmp_path / "good").train)
    assert roi[:32].all() and not roi[32:].any()


def test_nothing_outside_the_region_alarms(images, tmp_path):
    path = tmp_path / "model.safetensors"
    assert main(["train", str(images), "-o", str(path), *QUICK, "--roi", "0,0,60,20", "--quiet"]) == 0
    model = load(path)
    clean = [texture(7), texture(7, defect=True)]  # the defect lies in rows 30 to 50 of 80
    maps = model.decide(clean).maps
    assert maps[:, 16:].max() == 0 < maps[:, :16].max()
    assert torch.equal(maps[0], maps[1]), "the defect outside has no effect inside"


# --- the files


@pytest.mark.parametrize("stop", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_leaves_the_old_model_and_no_new_one(images, tmp_path, stop):
    (tmp_path / "m.safetensors").write_bytes(b"old")
    process = subprocess.Popen([sys.executable, "-m", "rdlib", "train", str(images), "-o", "m.safetensors",
                                "--size", "64", "--epochs", "10000", "--teacher", "embedded"], cwd=tmp_path,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    while "epochs and" not in process.stdout.readline():
        assert process.poll() is None, process.stderr.read()
    process.send_signal(stop)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert err.splitlines()[-1] == ("Stopped. m.safetensors was not written, since training was interrupted. Start it "
                                    "again.")
    assert {path.name for path in tmp_path.iterdir()} == {"images", "m.safetensors"}
    assert (tmp_path / "m.safetensors").read_bytes() == b"old"


def test_a_place_that_cannot_be_written_is_refused_before_training(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "fit", lambda *a, **o: pytest.fail("trained before it looked"))
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "page.html").mkdir()
    (tmp_path / "file").touch()
    for name, words in (("folder.safetensors", "may be a folder"), ("page.safetensors", "may be a folder"),
                        ("file/m.safetensors", "file"), ("m.onnx", "must end in .safetensors")):
        assert main(["train", str(images), "-o", str(tmp_path / name), *QUICK]) == 1
        err = capsys.readouterr().err
        assert words in err and "cannot be written" in err and "Choose another name" in err


def test_an_unreadable_test_image_ends_it_before_training(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "fit", lambda *a, **o: pytest.fail("trained before it looked"))
    (images / "bad/torn.png").write_bytes(b"no image")
    assert main(["train", str(images), "-o", str(tmp_path / "m.safetensors"), *QUICK]) == 1
    assert "torn.png" in capsys.readouterr().err


def test_training_that_diverges_is_words_and_leaves_nothing(images, tmp_path, monkeypatch, capsys):
    def diverges(*arguments, **options):
        raise FloatingPointError("Training has diverged")

    monkeypatch.setattr(train, "fit", diverges)
    assert main(["train", str(images), "-o", str(tmp_path / "m.safetensors"), *QUICK]) == 1
    assert capsys.readouterr().err == "Training has diverged\n" and not (tmp_path / "m.safetensors").exists()


def test_folders_by_role_and_quiet(tmp_path, capfd):
    fill(tmp_path / "ok", range(12))
    fill(tmp_path / "spare", range(20, 26))
    fill(tmp_path / "held", range(30, 35))
    fill(tmp_path / "dent", range(100, 102), defect=True)
    fill(tmp_path / "hole", range(110, 112), defect=True)
    assert main(["train", "--good", str(tmp_path / "ok"), "--defective", str(tmp_path / "dent"), str(tmp_path / "hole"),
                 "--test-good", str(tmp_path / "spare"), "--validation", str(tmp_path / "held"),
                 "-o", str(tmp_path / "m.safetensors"), *QUICK, "--quiet"]) == 0
    out, err = capfd.readouterr()
    threshold = load(tmp_path / "m.safetensors").threshold
    assert threshold.good == 5 and err == "" and out.startswith(threshold.promise())
    page = (tmp_path / "m.html").read_text(encoding="utf-8")
    assert "of 6 good test images alarm" in page and "of 4 defective ones" in page


def test_without_test_good_a_share_of_the_good_images_is_held_out(tmp_path):
    folders = [str(fill(tmp_path / "ok", range(20))), str(fill(tmp_path / "dent", range(100, 103), defect=True))]
    data = cli._data(good=folders[:1], defective=folders[1:], size="64")
    assert data.test.defect_types.count("good") == 4 and len(data.train) == 16 and data.validation is None


def test_good_images_alone_are_split_three_ways(tmp_path, monkeypatch):
    """Those held out to test are neither trained on nor do they choose the threshold."""
    folder, said = fill(tmp_path / "ok", range(30)), []
    data = folder_dataset(good=folder, size=64)
    assert (len(data.train), len(data.test), any(data.test.labels)) == (24, 6, False)
    monkeypatch.setattr(train, "fit", lambda *a, **o: (_ for _ in ()).throw(FloatingPointError("far enough")))
    with pytest.raises(FloatingPointError):
        train_model(data, tmp_path / "m.safetensors", teacher="embedded", say=said.append)
    assert "12 good images train, 12 choose the threshold" in said[0]


def test_a_data_set_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "fit", lambda *a, **o: (_ for _ in ()).throw(FloatingPointError("far enough")))
    assert main(["train", "synthetic/weave", "-o", "m.safetensors", *QUICK]) == 1
    assert capsys.readouterr().err == "far enough\n"
    for name, words in (("weaves", "data set 'weaves'"), ("synthetic/weaves", "category 'weaves'")):
        assert main(["train", name, "-o", "m.safetensors", *QUICK]) == 1
        assert f"There is no {words}" in capsys.readouterr().err


NASTY = os.fsdecode(b"-it's $(touch x) \"a\" #1\n\xff")


def test_paths_arrive_unchanged_whatever_they_hold(tmp_path):
    fill(tmp_path / NASTY, range(6))
    model = f"-m {NASTY}.safetensors"
    done = subprocess.run([sys.executable, "-m", "rdlib", "train", f"--output={model}", *QUICK, "--", NASTY],
                          cwd=tmp_path, capture_output=True, env=environment())
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {NASTY, model, model.replace(".safetensors", ".html")}
    (command,) = re.findall(rb"Use it: rdlib (score .*) FOLDER OUT", done.stdout, re.S)
    again = subprocess.run([b"printf '%s|' " + command], shell=True, capture_output=True, check=True).stdout
    assert os.fsdecode(again.split(b"|")[1]).endswith(model), "as a shell reads it"


# --- the page


def test_the_page_has_everything_and_needs_nothing(trained):
    path, done = trained
    text = path.with_suffix(".html").read_text(encoding="utf-8")
    page = BeautifulSoup(text, "html.parser")
    words = page.get_text()
    assert load(path).threshold.promise()[1:] in words and "choose the threshold" in words
    assert "image_auroc" in words and "resnet18" in words and "embedded" in words
    assert "Good images with the highest scores" in words and "Defective images with the lowest scores" in words
    images = page.select("img")
    assert len(page.select("td:first-child")) == 6 + 4, "the worst images by name"
    assert len(images) == 3 + 2 and all(image["src"].startswith("data:image/") for image in images)
    assert all(len(image["alt"].split()) > 3 for image in images)
    assert not re.search(r"""(src|href)=["'](?!data:)""", text) and "<script" not in text
    assert page.select_one("meta[name=viewport]") and page.html["lang"] == "en"


def test_the_page_of_good_images_alone(tmp_path):
    assert main(["train", str(fill(tmp_path / "good", range(6))), "-o", str(tmp_path / "m.safetensors"), *QUICK,
                 "--quiet"]) == 0
    words = BeautifulSoup((tmp_path / "m.html").read_text(encoding="utf-8"), "html.parser").get_text()
    assert "Without defective test images" in words and "Defective images" not in words and "image_auroc" not in words


def test_names_on_the_page_are_text(tmp_path):
    kind = "<b>$5 & $6^</b>"
    fill(tmp_path / "a/good", range(6))
    fill(tmp_path / f"a/test/{kind.replace('/', '')}", range(100, 102), defect=True)
    fill(tmp_path / "a/train/good", range(6))
    fill(tmp_path / "a/test/good", range(20, 22))
    shutil.rmtree(tmp_path / "a/good")
    (tmp_path / "a/test/good/020.png").rename(tmp_path / "a/test/good/<script>alert(1)<script>.png")
    assert main(["train", str(tmp_path / "a"), "-o", str(tmp_path / "m.safetensors"), *QUICK, "--quiet"]) == 0
    text = (tmp_path / "m.html").read_text(encoding="utf-8")
    assert "<script" not in text and "<b>$5" not in text
    assert "<script>alert(1)<script>.png" in BeautifulSoup(text, "html.parser").get_text()


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_is_readable_at_this_width(trained, browser, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(trained[0].with_suffix(".html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    assert page.evaluate("Math.min(...[...document.querySelectorAll('p, td, figcaption')].map("
                         "e => parseFloat(getComputedStyle(e).fontSize)))") >= 14
    page.close()
