"""Comparisons of stored results, and tables that read without their colors."""
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from rdlib.reproduction import (
    BENCHMARKS,
    TABLES,
    Benchmark,
    GridPoint,
    Results,
    ResultStore,
    Row,
    RunConfig,
    Table,
    grid,
    load_results,
    styled,
    weights_id,
)
from rdlib.reproduction.record import KEYS, RESAMPLES
from rdlib.reproduction.results import METRICS, NOT_RUN
from rdlib.utils.errors import DataError


def file(store: ResultStore, config: RunConfig, value: float, resampled=(0.0, 0.0), scored_by: float | None = None):
    """Write a result of which every metric is `value`, resampled by so much more or less."""
    metrics = dict.fromkeys(METRICS, value)
    low, high = (1e4 * (value + delta) for delta in resampled)
    boot = dict.fromkeys(METRICS, np.linspace(low, high, RESAMPLES).tolist())
    other = value if scored_by is None else scored_by
    result = {name: {dict: {}, list: [], float: 1.0}.get(kind, "") for name, kind in KEYS.items()} | {
        "config": asdict(config), "metrics": metrics, "bootstrap": {"123": boot, "12": boot},
        "versions": {"torch": "2"}, "scored_by": {"123": metrics, "12": dict.fromkeys(METRICS, other)}}
    store.write(config, json.loads(json.dumps(result)))


@pytest.fixture
def store(tmp_path):
    return ResultStore(tmp_path)


def two_rows(categories=("a", "b"), seeds=(0, 1, 2)):
    rows = Row("usual"), Row("other", {"loss": "positional"})
    return [GridPoint(row, c, RunConfig(f"toy/{c}", seed=seed, **row.change)) for row in rows for c in categories
            for seed in seeds]


def third_row(points):
    row = Row("third", {"ema": 0.5})
    return [point._replace(row=row, config=replace(point.config, ema=0.5)) for point in points
            if point.row.label == "usual"]


def toy(points, store):
    """The points' results in the store."""
    categories = tuple(dict.fromkeys(point.category for point in points))
    return Results(Table("toy", "Toy", tuple(dict.fromkeys(point.row for point in points))),
                   Benchmark("toys", "Toys", "Toys", categories, RunConfig("toy")), points, store.read_all())


def test_a_run_is_found_with_any_file_of_its_teacher(store):
    wanted = [point.config for point in grid(TABLES["novelty"], BENCHMARKS["mnist"], ["3"])]

    def found():
        return [point.config for point in load_results("novelty", "mnist", ["3"], folder=store.folder).points]
    assert found() == wanted  # nothing is stored: nothing changes
    other = replace(wanted[0], weights_id="0123456789ab")
    file(store, other, 0.9)
    file(store, replace(other, epochs=9), 0.1)
    assert set(found()) == {other}
    file(store, wanted[0], 0.8)  # torchvision's own weights come first
    assert set(found()) == {wanted[0]}


def test_an_embedded_teacher_is_the_one_that_ships(store):
    config = grid(TABLES["novelty"], BENCHMARKS["digits"], ["3"])[0].config
    file(store, replace(config, weights_id="0123456789ab"), 0.9)
    results = load_results("novelty", "digits", ["3"], folder=store.folder)
    assert {config.weights_id for config in results.configs} == {weights_id("embedded")} and not results.stored


def test_results_are_found_from_the_kits_folder_and_from_the_one_below(tmp_path, monkeypatch):
    folder = tmp_path / "data/results/runs"
    config = grid(TABLES["readout"], BENCHMARKS["synthetic"], ["weave"], [0])[0].config
    file(ResultStore(folder), replace(config, weights_id=weights_id("embedded")), 0.9)
    (tmp_path / "notebooks").mkdir()
    for place, count in ((tmp_path, 1), (tmp_path / "notebooks", 1), (tmp_path / "data/results", 0)):
        monkeypatch.chdir(place)
        assert len(load_results("readout", "synthetic").stored) == count


def test_files_that_are_no_results_are_skipped(store):
    store.folder.mkdir(exist_ok=True)
    (store.folder / "broken.json").write_text("{")
    (store.folder / "other.json").write_text(json.dumps(dict.fromkeys(KEYS) | {"config": {"dataset": "x", "new": 1}}))
    file(store, RunConfig("toy/a"), 0.5)
    (store.folder / "copy.json").write_text(store.path(RunConfig("toy/a")).read_text())
    assert list(store.read_all()) == [RunConfig("toy/a")]


