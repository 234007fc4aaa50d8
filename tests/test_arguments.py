"""Every argument of the public functions is checked before any work, in words that name it."""
import json
import math
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Subset

from rdlib import (
    AnomalyDataset,
    CSVLog,
    EarlyStopping,
    EvaluateEvery,
    ForwardStudent,
    MemoryBank,
    Report,
    ReverseDistillation,
    Threshold,
    bootstrap_intervals,
    evaluate,
    export_onnx,
    fit,
    folder_dataset,
    load,
    load_dataset,
    score_folder,
    threshold_from_both,
    threshold_from_good,
)
from rdlib.anomaly_map import fuse, gaussian_smooth, image_score
from rdlib.cli import main
from rdlib.course import lesson
from rdlib.datasets import hold_out
from rdlib.figures import examples, gallery
from rdlib.images import as_images, read_image
from rdlib.metrics import aupro, aupro_per_image, auroc
from rdlib.reproduction import (
    BENCHMARKS,
    TABLES,
    ResultStore,
    RunConfig,
    execute,
    grid,
    load_results,
    run_all,
    weights_id,
    write_report,
)
from rdlib.reproduction.record import KEYS, RESAMPLES
from rdlib.synthetic import render, scene_list
from rdlib.synthetic.export import export
from rdlib.threshold import images_needed, rate_bound
from rdlib.training import MovingAverage, epoch_chunks
from rdlib.utils.arrays import as_size
from rdlib.utils.errors import DataError, WeightsError, check_choice, check_number

NO_NUMBERS = [None, "0.5", True, np.bool_(True), math.nan, math.inf, -math.inf, [0.5], np.array([0.5, 0.5]), 10**400]


@pytest.mark.parametrize("number", [*NO_NUMBERS, 0, -1, 1.5])
def test_a_number_outside_its_interval_is_refused_with_name_value_and_interval(number):
    with pytest.raises(ValueError) as error:
        check_number("fpr_limit", number, "(0, 1]")
    assert str(error.value).startswith("fpr_limit must be a number in (0, 1]; got ")
    assert repr(bool(number) if isinstance(number, np.bool_) else number)[:50] in str(error.value)


@pytest.mark.parametrize("number", [1, 0.3, np.float32(0.5), np.int64(1), np.float16(0.25)])
def test_numbers_of_numpy_and_ends_of_closed_intervals_pass_as_float(number):
    assert type(check_number("x", number, "(0, 1]")) is float and check_number("x", number, "[0, 1]") == float(number)
    with warnings.catch_warnings(action="error"):  # NumPy's, of an overflow
        assert check_number("x", number, "(-inf, inf)") == check_number("x", number, "[0, inf)") == float(number)


def test_ends_of_open_intervals_and_numbers_without_a_float_are_refused():
    for number, interval in [
            (0, "(0, 1)"), (1, "(0, 1)"), (1, "[0, 1)"), (10**400, "[0, inf)"), (math.inf, "[0, inf)")]:
        with pytest.raises(ValueError, match="must be a number in"):
            check_number("x", number, interval)
    assert check_number("x", 0, "[0, inf)") == 0


@pytest.mark.parametrize("value", [[], {}, np.zeros(3), torch.zeros(3), None, 1.5, "ad"])
def test_a_choice_of_any_type_is_refused_with_the_choices(value):
    with pytest.raises(ValueError, match="There is no fusion .*Choose one of: add, multiply"):
        check_choice("fusion", value, ("add", "multiply"))


ODD = [None, "odd", True, math.nan, math.inf, -1, 0, 1.5, 10**400, np.int64(-1), [3], {}, object()]
@pytest.fixture(scope="module")
def parts():
    """A model, a data set, a report and scores, small and untrained."""
    data = load_dataset("synthetic/weave", size=64, n_train=4)
    test = data.test.subset([0, 1, 100, 101])
    model = ReverseDistillation("resnet18", "random")
    model.threshold = Threshold(score=1, pixel=1, size=(64, 64), rule="made up", good=9, alarms=0)
    report = evaluate(model, test, progress=False)
    return {"model": model, "train": data.train, "test": test, "report": report, "maps": report.maps,
            "scores": report.scores, "labels": report.labels, "masks": report.masks}


