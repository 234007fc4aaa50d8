"""The reproduction engine: what a run is filed under, that nothing is lost or done twice, and what a table says."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from rdlib import evaluate, load_dataset
from rdlib.cli import main as run_cli
from rdlib.evaluation.bootstrap import METRICS
from rdlib.reproduction import (
    BENCHMARKS,
    TABLES,
    Machine,
    Results,
    ResultStore,
    Row,
    RunConfig,
    beside_published,
    execute,
    grid,
    load_results,
    run_all,
    swings,
    text_table,
    write_report,
)
from rdlib.reproduction.again import SAME, repeat
from rdlib.reproduction.judging import evaluate_all
from rdlib.reproduction.record import KEYS, LATER, RESAMPLES
from rdlib.reproduction.runs import build, load
from rdlib.utils.errors import DataError, NotFiniteError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight good stripes to train on; six good and six spotted ones to test, with masks."""
    root, draw = tmp_path_factory.mktemp("stripes"), np.random.default_rng(0)
    for part, count in (("train/good", 8), ("test/good", 6), ("test/spot", 6)):
        for i in range(count):
            image = 120 + 40 * np.sin(np.arange(64) / 3 + draw.uniform(0, 6)) + draw.normal(0, 3, (64, 64))
            mask = np.zeros((64, 64), np.uint8)
            if part == "test/spot":
                y, x = draw.integers(8, 40, 2)
                mask[y:y + 14, x:x + 14] = 255
                image[mask > 0] = 220
                path = root / "ground_truth/spot" / f"{i}_mask.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(path)
            path = root / part / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).convert("RGB").save(path)
    return root


@pytest.fixture
def config(folder):
    """A run of a second or so."""
    return RunConfig(f"folder:{folder}", size=64, backbone="resnet18", weights="embedded", epochs=2, batch_size=4,
                     sigma=1)


def reproduce(arguments):
    """The exit status of `python -m rdlib reproduce`."""
    return run_cli(["reproduce", *map(str, arguments)])


def same(a, b):
    """Whether two results are equal in everything that is not about time, place or memory."""
    kept = ("config", "metrics", "per_defect", "scored_by", "bootstrap", "curve", "losses", *LATER)
    return json.dumps({k: a[k] for k in kept}) == json.dumps({k: b[k] for k in kept})


def test_the_key_is_the_configuration(config):
    config = replace(config, method="forward")  # the only one with `blocks`
    changed = {"dataset": "mvtec/bottle", "method": "memory", "backbone": "resnet50", "weights": "imagenet",
               "weights_id": "0" * 12, "bottleneck": "oce", "loss": "positional", "train_scales": (1,),
               "schedule": "cosine", "score": "sum", "precision": "bf16", "normalize": False, "n_train": 3, "ema": 0.5,
               "curve_every": 1, "lr": 0.1, "sigma": 2.0, "size": 96, "blocks": (2, 3, 2)}
    keys = {config.key}
    for name, value in asdict(config).items():
        other = changed.get(name, value + 1 if isinstance(value, int) else None)
        keys.add(replace(config, **{name: other}).key)
    assert len(keys) == 1 + len(asdict(config))
    assert RunConfig(**json.loads(json.dumps(asdict(config)))) == config and replace(config).key == config.key
    assert "/" not in config.key and ":" not in config.key


def test_a_result_holds_what_it_is_asked_for_and_equals_fit_and_evaluate(config, tmp_path):
    store = ResultStore(tmp_path)
    outcome = run_all([config, replace(config)], store, progress=False)
    assert outcome.done == [config] and not outcome.failed
    found = store.read(config)
    assert {*KEYS, *LATER, "float32"} == set(found) and RunConfig(**found["config"]) == config
    assert found["peak_memory_mb"] > 50 and found["seconds"] > 0 and found["versions"]["torch"]
    assert found["per_defect"]["spot"]["images"] == 6

    from rdlib import fit
    model, data = build(config, Machine()), load(config, Machine())
    fit(model, data.train, 2, batch_size=4, progress=False)
    report = evaluate(model, data.test, progress=False)
    assert found["metrics"] == report.metrics
    assert found["scored_by"]["123"] == {name: found["metrics"][name] for name in found["scored_by"]["123"]}
    assert set(found["scored_by"]) == {"1", "2", "3", "12", "13", "23", "123", "123 multiply", "123 unsmoothed",
                                       "123 sum"}
    truth, scores = zip(*((kind != "good", score) for kind, scores in found["scores"].items() for score in scores),
                        strict=True)
    assert roc_auc_score(truth, scores) == pytest.approx(found["metrics"]["image_auroc"], abs=1e-12)
    assert [*np.float32(found["scores"]["good"]), *np.float32(found["scores"]["spot"])] == report.scores.tolist()
    assert found["curve"] == found["averaged_curve"] == found["measures"] == {}
    model.config.fusion = "multiply"
    assert found["scored_by"]["123 multiply"]["pixel_auroc"] == evaluate(model, data.test, progress=False).pixel_auroc