def test_an_effect_is_the_mean_of_paired_differences(store):
    rng = np.random.default_rng(0)
    values = {point.config: rng.uniform(0.4, 0.9) for point in two_rows()}
    for config, value in values.items():
        file(store, config, value, resampled=(-0.1, 0.1))
    frame = toy(two_rows(), store).effects("usual").set_index("row")
    table = pd.Series({(c.loss, c.dataset, c.seed): v for c, v in values.items()}).unstack(1).mean(axis=1).unstack(0)
    difference = table["positional"] - table["flattened"]
    assert frame.loc["other", "difference"] == pytest.approx(difference.mean())
    assert frame.loc["other", "std"] == pytest.approx(difference.std(ddof=1))
    assert frame.loc["usual", "value"] == pytest.approx(table["flattened"].mean())
    assert frame.loc["usual", "verdict"] == "reference" and frame.loc["other", "seeds"] == 3
    assert frame.loc["other", "p"] == pytest.approx(ttest_rel(table["positional"], table["flattened"]).pvalue)
    assert np.isnan(frame.loc["usual", "p"]) and frame.loc["other", "low"] < frame.loc["other", "high"]


@pytest.mark.parametrize("gains, p, verdict", [
    ((0.10, 0.11, 0.12), None, "better"), ((-0.10, -0.11, -0.12), None, "worse"),
    ((0.10, 0.00, 0.05), None, "no difference shown"), ((0.10, 0.11, 0.12, -0.1, 0.1), None, "no difference shown"),
    ((0.1, 0.1, 0.1), 0, "better"), ((-0.1, -0.1, -0.1), 0, "worse"), ((0, 0, 0), 1, "no difference shown"),
    ((0.10, 0.11), np.nan, "shown, no verdict"), ((-0.10,), np.nan, "shown, no verdict")])
@pytest.mark.parametrize("resampled", [(-0.2, 0.2), (0.01, 0.02)])
def test_a_verdict_is_that_of_a_paired_t_test_over_seeds(store, gains, p, verdict, resampled):
    """Where the interval over test images lies is shown, and decides nothing."""
    points = two_rows(["a"], range(len(gains)))
    usual = [0.3 + 0.1 * seed for seed in range(len(gains))]
    for point in points:
        other, seed = point.row.label == "other", point.config.seed
        file(store, point.config, usual[seed] + other * gains[seed], resampled if other else (0.0, 0.0))
    line = toy(points, store).effects("usual").iloc[1]
    expected = ttest_rel(np.add(usual, gains), usual).pvalue if p is None else p
    assert line["p"] == pytest.approx(expected, abs=1e-9, nan_ok=True) and line["verdict"] == verdict
    assert line["high"] - line["low"] == pytest.approx(0.95 * (resampled[1] - resampled[0]))


def test_a_seed_without_all_categories_does_not_count(store):
    points = two_rows()
    assert toy(points, store).effects("usual")["verdict"].tolist() == [NOT_RUN, NOT_RUN]
    for point in points:
        if (point.category, point.config.seed) != ("b", 2) or point.row.label == "usual":
            file(store, point.config, 0.5)
    results = toy(points, store)
    assert results.effects("usual")["seeds"].tolist() == [3, 2]
    assert results.complete().categories == ["a"]
    left = [point for point in points if point.category == "b" and point.config.seed == 2]
    assert toy(left, store).effects("usual")["verdict"].tolist() == ["reference", NOT_RUN]
    with pytest.raises(ValueError, match="usual, other"):
        results.effects("unheard of")


def test_categories_are_those_on_which_most_rows_are_finished(store):
    points = two_rows()
    assert toy(points, store).complete().points == points
    for point in points[:5]:  # the usual row: all of a, two seeds of b; the other row never
        file(store, point.config, 0.5)
    assert toy(points, store).complete().categories == ["a"]
    file(store, points[5].config, 0.5)  # the usual row has both
    file(store, points[6].config, 0.5)  # the other row is begun, and finished nowhere: it hides nothing
    results = toy(points, store)
    assert results.complete().points == points
    assert results.effects("usual")["verdict"].tolist() == ["reference", "1 of 6 runs so far"]
    more = points + third_row(points)
    for point in more:
        if point.category == "b":
            file(store, point.config, 0.5)
    assert toy(more, store).complete().categories == ["b"]


def test_a_row_without_its_reference_says_so(store):
    points = two_rows(["a"], [0])
    file(store, points[1].config, 0.5)
    assert toy(points, store).effects("usual")["verdict"].tolist() == [NOT_RUN, "its reference was not run"]


def test_an_effect_uses_the_rows_way_of_scoring(store):
    config = RunConfig("toy/a")
    file(store, config, 0.9, scored_by=0.6)
    points = [GridPoint(Row("usual"), "a", config), GridPoint(Row("two scales", scored_by="12"), "a", config)]
    assert toy(points, store).effects("usual")["difference"].iloc[1] == pytest.approx(-0.3)


FRAME = pd.DataFrame({"here": [0.98765, np.nan], "change": [-0.0124, np.nan], "note": ["so", NOT_RUN]}, ["one", "two"])


