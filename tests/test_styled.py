"""Tables of results: what is on record, what a change is worth, how a table reads without its colours."""
import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from rdlib.reproduction import GROUNDS, TABLES, ResultStore, RunConfig, cells
from rdlib.reproduction.config import weights_id
from rdlib.reproduction.recorded import NOT_RUN, complete, effects, recorded
from rdlib.reproduction.store import KEYS
from rdlib.reproduction.styled import Styled, published_beside, styled, worth
from rdlib.reproduction.tables import Cell, Row

METRICS = ("image_auroc", "pixel_auroc", "aupro", "aupro_per_image")


def file(store: ResultStore, config: RunConfig, value: float, resampled=(0.0, 0.0), scored_by: float | None = None):
    """Write a result of which every metric is `value`, resampled by so much more or less."""
    metrics = dict.fromkeys(METRICS, value)
    boot = {name: [round(1e4 * (value + delta)) for delta in resampled] for name in METRICS}
    other = value if scored_by is None else scored_by
    result = dict.fromkeys(KEYS, "") | {
        "config": asdict(config), "metrics": metrics, "bootstrap": {"123": boot, "12": boot},
        "scored_by": {"123": metrics, "12": dict.fromkeys(METRICS, other)}}
    store.write(config, json.loads(json.dumps(result)))


@pytest.fixture
def store(tmp_path):
    return ResultStore(tmp_path)


def two_rows(categories=("a", "b"), seeds=(0, 1, 2)):
    rows = Row("usual"), Row("other", {"loss": "positional"})
    return [Cell(row, c, RunConfig(f"toy/{c}", seed=seed, **row.change)) for row in rows for c in categories
            for seed in seeds]


def test_a_run_is_found_whatever_file_its_teacher_came_from(store):
    wanted = cells(TABLES["novelty"], GROUNDS["mnist"], ["3"])
    assert recorded(wanted, store) == wanted  # nothing there: nothing changes
    other = replace(wanted[0].config, weights_id="0123456789ab")
    file(store, other, 0.9)
    file(store, replace(other, epochs=9), 0.1)
    assert {cell.config for cell in recorded(wanted, store)} == {other}
    file(store, wanted[0].config, 0.8)  # torchvision's own weights come first
    assert {cell.config for cell in recorded(wanted, store)} == {wanted[0].config}


def test_an_embedded_teacher_is_the_one_that_ships(store):
    wanted = cells(TABLES["novelty"], GROUNDS["digits"], ["3"])
    file(store, replace(wanted[0].config, weights_id="0123456789ab"), 0.9)
    assert {cell.config.weights_id for cell in recorded(wanted, store)} == {weights_id("embedded")}


def test_what_is_no_result_is_passed_over(store):
    store.folder.mkdir(exist_ok=True)
    (store.folder / "broken.json").write_text("{")
    (store.folder / "other.json").write_text('{"config": {"dataset": "x", "unheard_of": 1}}')
    assert recorded(two_rows(), store) == two_rows()


def test_an_effect_is_the_mean_of_paired_differences(store):
    rng = np.random.default_rng(0)
    values = {cell.config: rng.uniform(0.4, 0.9) for cell in two_rows()}
    for config, value in values.items():
        file(store, config, value, resampled=(-0.1, 0.1))
    frame = effects(two_rows(), store, "usual").set_index("row")
    table = pd.Series({(c.loss, c.dataset, c.seed): v for c, v in values.items()}).unstack(1).mean(axis=1).unstack(0)
    difference = table["positional"] - table["flattened"]
    assert frame.loc["other", "difference"] == pytest.approx(difference.mean())
    assert frame.loc["other", "std"] == pytest.approx(difference.std(ddof=1))
    assert frame.loc["usual", "value"] == pytest.approx(table["flattened"].mean())
    assert frame.loc["usual", "verdict"] == "reference" and frame.loc["other", "seeds"] == 3


@pytest.mark.parametrize("gains, resampled, verdict", [
    ((0.10, 0.11, 0.12), ((0.0, 0.0), (0.01, 0.02)), "clearly better"),
    ((-0.10, -0.11, -0.12), ((0.0, 0.0), (-0.01, -0.02)), "clearly worse"),
    ((0.10, 0.00, 0.05), ((0.0, 0.0), (0.01, 0.02)), "unclear: seeds"),
    ((0.10, 0.11, 0.12), ((0.0, 0.0), (-0.2, 0.2)), "unclear: test images"),
    ((-0.10,), ((0.0, 0.0), (-0.01, -0.02)), "worse, one seed")])
def test_a_verdict_asks_both_seeds_and_images(store, gains, resampled, verdict):
    wanted = two_rows(["a"], range(len(gains)))
    for cell in wanted:
        other = cell.row.label == "other"
        file(store, cell.config, 0.5 + other * gains[cell.config.seed], resampled[other])
    assert effects(wanted, store, "usual")["verdict"].tolist() == ["reference", verdict]


def test_a_seed_without_all_categories_does_not_count(store):
    wanted = two_rows()
    for cell in wanted:
        if (cell.category, cell.config.seed) != ("b", 2) or cell.row.label == "usual":
            file(store, cell.config, 0.5)
    frame = effects(wanted, store, "usual")
    assert frame["seeds"].tolist() == [3, 2]
    assert effects(wanted, ResultStore(store.folder / "none"), "usual")["verdict"].tolist() == [NOT_RUN, NOT_RUN]
    assert {cell.category for cell in complete(wanted, store)} == {"a"}
    assert effects([cell for cell in wanted if cell.category == "b" and cell.config.seed == 2], store,
                   "usual")["verdict"].tolist() == ["reference", NOT_RUN]
    with pytest.raises(ValueError, match="usual, other"):
        effects(wanted, store, "unheard of")