def test_what_is_there_is_not_run_again(config, tmp_path):
    store, other = ResultStore(tmp_path), replace(config, seed=1)
    run_all([config], store, progress=False)
    before = store.path(config).stat().st_mtime_ns
    outcome = run_all([config, other], store, progress=False)
    assert outcome.skipped == [config] and outcome.done == [other]
    assert store.path(config).stat().st_mtime_ns == before
    store.path(config).write_text(store.path(config).read_text()[:100])  # damaged: done again
    assert run_all([config, other], store, progress=False).done == [config]


def test_a_run_of_another_file_of_its_teacher_is_refused(config, tmp_path):
    file = tmp_path / "teacher.pth"
    torch.save(build(config, Machine()).teacher.state_dict(), file)
    for run, machine in ((replace(config, weights_id="0" * 12), Machine()),
                         (config, Machine(weights={config.weights: str(file)}))):
        with pytest.raises(ValueError, match=r"The run is of the teacher's file .*, but would get \w{12}"):
            execute(run, machine)


def test_a_failed_run_says_why_and_the_others_go_on(config, tmp_path):
    store, bad = ResultStore(tmp_path), replace(config, dataset="folder:/nowhere")
    outcome = run_all([bad, config], store, progress=False)
    assert outcome.done == [config] and list(outcome.failed) == [bad]
    assert "There is no folder /nowhere" in store.error_path(bad).read_text()
    assert run_all([bad, config], store, progress=False).skipped == [config]  # the failed one is tried again
    store.write(bad, store.read(config))
    assert not store.error_path(bad).exists()


@pytest.mark.slow
def test_order_and_processes_do_not_matter(config, tmp_path):
    configs = [replace(config, seed=seed) for seed in (0, 1)] + [replace(config, method="memory")]
    serial, turned, parallel = (ResultStore(tmp_path / name) for name in ("serial", "turned", "parallel"))
    assert not run_all(configs, serial, progress=False).failed
    assert not run_all(configs[::-1], turned, progress=False).failed
    assert not run_all(configs, parallel, jobs=2, progress=False).failed
    for c in configs:
        assert same(serial.read(c), turned.read(c)) and same(serial.read(c), parallel.read(c))


LONG = """
import json, sys
from dataclasses import replace
from rdlib.reproduction import Machine, ResultStore, RunConfig, run_all
config = RunConfig(sys.argv[1], size=64, backbone="resnet18", weights="embedded", epochs=int(sys.argv[3]), batch_size=4,
                   sigma=1, **json.loads(sys.argv[5]))
run_all([replace(config, seed=seed) for seed in range(4)], ResultStore(sys.argv[2]), Machine(checkpoints=sys.argv[4]),
        progress=False)
"""


def killed_as_soon_as(condition, *arguments):
    """Run LONG in a process of its own, and kill it when the condition holds."""
    process = subprocess.Popen([sys.executable, "-c", LONG, *map(str, arguments)])
    deadline = time.monotonic() + 120
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_a_run_killed_in_training_goes_on_from_its_checkpoint(config, tmp_path):
    options = {"ema": 0.9, "curve_every": 3}
    config, checkpoints = replace(config, epochs=18, **options), tmp_path / "checkpoints"
    store, machine = ResultStore(tmp_path / "runs"), Machine(checkpoints=str(checkpoints))
    kept = checkpoints / f"{config.key}.ckpt"
    killed_as_soon_as(kept.exists, config.dataset, store.folder, 18, checkpoints, json.dumps(options))
    assert kept.exists() and not store.read(config)
    assert run_all([config], store, machine, progress=False).done == [config]
    assert same(store.read(config), execute(config)) and not kept.exists()


