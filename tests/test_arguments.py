"""Every argument of the public functions is checked before any work, in words that name it."""
import json
import math
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

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
from rdlib.reproduction.store import KEYS, RESAMPLES
from rdlib.synthetic import render, scene_list
from rdlib.synthetic.export import export
from rdlib.threshold import images_needed, rate_bound
from rdlib.training import MovingAverage, epoch_chunks
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
                 "scales sigma fusion score normalize seed"),
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
    ("reproduce ocbe --seeds -1", "seed must be a whole number from 0"),
    ("reproduce ocbe --on nope", "There is no benchmark 'nope'. Choose one of: mvtec, "),
    ("reproduce odd", "There is no table odd. Choose one of: main, ocbe, "),
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