def test_categories_are_those_on_which_most_can_be_compared(store):
    wanted = two_rows()
    assert complete(wanted, store) == wanted
    for cell in wanted[:5]:  # the usual row: all of a, two seeds of b; the other row never
        file(store, cell.config, 0.5)
    assert {(cell.row.label, cell.category) for cell in complete(wanted, store)} == {("usual", "a"), ("other", "a")}
    file(store, wanted[5].config, 0.5)  # the usual row has both
    file(store, wanted[6].config, 0.5)  # the other row is begun, and finished nowhere: it hides nothing
    assert complete(wanted, store) == wanted
    assert effects(wanted, store, "usual")["verdict"].tolist() == ["reference", "1 of 6 runs so far"]


def test_one_category_for_all_rows_is_more_than_two_for_one(store):
    wanted = [*two_rows(), *(cell._replace(row=Row("third", {"ema": 0.5}), config=replace(cell.config, ema=0.5))
                             for cell in two_rows()[:6])]
    for cell in wanted:
        if cell.row.label == "usual" or cell.category == "b":
            file(store, cell.config, 0.5)
    assert {cell.category for cell in complete(wanted, store)} == {"b"}


def test_a_row_without_its_reference_says_so(store):
    wanted = two_rows(["a"], [0])
    file(store, wanted[1].config, 0.5)
    assert effects(wanted, store, "usual")["verdict"].tolist() == [NOT_RUN, "its reference was not run"]


def test_an_effect_of_a_reading_is_read_there(store):
    config = RunConfig("toy/a")
    wanted = [Cell(Row("usual"), "a", config), Cell(Row("two scales", scored_by="12"), "a", config)]
    file(store, config, 0.9, scored_by=0.6)
    assert effects(wanted, store, "usual")["difference"].iloc[1] == pytest.approx(-0.3)


FRAME = pd.DataFrame({"here": [0.98765, np.nan], "change": [-0.0124, np.nan], "note": ["so", NOT_RUN]}, ["one", "two"])


def test_a_table_says_in_words_what_its_colours_say():
    table = styled(FRAME, "A table", ["change"])
    assert isinstance(table, Styled) and table.frame.loc["one"].tolist() == ["0.988", "▼ −0.012", "so"]
    assert table.frame.loc["two"].tolist() == [NOT_RUN, "–", NOT_RUN]
    page = table._repr_html_()
    assert "A table" in page and "▼ −0.012" in page and page.count(NOT_RUN) == 2
    assert "▲ +0.012" in repr(styled(-FRAME[["change"]], "A table", ["change"]))
    assert "= 0.000" in repr(styled(0.01 * FRAME[["change"]], "A table", ["change"]))
    with pytest.raises(KeyError, match="changes"):
        styled(FRAME, "A table", ["changes"])


def test_lines_may_share_a_name():
    table = styled(FRAME.set_axis(["one", "one"]).rename_axis("who"), "A table", ["change"])
    assert table.frame["who"].tolist() == ["one", "one"] and table._repr_html_().count("one") == 2
    assert "#fadcc3" in table._repr_html_()


def test_a_page_is_the_same_every_time_and_two_tables_do_not_share_their_colours():
    one, other = (styled(FRAME, title, ["change"])._repr_html_() for title in ("one", "other"))
    assert one == styled(FRAME, "one", ["change"])._repr_html_() and " at 0x" not in repr(styled(FRAME, "one"))
    assert one.partition("T_")[2][:8] != other.partition("T_")[2][:8]


def test_published_numbers_stand_beside_what_was_not_run(store):
    table, ground = TABLES["main"], GROUNDS["mvtec"]
    wanted = cells(table, ground)
    frame = published_beside(table, ground, wanted, store, "WRN-50-2")
    assert len(frame) == 16 and frame["paper"].loc["mean"] == pytest.approx(0.985)
    assert frame["official code"].loc["mean"] == pytest.approx(0.9869) and frame["measured here"].isna().all()
    file(store, next(c.config for c in wanted if c.category == "cable"), 0.96)
    frame = published_beside(table, ground, wanted, store, "WRN-50-2")
    assert frame.loc["cable", ["measured here", "difference"]].tolist() == pytest.approx([0.96, 0.01])
    assert frame["seeds"].tolist() == [int(name == "cable") for name in frame.index]
    with pytest.raises(ValueError, match="WRN-50-2, ResNet-18"):
        published_beside(table, ground, wanted, store, "VGG")


def test_worth_has_every_row_run_or_not(store):
    wanted = two_rows(["a"])
    rows = [*wanted, *(cell._replace(row=Row("third", {"ema": 0.5}), config=replace(cell.config, ema=0.5))
                       for cell in wanted[:3])]
    for cell in wanted:
        file(store, cell.config, 0.5 + 0.1 * (cell.row.label == "other"))
    frame = worth(rows, store, "usual", "Toy").frame
    assert frame.index.tolist() == ["usual", "other", "third"]
    assert frame["Δ image AUROC"].tolist() == ["–", "▲ +0.100", "–"] and frame["AUPRO"].iloc[2] == NOT_RUN
    assert frame["AUPRO: verdict"].tolist() == ["reference", "clearly better", NOT_RUN]
    assert frame["seeds"].tolist() == ["3", "3", "0"]