@pytest.mark.slow
def test_kill_9_loses_no_finished_run(config, tmp_path):
    store = ResultStore(tmp_path)
    configs = [replace(config, seed=seed) for seed in range(4)]
    killed_as_soon_as(lambda: store.read(configs[0]), config.dataset, tmp_path, 2, tmp_path / "checkpoints", "{}")
    there = [c for c in configs if store.read(c)]
    assert there and len(there) < 4
    outcome = run_all(configs, store, progress=False)
    assert outcome.skipped == there and len(outcome.done) == 4 - len(there)
    assert {path.suffix for path in tmp_path.glob("[!.]*") if path.is_file()} == {".json"}


def test_a_killed_worker_ends_the_call_and_finished_runs_are_kept(config, tmp_path):
    store, endless = ResultStore(tmp_path), replace(config, epochs=100_000)

    def kill_workers():
        while not store.read(config):
            time.sleep(0.05)
        for child in psutil.Process().children():
            if "LokyProcess" in " ".join(child.cmdline()):
                os.kill(child.pid, signal.SIGKILL)
    threading.Thread(target=kill_workers, daemon=True).start()
    with pytest.raises(ChildProcessError, match="Start the same command again"):
        run_all([config, endless], store, progress=False, jobs=2)
    assert run_all([config], store, progress=False).skipped == [config]


INTERRUPTED = """
import sys
from dataclasses import replace
from rdlib.reproduction import Machine, ResultStore, RunConfig, run_all
config = RunConfig(sys.argv[1], size=64, backbone="resnet18", weights="embedded", batch_size=4, sigma=1)
run_all([replace(config, epochs=epochs) for epochs in (1, 100_000)], ResultStore(sys.argv[2]),
        Machine(checkpoints=sys.argv[2]), jobs=int(sys.argv[3]), progress=False)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_interrupted_grid_records_nothing_for_the_interrupted_run(config, tmp_path, jobs):
    """Ctrl-C in a terminal reaches the process and its workers."""
    store, short, endless = ResultStore(tmp_path), replace(config, epochs=1), replace(config, epochs=100_000)
    kept = tmp_path / f"{endless.key}.ckpt"
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED, config.dataset, str(tmp_path), str(jobs)],
                               start_new_session=True, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (kept.exists() and store.read(short)) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (f"\nKeyboardInterrupt: 1 of 2 runs are stored in {tmp_path}. Start the same command again to go on.\n"
            in err), err
    assert store.read(short) and not store.read(endless) and kept.exists()
    assert {path.suffix for path in tmp_path.iterdir() if not path.name.startswith(".")} == {".json", ".ckpt"}


def test_the_command_says_how_to_go_on_after_ctrl_c(tmp_path, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt("of the run")

    monkeypatch.setattr("rdlib.reproduction.runs.execute", stop)
    assert run_cli(["reproduce", "main", "--category", "weave", "--seeds", "0", "--quiet", "--results", str(tmp_path),
                    "--tables", str(tmp_path)]) == 130
    err = capsys.readouterr().err
    assert re.fullmatch(rf"Stopped\. 0 of \d+ runs are stored in {re.escape(str(tmp_path))}\. Start the same command "
                        r"again to go on\.", err.splitlines()[-1])
    assert not list(tmp_path.glob("*.json")) + list(tmp_path.glob("*.txt"))


def filed(store, config, image, pixel, resampled):
    """A made-up result: metrics and what resampling gave, in units of 1e-4."""
    values = {"image_auroc": image, "pixel_auroc": pixel, "aupro": np.nan, "aupro_per_image": 0.5}
    resampled = np.linspace(*resampled, RESAMPLES).tolist()
    store.write(config, {"config": asdict(config), "metrics": values, "per_defect": {}, "scored_by": {"123": values},
                         "curve": {}, "losses": [],
                         "bootstrap": {"123": {"image_auroc": resampled}}, "versions": {"torch": "2"},
                         "hardware": "CPU", "seconds": 60.0, "peak_memory_mb": 100, "revision": "abc",
                         "date": "2026-01-01"})


def results_of(table, benchmark, store, categories=None, seeds=None):
    """The results in the store, of a table that need not be one of the kit's."""
    points = grid(table, benchmark, categories, seeds)
    return Results(table, benchmark, points, store.read_all())


