"""The README's tables of the tiles, the benchmark, ablations and baselines, from the runs on record.

    python tests/readme_tables.py     # writes them between their markers in the README
"""
import json
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))

import synthetic  # noqa: E402

from rdlib.reproduction import GROUNDS, TABLES, ResultStore, cells, measured  # noqa: E402
from rdlib.reproduction.recorded import recorded  # noqa: E402
from rdlib.reproduction.stability import curves, swings  # noqa: E402
from rdlib.reproduction.tables import Cell  # noqa: E402

README = ROOT / "README.md"
PLACES = {name: (f"<!-- {name}: python tests/readme_tables.py -->", f"<!-- end of the {name} -->")
          for name in ("epochs", "tiles", "benchmark", "ablations")}
STORE = ResultStore(ROOT / "data/results/runs")
SHOWN = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}
TILES = SHOWN | {"aupro_per_image": "official per-image PRO"}
TILE_EPOCHS = "6"  # of the protocol that compares teachers
ABLATIONS = (("ocbe", "synthetic"), ("scales", "synthetic"), ("readout", "synthetic"), ("teacher", "synthetic"),
             ("baselines", "synthetic"), ("ocbe", "magnetic_tile"), ("readout", "magnetic_tile"),
             ("teacher", "magnetic_tile"))


def on_record(table: str, ground: str) -> list[Cell]:
    """The table's cells, each with its run on record."""
    return recorded(cells(TABLES[table], GROUNDS[ground]), STORE)


def overview(table: str, ground: str) -> str | None:
    """Markdown: a line a row, mean over categories ± deviation over seeds of three metrics; None without runs."""
    frame = measured(on_record(table, ground), STORE)
    frame = frame if len(GROUNDS[ground].categories) == 1 else frame[frame["category"] == "mean"]
    if frame.empty:
        return None
    spread = [f" ± {std:.3f}" if std >= 0 else "" for std in frame["std"]]  # one seed has none
    cell = {(row, metric): f"{mean:.3f}{std}" for row, metric, mean, std in
            zip(frame["row"], frame["metric"], frame["mean"], spread, strict=True)}
    head = [f"| {TABLES[table].title}: {GROUNDS[ground].title} | " + " | ".join(SHOWN.values()) + " |",
            "|---" * (1 + len(SHOWN)) + "|"]
    return "\n".join(head + [f"| {row.label} | " + " | ".join(cell.get((row.label, m), "not run here") for m in SHOWN)
                             + " |" for row in TABLES[table].rows])


def steadiness() -> str | None:
    """Markdown: how image AUROC swings from epoch to epoch, by schedule and averaging, on the categories that all rows
    have; None without runs."""
    by_epoch = curves(on_record("stability", "synthetic"), STORE)
    if by_epoch.empty:
        return None
    runs = by_epoch.groupby("category")[["row", "seed"]].apply(lambda part: len(part.drop_duplicates()))
    whole = runs.index[runs == len(TABLES["stability"].rows) * len(GROUNDS["synthetic"].seeds)]
    found = swings(by_epoch[by_epoch["category"].isin(whole)])
    return found.rename_axis(f"image AUROC by epoch: {', '.join(whole)}").to_markdown(disable_numparse=True)


def tiles_of(teacher: str) -> dict[str, list[dict]]:
    """The runs of a teacher on the magnetic tiles: by epochs, the metrics of every seed."""
    found = [json.loads(path.read_text())["curve"]
             for path in sorted((ROOT / "data/results").glob(f"magnetic_tile_{teacher}_seed?.json"))]
    return {epochs: [curve[epochs] for curve in found] for epochs in found[0]} if found else {}


def tile_line(name: str, runs: list[dict]) -> str:
    """A row of a table of the tiles: mean ± standard deviation over seeds."""
    cells = ([run[metric] for run in runs] for metric in TILES)
    return f"| {name} | {' | '.join(f'{statistics.mean(v):.3f} ± {statistics.stdev(v):.3f}' for v in cells)} |"


def tile_table(first: str, lines: list[str]) -> str:
    """With its head."""
    return "\n".join([f"| {first} | {' | '.join(TILES.values())} |", "|---" * (len(TILES) + 1) + "|", *lines])


def epochs() -> str:
    """The tiles by epochs, ImageNet's weights."""
    return tile_table("epochs", [tile_line(number, runs) for number, runs in tiles_of("imagenet").items()])


def tiles() -> str:
    """The tiles by teacher."""
    return tile_table("teacher", [tile_line(title, tiles_of(name)[TILE_EPOCHS])
                                  for name, title in synthetic.TEACHERS.items() if tiles_of(name)])


def benchmark() -> str:
    """The procedural benchmark by teacher and way of training, a table a metric; and how long that took."""
    rows = synthetic.records()
    return "\n\n".join([*(synthetic.table(rows, metric) for metric in synthetic.COLUMNS),
                        f"Minutes a run, one thread: {synthetic.minutes(rows)}."])


def ablations() -> str:
    """All of them that have runs."""
    return "\n\n".join(filter(None, [*(overview(*names) for names in ABLATIONS), steadiness()]))


def put(readme: str) -> str:
    """The README's text with the tables as they are now."""
    for tables, (begin, end) in zip((epochs(), tiles(), benchmark(), ablations()), PLACES.values(), strict=True):
        before, _, rest = readme.partition(begin)
        _, _, after = rest.partition(end)
        readme = f"{before}{begin}\n\n{tables}\n\n{end}{after}"
    return readme


if __name__ == "__main__":
    README.write_text(put(README.read_text(encoding="utf-8")), encoding="utf-8")