CALLS = {  # calls of public functions, and the names of their arguments that are varied
    "predict": (lambda p, **a: p["model"].predict(p["test"][0].image, **a), "batch_size precision"),
    "decide": (lambda p, **a: p["model"].decide(p["test"][0].image, **a), "batch_size precision"),
    "fit": (lambda p, **a: fit(p["model"], p["train"], **{"epochs": 1, "progress": False} | a),
            "epochs batch_size betas loss scales schedule ema seed cache precision num_workers callbacks checkpoint "
            "checkpoint_every progress"),
    "evaluate": (lambda p, **a: evaluate(p["model"], p["test"], **a),
                 "batch_size fpr_limit precision num_workers progress"),
    "evaluate model": (lambda p, **a: evaluate(dataset=p["test"], **a), "model"),
    "bootstrap": (lambda p, **a: bootstrap_intervals(**{"report": p["report"]} | a), "report n_resamples level seed"),
    "aupro": (lambda p, **a: aupro(p["masks"], p["maps"], **a), "fpr_limit"),
    "aupro_per_image": (lambda p, **a: aupro_per_image(p["masks"], p["maps"], **a), "n_thresholds"),
    "auroc": (lambda p, **a: auroc(**{"labels": p["labels"], "scores": p["scores"]} | a), "labels scores"),
    "gaussian_smooth": (lambda p, **a: gaussian_smooth(**{"maps": torch.zeros(1, 8, 8)} | a), "maps sigma"),
    "fuse": (lambda p, **a: fuse(torch.zeros(1, 3, 8, 8), **a), "fusion scales"),
    "image_score": (lambda p, **a: image_score(torch.zeros(1, 8, 8), **a), "score"),
    "threshold_from_good": (lambda p, **a: threshold_from_good(
        **{"scores": np.arange(40.0), "maps": np.zeros((40, 2, 2)), "rate": 0.2} | a), "scores maps rate confidence"),
    "threshold_from_both": (lambda p, **a: threshold_from_both(
        **{"labels": p["labels"], "scores": p["scores"], "maps": p["maps"]} | a), "labels scores maps recall"),
    "rate_bound": (lambda p, **a: rate_bound(**{"alarms": 0, "n": 9} | a), "alarms n confidence"),
    "images_needed": (lambda p, **a: images_needed(**{"rate": 0.1} | a), "rate confidence"),
    "models": (lambda p, **a: ReverseDistillation(**{"weights": "random"} | a),
               "backbone weights bottleneck scales sigma fusion score normalize seed"),
    "students": (lambda p, **a: ForwardStudent(**{"weights": "random"} | a),
                 "scales sigma fusion score normalize blocks seed"),
    "banks": (lambda p, **a: MemoryBank(**{"weights": "random"} | a), "scales size coreset sigma score normalize seed"),
    "bank": (lambda p, **a: MemoryBank("resnet18", "random").fit(p["train"], **a), "batch_size precision progress"),
    "early": (lambda p, **a: EarlyStopping(p["train"], **a), "patience every"),
    "every": (lambda p, **a: EvaluateEvery(p["test"], **a), "every"),
    "CSVLog": (lambda p, **a: CSVLog(**a), "path"),
    "MovingAverage": (lambda p, **a: MovingAverage({"a": torch.nn.Linear(1, 1)}, **a), "decay"),
    "epoch_chunks": (lambda p, **a: epoch_chunks(p["train"], **{"batch_size": 2, "seed": 0, "epoch": 0} | a),
                     "batch_size seed epoch"),
    "load_dataset": (lambda p, **a: load_dataset(**{"name": "synthetic/weave", "size": 64} | a),
                     "name root size n_train seed white mask_threshold keep_defects"),
    "folder_dataset": (lambda p, **a: folder_dataset(**{"good": "nowhere"} | a),
                       "seed white mask_threshold keep_defects"),
    "hold_out": (lambda p, **a: hold_out(p["train"], **{"n": 1} | a), "n seed"),
    "split": (lambda p, **a: p["train"].split(**{"fraction": 0.5} | a), "fraction seed"),
    "subset": (lambda p, **a: p["train"].subset(**a), "indices"),
    "AnomalyDataset": (lambda p, **a: AnomalyDataset(p["train"].samples, **{"size": (64, 64)} | a), "size"),
    "render": (lambda p, **a: render(**{"category": "weave", "size": 64, "seed": 1} | a),
               "category size seed defect strength"),
    "scene_list": (lambda p, **a: scene_list(**{"category": "weave", "part": "train"} | a),
                   "category part seed train good defective"),
    "export": (lambda p, **a: export(**{"category": "weave", "out": "/dev/null/x"} | a), "size seed jobs progress"),
    "export_onnx": (lambda p, **a: export_onnx(p["model"], **{"path": "x.onnx", "images": torch.zeros(0)} | a),
                    "path size images tolerance"),
    "score_folder": (lambda p, **a: score_folder(p["model"], **{"folder": "nowhere", "out": "o"} | a),
                     "folder out overlays batch_size num_workers resume progress"),
    "examples": (lambda p, **a: examples(**{"report": p["report"]} | a), "report n"),
    "gallery": (lambda p, **a: gallery(p["report"], **a), "n indices threshold"),
    "RunConfig": (lambda p, **a: RunConfig(**{"dataset": "x"} | a),
                  "dataset seed size n_train method backbone weights train_scales sigma normalize epochs batch_size lr "
                  "schedule ema curve_every precision threads"),
    "run_all": (lambda p, **a: run_all(**{"configs": [], "store": ResultStore("x")} | a),
                "configs store machine jobs progress"),
    "execute": (lambda p, **a: execute(**a), "config"),
    "ResultStore": (lambda p, **a: ResultStore(**a), "folder"),
    "lesson": (lambda p, **a: lesson(**{"name": "x"} | a), "name cfg seed"),
    "load": (lambda p, **a: load(**a), "path"),
    "Report.load": (lambda p, **a: Report.load(**a), "path"),
}