def test_a_table_is_the_arithmetic_of_its_runs(tmp_path):
    store, table = ResultStore(tmp_path), replace(TABLES["readout"], rows=(Row("default"),))
    wanted = grid(table, BENCHMARKS["synthetic"], ["weave", "gear"], (0, 1))
    for point, value in zip(wanted, (0.8, 0.9, 0.6, 0.8), strict=True):
        filed(store, point.config, value, 0.7, [round(1e4 * value) - 100, round(1e4 * value) + 100])
    results = results_of(table, BENCHMARKS["synthetic"], store, ["weave", "gear"], (0, 1))
    frame = results.measured().set_index(["category", "metric"])
    weave, mean = frame.loc[("weave", "image_auroc")], frame.loc[("mean", "image_auroc")]
    assert weave["mean"] == pytest.approx(0.85) and weave["std"] == pytest.approx(0.1 / np.sqrt(2))
    assert (weave["low"], weave["high"]) == pytest.approx((0.85 - 0.01 * 0.95, 0.85 + 0.01 * 0.95))
    assert mean["mean"] == pytest.approx((0.7 + 0.85) / 2)  # by seed, (0.8 + 0.6) / 2 and (0.9 + 0.8) / 2
    assert mean["std"] == pytest.approx(0.15 / np.sqrt(2))
    assert np.isnan(frame.loc[("weave", "aupro"), "mean"]) and frame.loc[("weave", "aupro"), "seeds"] == 0
    assert "0.850 ± 0.071 [0.841, 0.859]" in text_table(results.measured(), "image_auroc").loc["default", "weave"]
    store.path(wanted[-1].config).unlink()
    partial = results_of(table, BENCHMARKS["synthetic"], store, ["weave", "gear"], (0, 1)).measured()
    assert partial.query("category == 'mean'")["mean"].isna().all() and "mean" not in text_table(partial, "image_auroc")
    assert "(1 of 2 seeds)" in text_table(partial, "image_auroc").loc["default", "gear"]


def test_published_numbers_stand_beside_and_are_never_guessed(tmp_path):
    store, table, benchmark = ResultStore(tmp_path), TABLES["main"], BENCHMARKS["mvtec"]
    for point in grid(table, benchmark, ["carpet", "grid"]):
        filed(store, point.config, 0.95, 0.97, [9400, 9600])
    results = results_of(table, benchmark, store, ["carpet", "grid"])
    frame = beside_published(results).set_index(["row", "category", "metric"])
    assert np.isnan(frame.loc[("WRN-50-2", "mean", "image_auroc"), "paper"]), "of two categories, not fifteen"
    carpet = frame.loc[("WRN-50-2", "carpet", "image_auroc")]
    assert carpet["paper"] == pytest.approx(0.989) and carpet["difference"] == pytest.approx(0.95 - 0.989)
    assert frame.loc[("WRN-50-2", "carpet", "aupro_per_image"), "paper"] == pytest.approx(0.97)
    assert frame.loc["ResNet-18"][["paper", "rerun", "difference"]].isna().all(axis=None)
    text = write_report(results, tmp_path / "tables").read_text(encoding="utf-8")
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {"main-mvtec.md", "main-mvtec.csv"}
    assert "paper 0.989 (-0.039); official code 0.986" in text and "2026-01-01" in text
    assert len(pd.read_csv(tmp_path / "tables/main-mvtec.csv")) == (frame["seeds"] > 0).sum()


def test_published_numbers_stand_beside_what_was_not_run(tmp_path):
    store = ResultStore(tmp_path)
    filed(store, grid(TABLES["main"], BENCHMARKS["mvtec"], ["cable"])[0].config, 0.96, 0.97, [9400, 9600])
    results = load_results("main", "mvtec", folder=tmp_path)
    frame = beside_published(results).query("row == 'WRN-50-2' and metric == 'image_auroc'").set_index("category")
    assert len(frame) == 16 and frame.loc["mean", "paper"] == pytest.approx(0.985)
    assert frame.loc["mean", "rerun"] == pytest.approx(0.9869) and np.isnan(frame.loc["mean", "mean"])
    assert frame.loc["cable", ["mean", "difference"]].tolist() == pytest.approx([0.96, 0.01])
    assert frame["seeds"].tolist() == [int(name == "cable") for name in frame.index]