def test_a_table_says_in_words_what_its_colours_say():
    table = styled(FRAME, "A table", ["change"])
    page, text = table.to_html(), repr(table)
    for shown in ("A table", "0.988", "▼ −0.012", "so", "–"):
        assert shown in page and shown in text
    assert page.count(f">{NOT_RUN}<") == 2 and "#fadcc3" in page and "overflow-x: auto" in page
    assert "▲ +0.012" in repr(styled(-FRAME[["change"]], "A table", ["change"]))
    assert "= 0.000" in repr(styled(0.01 * FRAME[["change"]], "A table", ["change"]))
    with pytest.raises(ValueError, match="no column 'changes'"):
        styled(FRAME, "A table", ["changes"])


def test_lines_may_share_a_label():
    page = styled(FRAME.set_axis(["one", "one"]).rename_axis("who"), "A table", ["change"]).to_html()
    assert page.count(">one<") == 2 and ">who<" in page and "#fadcc3" in page


HOSTILE = "<img src=x onerror=alert(1)>"


def test_text_from_outside_is_escaped_in_html_and_plain_in_text():
    for value in (HOSTILE, Path(HOSTILE), DataError(HOSTILE)):
        frame = pd.DataFrame({HOSTILE: [0.5, np.nan], "text": ["a & b", value], "d": [0.1, -0.1]},
                             index=pd.Index([HOSTILE, "second"], name=HOSTILE)).rename_axis(columns=HOSTILE)
        for table in (frame, frame.set_axis([HOSTILE] * 2), frame.set_index([HOSTILE, "text"])):
            page = styled(table, HOSTILE, ["d"])
            assert "<img" not in page._repr_html_() + page.to_html() and "&lt;img src=x" in page._repr_html_()
            assert "&lt;" not in repr(page) and "&amp;" not in repr(page) and HOSTILE in repr(page)
    page = styled(frame, "Tom & Jerry", ["d"])
    assert "a & b" in repr(page) and "a &amp; b" in page.to_html() and "0.500" in page.to_html()
    assert NOT_RUN in page.to_html() and "▲ +0.100" in page.to_html()


def test_a_name_that_is_no_utf_8_has_a_table():
    assert "0.500" in repr(styled(pd.DataFrame({"a": [0.5]}, index=["caf\udce9"]), "A table"))


def test_a_page_is_the_same_every_time_and_two_tables_do_not_share_their_colours():
    one, other = (styled(FRAME, title, ["change"])._repr_html_() for title in ("one", "other"))
    assert one == styled(FRAME, "one", ["change"])._repr_html_() and " at 0x" not in repr(styled(FRAME, "one"))
    assert one.partition("T_")[2][:8] != other.partition("T_")[2][:8]


def test_a_comparison_has_every_row_run_or_not(store):
    points = two_rows(["a"])
    for point in points:
        file(store, point.config, 0.5 + 0.1 * (point.row.label == "other"))
    found = toy(points + third_row(points), store).effects("usual", "aupro").set_index("row")
    assert found.index.tolist() == ["usual", "other", "third"] and found["seeds"].tolist() == [3, 3, 0]
    assert found.loc["other", ["value", "difference"]].tolist() == pytest.approx([0.6, 0.1])
    assert found["verdict"].tolist() == ["reference", "better", NOT_RUN]
    table = repr(styled(found[["value", "difference", "verdict"]], "A table", ["difference"]))
    assert table.splitlines()[-1].split("  ") == ["third", NOT_RUN, "–", NOT_RUN]


def test_a_table_shows_results_of_one_file_of_a_teacher(store):
    """The one with the most runs, and a warning says so."""
    wanted = [point.config for point in grid(TABLES["main"], BENCHMARKS["synthetic"], ["weave"], weights="imagenet")]
    first, *others = sorted(set(wanted), key=lambda config: config.key)
    file(store, replace(first, weights_id="a" * 12), 0.9)
    for config in others:
        file(store, replace(config, weights_id="b" * 12), 0.5)
    with pytest.warns(UserWarning, match=r"several files of the teacher 'imagenet' are stored: .*Those with b{12} are"):
        results = load_results("main", "synthetic", ["weave"], folder=store.folder, weights="imagenet")
    assert {config.weights_id for config in results.configs} == {"b" * 12} and len(results.stored) == len(others)


def test_repeated_categories_and_seeds_count_once():
    points = grid(TABLES["main"], BENCHMARKS["synthetic"], ["weave", "weave", "gear"], [0, 1, 0])
    assert points == grid(TABLES["main"], BENCHMARKS["synthetic"], ["weave", "gear"], [0, 1])


@pytest.mark.parametrize(("options", "words"), [
    ({"seeds": 0}, "seeds must be"), ({"seed": 2}, "takes no seed= of runs"), ({"folder": 3}, "folder must be"),
    ({"loss": "nope"}, "no loss 'nope'"), ({"score": "mean"}, "no score 'mean'"), ({"files": ["a"]}, "files must be"),
    ({"schedule": "x"}, "no schedule 'x'"), ({"bottleneck": "x"}, "no bottleneck 'x'")])
def test_a_table_of_odd_settings_is_refused(options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        load_results("readout", "synthetic", **options)