@pytest.mark.parametrize(("call", "name"), [
    (call, name) for call, (_, names) in CALLS.items() for name in names.split()])
def test_an_odd_argument_works_or_is_refused_in_words(parts, call, name, tmp_path, monkeypatch):
    """No other error leaves the function, and no weight changes where the argument is refused."""
    monkeypatch.chdir(tmp_path)
    before = [value.clone() for value in parts["model"].state_dict().values()]
    for value in ODD:
        try:
            CALLS[call][0](parts, **{name: value})
        except (ValueError, WeightsError, IndexError, NotADirectoryError) as error:
            assert str(error)[-1] in ".?" or isinstance(error, OSError | IndexError), f"{value!r}: {error}"
            if call == "fit":
                assert all(map(torch.equal, before, parts["model"].state_dict().values()))
        else:
            before = [value.clone() for value in parts["model"].state_dict().values()]


@pytest.mark.parametrize(("options", "words"), [
    ("reproduce ocbe --epochs -3", "epochs must be a whole number from 1"),
    ("reproduce ocbe --threads 0", "threads must be a whole number from 1"),
    ("reproduce ocbe --jobs 0", "jobs must be a whole number from 1"),
    ("reproduce ocbe --weights embedded=/nope", "embedded=/nope: /nope does not exist"),
    ("reproduce ocbe --weights imagnet=.", "no teacher of this table 'imagnet'"),
    ("reproduce ocbe --root mvtec=.", "no data set of this table 'mvtec'"),
    ("reproduce ocbe --precision int8", "no precision 'int8'"),
    ("reproduce ocbe --seeds -1", "seeds must be a whole number from 0"),
    ("reproduce ocbe --on nope", "There is no benchmark 'nope'. Choose one of: mvtec, "),
    ("reproduce odd", "There is no table odd. Choose one of: main, protocol, "),
    ("reproduce ocbe --device odd", "The device 'odd' cannot be used ("),
    ("reproduce ocbe --size 33", "An image's sides must be multiples of 32, got 33 x 33."),
    ("reproduce ocbe --teacher odd", "There is no teacher 'odd'. Choose one of: embedded, imagenet, random, "),
    ("reproduce ocbe --backbone odd", "There is no backbone 'odd'. Choose one of: resnet18, "),
    ("synthetic out --jobs 0", "jobs must be a whole number from 1"),
    ("score model.safetensors . out --batch-size 0", "model.safetensors"),
])
def test_the_commands_refuse_what_their_functions_refuse(options, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(options.split())
    except SystemExit as stop:
        status = stop.code
    assert status in (1, 2) and words in capsys.readouterr().err and not list(tmp_path.rglob("*"))


def written(store, config, change):
    """Write a whole result, changed, as a file of this run."""
    metrics = dict.fromkeys(("image_auroc", "pixel_auroc", "aupro", "aupro_per_image"), 0.5) | {"image_ap": math.nan}
    resampled = {name: [5000] * RESAMPLES for name in ("image_auroc", "pixel_auroc", "aupro")}
    result = {"config": asdict(config), "metrics": metrics, "per_defect": {"cut": metrics | {"images": 3}},
              "scored_by": {"123": metrics}, "bootstrap": {"123": resampled}, "curve": {"1": metrics}, "losses": [1.0],
              "versions": {"torch": "2"}, "hardware": "CPU", "seconds": 60.0, "peak_memory_mb": 100, "revision": None,
              "date": "2026-01-01"}
    content = change(result) if callable(change) else change
    store.path(config).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def without(name):
    return lambda result: {key: value for key, value in result.items() if key != name}


BAD_RESULTS = {
    "no JSON": "{", "a list": [], "null": None, "a number": 3, "empty": "", "nested": "[" * 100_000,
    "config null": lambda r: r | {"config": None}, "config unknown": lambda r: r | {"config": r["config"] | {"new": 1}},
    "config of another run": lambda r: r | {"config": r["config"] | {"seed": 7}},
    "config of another type": lambda r: r | {"config": r["config"] | {"epochs": "3"}},
    "metrics a list": lambda r: r | {"metrics": []}, "metric missing": lambda r: r | {"metrics": {"aupro": 0.5}},
    "metric text": lambda r: r | {"metrics": r["metrics"] | {"aupro": "0.5"}},
    "metric true": lambda r: r | {"metrics": r["metrics"] | {"aupro": True}},
    "metric -5.5": lambda r: r | {"metrics": r["metrics"] | {"aupro": -5.5}},
    "metric 1e300": lambda r: r | {"scored_by": {"123": r["metrics"] | {"aupro": 1e300}}},
    "metric of an epoch": lambda r: r | {"curve": {"1": r["metrics"] | {"aupro": math.inf}}},
    "epoch no number": lambda r: r | {"curve": {"one": r["metrics"]}}, "curve a list": lambda r: r | {"curve": [1]},
    "scored_by": lambda r: r | {"scored_by": {"123": 1}}, "bootstrap": lambda r: r | {"bootstrap": {"123": [1]}},
    "bootstrap short": lambda r: r | {"bootstrap": {"123": {"aupro": [1, 2]}}},
    "bootstrap high": lambda r: r | {"bootstrap": {"123": {"aupro": [10_001] * RESAMPLES}}},
    "bootstrap text": lambda r: r | {"bootstrap": {"123": {"aupro": ["a"] * RESAMPLES}}},
    "bootstrap empty": lambda r: r | {"bootstrap": {}}, "scored_by empty": lambda r: r | {"scored_by": {}},
    "nothing drawn": lambda r: r | {"bootstrap": {"123": {}}}, "losses": lambda r: r | {"losses": [1.0, "0.5"]},
    "losses nested": lambda r: r | {"losses": [[]]}, "seconds negative": lambda r: r | {"seconds": -1.0},
    "averaged epoch": lambda r: r | {"averaged_curve": {"one": r["metrics"]}},
    "metric of the average": lambda r: r | {"averaged_curve": {"1": r["metrics"] | {"aupro": 2}}},
    "scores": lambda r: r | {"scores": [1.0]}, "measures": lambda r: r | {"measures": None},
    "data": lambda r: r | {"data": "abc"}, "command": lambda r: r | {"command": ["rdlib"]},
    "versions": lambda r: r | {"versions": {}}, "seconds": lambda r: r | {"seconds": "long"},
    **{f"no {name}": without(name) for name in KEYS}}


@pytest.mark.parametrize("kind", BAD_RESULTS)
def test_a_bad_result_file_counts_as_missing_is_named_once_and_stops_no_report(kind, tmp_path, monkeypatch):
    table, benchmark, store = TABLES["readout"], BENCHMARKS["synthetic"], ResultStore(tmp_path)
    good, bad = (replace(point.config, weights_id=weights_id("embedded"))
                 for point in grid(table, benchmark, ["weave"], [0, 1])[:2])
    written(store, good, lambda result: result)
    written(store, bad, BAD_RESULTS[kind])
    with pytest.warns(UserWarning) as said:
        assert store.read(bad) is None and store.read(good)["metrics"]["aupro"] == 0.5
        results = load_results("readout", "synthetic", ["weave"], [0, 1], folder=tmp_path)
        assert list(results.runs) == [good] and store.read(bad) is None
    (line,) = (str(warning.message) for warning in said)
    assert line.startswith(f"{store.path(bad)} is no result (") and line.endswith(
        "counts as missing. Remove it, or run its run again.")
    assert "0.500" in write_report(results, tmp_path / "tables").read_text(encoding="utf-8")


def test_a_folder_in_the_place_of_a_result_counts_as_missing(tmp_path):
    store, config = ResultStore(tmp_path), RunConfig("toy")
    store.path(config).mkdir()
    with pytest.warns(UserWarning, match="is no result"):
        assert store.read(config) is None and not store.read_all()


def test_every_recorded_result_is_read(recwarn):
    folder = Path(__file__).parents[1] / "data/results/runs"
    assert len(ResultStore(folder).read_all()) == len(list(folder.glob("*.json"))) > 200 and not recwarn.list


@pytest.mark.parametrize(("field", "change"), [
    ("fpr_limit", lambda limit: np.array(-0.3)), ("fpr_limit", lambda limit: np.array(math.nan)),
    ("maps", lambda maps: maps * math.nan), ("maps", lambda maps: maps[:, :, :9]),
    ("scores", lambda scores: scores[:, None]),
    ("maps", lambda maps: maps.astype(str)), ("unknown", lambda masks: masks[0]),
    ("masks", lambda masks: masks * 0.5), ("unknown", lambda masks: masks.astype(int)),
    ("seconds", lambda seconds: np.array(math.nan)), ("seconds", lambda seconds: np.array("long")),
    ("threshold", lambda threshold: np.array(math.inf)), ("threshold", lambda threshold: np.zeros(2)),
    ("labels", lambda labels: 1 - labels), ("labels", lambda labels: labels + 6), ("labels", lambda labels: labels[:1]),
    ("names", lambda names: np.arange(len(names))), ("has_masks", lambda masks: np.array([True, True])),
    ("has_masks", lambda masks: np.array("no"))])
def test_a_report_file_with_other_content_is_refused(parts, field, change, tmp_path):
    parts["report"].save(tmp_path / "report.npz")
    with np.load(tmp_path / "report.npz") as file:
        np.savez(tmp_path / "report.npz", **{**file, field: change(file[field])})
    with pytest.raises(ValueError, match="cannot be read as a report"):
        Report.load(tmp_path / "report.npz")


def test_a_report_file_without_images_is_refused(parts, tmp_path):
    parts["report"].save(tmp_path / "report.npz")
    with np.load(tmp_path / "report.npz") as file:
        np.savez(tmp_path / "report.npz", **{name: file[name][:0] if file[name].ndim else file[name] for name in file})
    with pytest.raises(DataError, match="cannot be read as a report"):
        Report.load(tmp_path / "report.npz")


@pytest.mark.parametrize("scores", [np.ma.array([0.1, 0.2], mask=[0, 1]), [0.1, np.ma.masked]])
def test_masked_values_are_refused_in_words(scores):
    assert auroc([0, 1], np.ma.array([0.1, 0.2])) == 1  # nothing is masked
    with pytest.raises(ValueError, match="An array has masked values, which cannot be left out. Select the others"):
        auroc([0, 1], scores)
    with pytest.raises(ValueError, match="An array has masked values"):
        auroc(np.ma.array([0, 1], mask=[0, 1]), [0.1, 0.2])


@pytest.mark.parametrize("kind", [np.int64, np.uint64])
def test_whole_numbers_that_floats_cannot_tell_apart_are_refused(kind):
    assert auroc([0, 1], np.array([2**53 - 1, 2**53], kind)) == 1
    with pytest.raises(ValueError, match=f"The scores hold whole numbers beyond {2**53}, which floats cannot tell"):
        auroc([0, 1], np.array([2**53, 2**53 + 1], kind))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Make a folder of images the current one, so that an empty path would read it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good").mkdir()
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "good" / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize("options", [
    ["score", "m.safetensors", "", "out"], ["score", "m.safetensors", "good", ""], ["check", "--good", ""],
    ["train", "-o", "m.safetensors", "--good", "good", ""], ["train", "good", "-o", ""], ["check", "good", "--page="]])
def test_an_empty_path_on_the_command_line_is_not_the_current_folder(options, photos, capsys):
    try:
        status = main(options)
    except SystemExit as stop:
        status = stop.code
    assert status == 2 and "This path is empty. Name a file or folder; '.' is" in capsys.readouterr().err
    assert [path.name for path in photos.iterdir()] == ["good"]


def test_an_empty_path_is_refused_but_the_current_folder_is_read(parts, photos, monkeypatch, capsys):
    for name, call in [("folder", lambda: score_folder(parts["model"], "", "out")),
                       ("out", lambda: score_folder(parts["model"], "good", "")),
                       ("PATH in folder:PATH", lambda: load_dataset("folder:")),
                       ("root", lambda: load_dataset("mvtec/bottle", root="")),
                       ("checkpoint", lambda: fit(parts["model"], parts["train"], checkpoint=""))]:
        with pytest.raises(ValueError, match=f"^{name} is an empty path. Name a file or folder; '.' is the current"):
            call()
    monkeypatch.chdir("good")
    assert len(load_dataset("folder:.").train) == 5 and len(folder_dataset(good=".").train) == 4
    assert main(["check", "--good", "."]) == 0 and "4" in capsys.readouterr().out
    assert len(score_folder(parts["model"], ".", "../out", progress=False)) == 5


def test_a_size_may_be_numpys_number(parts, photos):
    size = np.int64(64)
    for one in (size, np.array(64), [size, 64], np.array([64, 64])):
        assert load_dataset("folder:good", size=one).train.size == folder_dataset(good="good", size=one).train.size
        assert as_size(one) == load_dataset("folder:good", size=one).train.size == (64, 64)
    assert len(score_folder(parts["model"], "good", "out", size=size, progress=False)) == 5
    model = ReverseDistillation("resnet18", "random")
    model.set_trained(size, (0, 1))
    assert model.image_size == (64, 64)


@pytest.mark.parametrize("size", [True, np.bool_(True), b"  ", "  ", [True, True], (32, True), "32", None])
def test_a_size_that_is_no_whole_number_is_refused(size, photos):
    for call in (as_size, lambda size: folder_dataset(good="good", size=size)):
        with pytest.raises(ValueError, match=r"A size is \(height, width\) or the side of a square in pixels"):
            call(size)


def test_refused_settings_of_training_change_nothing():
    model = ReverseDistillation("resnet18", "random")
    model.set_trained(32, (0, 1), 4095)
    model.threshold = Threshold(score=1, pixel=1, size=(32, 32), rule="made up", good=9, alarms=0)
    before = repr(model)
    for size, values, white in [(64, (1, 0), None), (33, (0, 1), None), (64, (0, 1, 2), None), (64, (0, 1), -1)]:
        with pytest.raises(ValueError, match="value_range|multiples of 32|white"):
            model.set_trained(size, values, white)
        assert repr(model) == before and model.threshold
    model.set_trained(64, (0, 1))
    assert model.image_size == (64, 64) and model.threshold is None and model.config.white is None


@pytest.mark.parametrize("value", [(0.1, 0.2, 0.3), [0.1], 0.5, "ab"])
def test_a_pair_is_asked_for_as_two_numbers(parts, value):
    with pytest.raises(ValueError, match="^betas must be 2 numbers; got "):
        fit(parts["model"], parts["train"], betas=value)


def test_masked_pixels_are_refused_in_words(parts):
    image = np.ma.array(np.zeros((64, 64, 3), np.uint8))
    assert as_images(image).shape == (1, 3, 64, 64)  # nothing is masked
    image[0, 0] = np.ma.masked
    for images in (image, [image], image.astype(np.float32), image.astype(np.uint16)):
        with pytest.raises(ValueError, match=r"An image has masked pixels, .* Fill them: image.filled\(0\)"):
            parts["model"].predict(images)


def test_an_image_is_read_by_a_path_as_text(photos):
    assert torch.equal(read_image("good/0.png", (32, 32))[0], read_image(Path("good/0.png"), (32, 32))[0])


@pytest.mark.parametrize("change", [
    {"maps": lambda p: p["maps"][:3]}, {"maps": lambda p: p["maps"][0]}, {"scores": lambda p: p["scores"][:3]},
    {"masks": lambda p: p["masks"][:, :9]}, {"unknown": lambda p: p["masks"][1:]},
    {"dataset": lambda p: p["test"].subset([0, 2])}, {"scores": lambda p: p["scores"][:, None]}])
def test_the_parts_of_a_report_must_belong_together(parts, change):
    whole = {"dataset": parts["test"], "maps": parts["maps"], "scores": parts["scores"], "masks": parts["masks"],
             "fpr_limit": 0.3, "seconds": 0.0}
    assert len(Report(**whole).table()) == 4
    with pytest.raises(ValueError, match=r"A report of \d images needs maps, masks and unknown \(\d, H, W\)"):
        Report(**whole | {name: make(parts) for name, make in change.items()})


@pytest.mark.parametrize("limit", [0, 1.5, math.nan, "0.3"])
def test_a_report_needs_a_limit_of_the_fpr(parts, limit):
    with pytest.raises(ValueError, match=r"fpr_limit must be a number in \(0, 1\]"):
        Report(parts["test"], parts["maps"], parts["scores"], parts["masks"], limit, 0.0)


def fits(images, **options):
    """Train a model on images, and fill a memory bank from them."""
    fit(ReverseDistillation("resnet18", "random"), images, 1, **{"progress": False} | options)
    MemoryBank("resnet18", "random", size=10).fit(images, progress=False)


def test_training_on_images_labelled_defective_is_warned_about(parts):
    train, test = parts["train"], parts["test"]
    for images, bad, n in [(test, 2, 4), (Subset(test, [0, 2]), 1, 2), (ConcatDataset([train, test]), 2, 8)]:
        with pytest.warns(UserWarning, match=f"^{bad} of the {n} training images are labelled defective.") as said:
            fits(images)
        assert len(said) == 2 and all(warning.filename == __file__ for warning in said)
        assert str(said[0].message).endswith("train on good images only, such as data.train.")
    with warnings.catch_warnings(action="error"):
        fits(train)
        fits(Subset(test, [0, 1]))
        fits([item.image for item in train])


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_training_images_that_are_not_finite_are_named(value, cache):
    for bad in ([0], [3], [2, 4]):
        images = [torch.rand(3, 32, 32) for _ in range(6)]
        for index in bad:
            images[index][1, 2, 3] = value
        words = "|".join(map(str, bad)) if not cache else ", ".join(map(str, bad))
        message = f"hold NaN or infinity: those at the indices .*({words})[ ,].* Leave"
        with pytest.raises(ValueError, match=message):
            fit(ReverseDistillation("resnet18", "random"), images, 1, cache=cache, progress=False)
        with pytest.raises(ValueError, match=message):
            MemoryBank("resnet18", "random").fit(images, progress=False)