@pytest.mark.parametrize("table, dataset, row, paper", [
    ("main", "mvtec", "WRN-50-2", 0.985), ("novelty", "cifar10", "sum of the map", 0.865),
    ("novelty", "fashion_mnist", "sum of the map", 0.950)])
def test_the_papers_means_stand_beside_whole_tables(table, dataset, row, paper, tmp_path):
    frame = beside_published(load_results(table, dataset, folder=tmp_path)).set_index(["row", "category", "metric"])
    assert frame.loc[(row, "mean", "image_auroc"), "paper"] == pytest.approx(paper)


def test_rows_without_a_teacher_are_left_out_and_named(tmp_path, capsys):
    words = ["--list", "--results", str(tmp_path)]
    assert reproduce(["teacher", "--on", "mvtec", *words]) == 0
    shown = capsys.readouterr()
    assert "procedural images (embedded)" in shown.err and "embedded" not in shown.out
    assert reproduce(["main", *words]) == 0
    assert "WRN-50-2, ResNet-50" in (shown := capsys.readouterr()).err and "resnet18" in shown.out
    assert reproduce(["main", "--backbone", "resnet50", "--on", "digits", "--category", "3", *words]) == 0
    assert reproduce(["novelty", "--on", "digits", "--backbone", "resnet50", *words]) == 1
    assert "--teacher imagenet" in capsys.readouterr().err


def test_a_report_needs_no_teachers_file(tmp_path, capsys):
    store, (point, _) = ResultStore(tmp_path), grid(TABLES["novelty"], BENCHMARKS["mnist"], ["3"])
    filed(store, replace(point.config, weights_id="0" * 12), 0.87, np.nan, [8600, 8800])
    words = ["novelty", "--on", "mnist", "--category", "3", "--results", str(tmp_path), "--tables", str(tmp_path / "t")]
    assert reproduce([*words, "--report"]) == 0 and "0.870" in capsys.readouterr().out
    assert reproduce([*words, "--list"]) == 0 and "missing" not in capsys.readouterr().out
    (tmp_path / "other.pt").write_bytes(b"another file")
    assert reproduce([*words, "--list", "--weights", f"imagenet={tmp_path / 'other.pt'}"]) == 0
    assert "missing" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "family", "seeds", "epochs"), [
    ("screw", "mvtec", 3, 50), ("magnetic_tile_5", "magnetic_tile", 5, 10),
    ("magnetic_tile_30", "magnetic_tile", 3, 30)])
def test_a_benchmark_of_another_name_reads_the_data_of_its_family(name, family, seeds, epochs, tmp_path, capsys):
    points = grid(TABLES["loss"], BENCHMARKS[name])
    assert {point.config.dataset for point in points} == {"mvtec/screw" if name == "screw" else family}
    assert [point.config.seed for point in points] == 2 * list(range(seeds))
    assert {point.config.epochs for point in points} == {epochs}
    filed(ResultStore(tmp_path / "runs"), points[0].config, 0.9, 0.8, [8900, 9100])
    words = ["loss", "--on", name, "--report", "--results", tmp_path / "runs", "--tables", tmp_path / "tables",
             "--root"]
    assert reproduce([*words, f"{family}={tmp_path}"]) == 0
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {f"loss-{name}.{end}" for end in ("md", "csv")}
    capsys.readouterr()
    assert reproduce([*words, f"{name}_x={tmp_path}"]) == 1
    assert f"Choose one of: {family}." in capsys.readouterr().err


def test_a_benchmark_of_one_category_stands_beside_its_published_number(tmp_path):
    frame = beside_published(load_results("main", "screw", folder=tmp_path)).set_index(["row", "metric"])
    assert frame.loc[("WRN-50-2", "image_auroc"), ["paper", "rerun"]].tolist() == pytest.approx([0.970, 0.989])
    assert frame.loc["ResNet-18"]["paper"].isna().all() and set(frame["category"]) == {"screw"}


def test_the_images_table_has_the_same_steps_in_every_row():
    points = [point for point in grid(TABLES["images"], BENCHMARKS["magnetic_tile"]) if point.config.seed == 0]
    assert [int(point.row.label) if point.row.label != "all" else None for point in points] == [
        point.config.n_train for point in points]
    for config in (point.config for point in points):
        steps = -(-min(config.n_train or 761, 761) // config.batch_size)
        assert config.epochs == -(-600 // steps), config.label


def test_the_direction_table_has_a_forward_student_of_the_reverse_ones_size(config):
    sizes = {}
    for point in grid(TABLES["direction"], BENCHMARKS["magnetic_tile"]):
        run = point.config
        if point.config.seed == 0:
            model = build(replace(config, method=run.method, blocks=run.blocks, backbone=run.backbone), Machine())
            size = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
            sizes[point.row.label.partition(",")[0], run.loss] = size
    assert len(sizes) == 6 and len(set(sizes.values())) == 3
    for loss in ("flattened", "positional"):
        reverse, forward, equal = (sizes[name, loss] for name in ("reverse", "forward", "forward of equal size"))
        assert abs(equal / reverse - 1) < 0.02 and forward < reverse / 2


@pytest.mark.parametrize("benchmark", ["mvtec", "screw", "magnetic_tile_30"])
def test_the_protocol_table_is_what_its_labels_say(benchmark):
    points = grid(TABLES["protocol"], BENCHMARKS[benchmark])
    for point in points:
        label = point.row.label
        assert point.config.precision == {"bfloat16": "bf16", "float32": "float32"}[label.partition(",")[0]]
        assert point.config.epochs == (100 if "100" in label else BENCHMARKS[benchmark].base.epochs)
        assert point.row.scored_by == ("123 averaged" if "averaged" in label else "123") and point.config.ema == 0.99
    assert len({point.config for point in points}) == len(points) * 3 // 5, "raw and averaged rows share their runs"


def test_an_averaged_row_has_the_averaged_curve(config, tmp_path):
    store, rows = ResultStore(tmp_path), (Row("raw"), Row("averaged", scored_by="123 averaged"))
    table = replace(TABLES["stability"], rows=rows)
    for point in grid(table, BENCHMARKS["synthetic"], ["weave"], [0]):
        filed(store, point.config, 0.5, 0.5, [1, 2])
        curves = {name: {"1": dict.fromkeys(METRICS, value)} for name, value in (("curve", 0.2),
                                                                                 ("averaged_curve", 0.3))}
        store.write(point.config, store.read(point.config) | curves)
    frame = results_of(table, BENCHMARKS["synthetic"], store, ["weave"], [0]).curves().set_index("row")
    assert frame["aupro"].to_dict() == {"raw": 0.2, "averaged": 0.3}


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_its_runs_on_every_benchmark(name):
    for benchmark in BENCHMARKS.values():
        points = grid(TABLES[name], benchmark)
        assert len({(point.row.label, point.category, point.config.seed) for point in points}) == len(points)
        assert all(point.config.dataset.startswith(benchmark.base.dataset) for point in points)


def test_the_papers_protocol_is_the_default():
    points = grid(TABLES["main"], BENCHMARKS["mvtec"])
    base = points[0].config
    assert (base.size, base.epochs, base.batch_size, base.lr, base.loss, base.sigma, base.schedule, base.ema) == (
        256, 200, 16, 0.005, "flattened", 4.0, "constant", None)
    assert base.backbone == "wide_resnet50_2" and base.weights == "imagenet" and base.dataset == "mvtec/carpet"
    assert len(points) == 3 * 15


def test_the_command_runs_reports_and_exits_by_what_failed(tmp_path, capsys):
    words = ["readout", "--category", "weave", "--seeds", "0", "--epochs", "1", "--size", "64", "--n-train", "8",
             "--precision", "float32", "--results", str(tmp_path / "runs"), "--tables", str(tmp_path / "tables"),
             "--device", "cpu"]
    assert reproduce(words) == 0
    shown = capsys.readouterr()
    assert "maps multiplied" in shown.out and "image AUROC" in shown.err
    assert reproduce([*words, "--list"]) == 0 and "missing" not in capsys.readouterr().out
    assert reproduce(["main", "--on", "mvtec", "--category", "carpet", "--root", f"mvtec={tmp_path}", *words[3:]]) == 1
    assert "MVTec AD is not at" in capsys.readouterr().err
    assert reproduce(["readout", "--category", "cloud"]) == 1


def test_executing_twice_gives_the_same_bits(config):
    first, second = (execute(replace(config, ema=0.9, schedule="cosine", curve_every=1)) for _ in range(2))
    assert same(first, second)


def test_metrics_by_epoch_are_stored_and_end_with_those_of_the_run(config):
    found = execute(replace(config, curve_every=1))
    assert list(found["curve"]) == ["1", "2"] and found["curve"]["1"] != found["curve"]["2"]
    assert found["curve"]["2"] == {name: found["metrics"][name] for name in METRICS}
    assert not found["averaged_curve"] and "123 averaged" not in found["scored_by"]


def test_an_average_is_recorded_beside_the_weights_and_changes_nothing_of_theirs(config):
    from rdlib import fit
    plain, found = (execute(replace(config, ema=ema, curve_every=1)) for ema in (None, 0.9))
    averaged = found["scored_by"].pop("123 averaged")
    found["bootstrap"].pop("123 averaged")
    for name in ("metrics", "per_defect", "scored_by", "bootstrap", "scores", "curve", "losses"):
        assert json.dumps(plain[name]) == json.dumps(found[name]), name
    assert list(found["averaged_curve"]) == ["1", "2"] and found["averaged_curve"]["2"] == averaged
    assert averaged != found["curve"]["2"]
    model, data = build(config, Machine()), load(config, Machine())
    fit(model, data.train, 2, batch_size=4, ema=0.9, progress=False)
    report = evaluate(model, data.test, progress=False)
    assert averaged == {name: getattr(report, name) for name in METRICS}


def test_fingerprints_tell_other_images(config, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    run, other = replace(config, method="memory"), replace(config, method="memory", dataset=f"folder:{copy}")
    first = execute(run)["data"]
    assert execute(other)["data"] == first and set(first) == {"train", "test", "masks"}
    assert first["train"] != first["test"]
    Image.open(copy / "test/good/0.png").rotate(90).save(copy / "test/good/0.png")
    second = execute(other)["data"]
    assert second["train"] == first["train"] and second["masks"] == first["masks"] and second["test"] != first["test"]
    mask = next((copy / "ground_truth").rglob("*.png"))
    Image.open(mask).rotate(90).save(mask)
    third = execute(other)["data"]
    assert third | {"masks": 0} == second | {"masks": 0} and third["masks"] != second["masks"]


def test_early_records_without_the_later_parts_are_read(config, tmp_path):
    store = ResultStore(tmp_path)
    filed(store, config, 0.9, 0.8, [9000, 9100])
    assert not LATER.keys() & store.read(config).keys() and store.read(config)["metrics"]["image_auroc"] == 0.9


def test_blocks_belong_to_a_forward_student(config):
    assert RunConfig("digits/0", method="forward", blocks=[2, 3, 2]).blocks == (2, 3, 2)
    for method in ("reverse", "memory"):
        with pytest.raises(ValueError, match=f"no method with blocks '{method}'. Choose one of: forward"):
            RunConfig("digits/0", method=method, blocks=(2, 3, 2))
    for blocks in ((2, 2), (0, 2, 2), "222"):
        with pytest.raises(ValueError, match="blocks must be"):
            RunConfig("digits/0", method="forward", blocks=blocks)
    sizes = [build(replace(config, method="forward", blocks=blocks), Machine()).student.layer3 for blocks in
             (None, (2, 2, 3))]
    assert [len(each) for each in sizes] == [2, 3]


def test_a_recorded_run_is_repeated_and_agrees_with_itself(config, tmp_path, capsys):
    store = ResultStore(tmp_path)
    store.write(config, record := json.loads(json.dumps(execute(config))))
    assert record["command"] == f"rdlib reproduce {config.key}.json --device cpu"
    words = [*record["command"].split()[2:], "--results", tmp_path]
    assert reproduce(words) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown[1:]] == [*METRICS] and all(line.endswith("True") for line in shown[1:])
    store.write(config, record | {"metrics": record["metrics"] | {"aupro": record["metrics"]["aupro"] - 1e-4}})
    assert reproduce(words) == 1 and "False" in capsys.readouterr().out.splitlines()[3]
    store.write(config, record | {"data": record["data"] | {"test": "0" * 64}})
    assert reproduce(words) == 1 and "other ones than those of the record" in capsys.readouterr().err
    assert reproduce([tmp_path / "none.json"]) == 1 and "no result file of a run" in capsys.readouterr().err


def test_other_hardware_may_differ_by_three_standard_deviations_over_seeds(config, tmp_path, monkeypatch, capsys):
    store, values = ResultStore(tmp_path), (0.80, 0.82, 0.87)
    for seed, value in enumerate(values):
        filed(store, replace(config, seed=seed), value, 0.7, [8000, 8100])
    filed(store, replace(config, epochs=3), 0.1, 0.1, [1000, 1100])  # other settings
    again = store.read(config) | {"hardware": "another CPU", "data": {}}

    def repeated(value):
        metrics = again["metrics"] | {"image_auroc": value}
        monkeypatch.setattr("rdlib.reproduction.again.execute", lambda *_: again | {"metrics": metrics})
        return reproduce([store.path(config), "--device", "cpu"])
    limit = 3 * np.std(values, ddof=1)
    assert repeated(0.80 + limit - 1e-6) == 0 and repeated(0.80 - limit + 1e-6) == 0
    assert repeated(0.80 + limit + 1e-6) == 1 and "aupro" not in capsys.readouterr().out, "undefined in both"
    assert repeat(store.path(config), Machine())["allowed"].tolist() == pytest.approx([limit, SAME])
    assert repeated(np.nan) == 1, "the metric is undefined here"
    store.path(replace(config, seed=2)).unlink()
    capsys.readouterr()
    assert repeated(0.80) == 1 and "fewer than three seeds" in capsys.readouterr().err
    again["hardware"] = "CPU"  # that of the record
    assert repeated(0.80) == 0 and repeated(0.80 + 2e-6) == 1 and not capsys.readouterr().err


def test_a_run_gives_torchs_threads_back(config):
    before = torch.get_num_threads()
    try:
        for threads in (3, 1):
            torch.set_num_threads(threads)
            execute(replace(config, method="memory", threads=2))
            assert torch.get_num_threads() == threads
            with pytest.raises(DataError):
                execute(replace(config, dataset="folder:/none", threads=2))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_a_diverged_run_has_no_result(config):
    model, data = build(config, Machine()), load(config, Machine())
    torch.nn.init.constant_(next(model.student.parameters()), np.nan)
    with pytest.raises(NotFiniteError):
        evaluate_all(model, data.test)


def test_data_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DataError, match="MVTec AD is not at"):
        load_dataset("mvtec/carpet", root=tmp_path)


def test_a_swing_is_the_mean_step_of_the_last_half(tmp_path):
    store, table = ResultStore(tmp_path), replace(TABLES["stability"], rows=(Row("default"),))
    wanted = grid(table, BENCHMARKS["synthetic"], ["weave"], (0, 1))
    for point, curve in zip(wanted, ([0.1, 0.9, 0.8, 0.9, 0.7, 0.8], [0.1, 0.9, 0.8, 0.8, 0.8, 0.8]), strict=True):
        filed(store, point.config, curve[-1], 0.7, [1, 2])
        found = store.read(point.config)
        by_epoch = {str(epoch): dict.fromkeys(METRICS, value) for epoch, value in enumerate(curve, 1)}
        store.write(point.config, found | {"curve": by_epoch})
    results = results_of(table, BENCHMARKS["synthetic"], store, ["weave"], (0, 1))
    frame = results.curves().assign(value=lambda curves: curves["image_auroc"])
    assert len(frame) == 12 and set(frame["epoch"]) == set(range(1, 7))
    line = swings(frame).loc["default"]
    assert (line["last epoch"], line["best of last half"], line["worst of last half"]) == (
        "0.800 ± 0.000", "0.850 ± 0.071", "0.750 ± 0.071")
    assert line["swing"] == "0.075 ± 0.106"  # 0.15 with the one seed, nothing with the other
    assert swings(frame[frame["seed"] == 1]).loc["default", "swing"] == "0.000"
    assert "0.075" in write_report(results, tmp_path / "tables").read_text(encoding="utf-8")
    by_epoch = pd.read_csv(tmp_path / "tables/stability-synthetic-epochs.csv")
    assert len(by_epoch) == 12 and by_epoch.query("seed == 0 and epoch == 5")["aupro"].item() == 0.7
