"""The README's tables of ablations and baselines, from the runs on record.

    python tests/readme_tables.py
"""
from dataclasses import replace
from pathlib import Path

import pandas as pd

from rdlib.reproduction import GROUNDS, TABLES, ResultStore, cells, measured
from rdlib.reproduction.config import weights_id
from rdlib.reproduction.stability import curves, swings
from rdlib.reproduction.tables import Cell

STORE = ResultStore(Path(__file__).parents[1] / "data/results/runs")
TEACHERS = {"imagenet": "c598fc015ca0", "embedded": weights_id("embedded")}  # the files that the runs were made with
SHOWN = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}
ABLATIONS = (("ocbe", "synthetic"), ("scales", "synthetic"), ("readout", "synthetic"), ("teacher", "synthetic"),
             ("baselines", "synthetic"), ("ocbe", "magnetic_tile"), ("readout", "magnetic_tile"),
             ("teacher", "magnetic_tile"))


def on_record(table: str, ground: str, **choice) -> list[Cell]:
    """The table's cells, each with the file its teacher came from; `choice` as `cells` takes it."""
    return [cell._replace(config=replace(cell.config, weights_id=TEACHERS.get(cell.config.weights)))
            for cell in cells(TABLES[table], GROUNDS[ground], **choice)]


def overview(table: str, ground: str) -> str:
    """Markdown: a line a row, mean over categories ± standard deviation over seeds of three metrics."""
    frame = measured(on_record(table, ground), STORE)
    alone = len(GROUNDS[ground].categories) == 1
    frame = frame if alone else frame[frame["category"] == "mean"]
    cell = {(line["row"], line["metric"]): f"{line['mean']:.3f}" + (f" ± {line['std']:.3f}" if line["std"] >= 0 else "")
            for _, line in frame.iterrows()}
    head = ["| " + " | ".join([TABLES[table].title, *SHOWN.values()]) + " |", "|---" * (1 + len(SHOWN)) + "|"]
    return "\n".join(head + [f"| {row.label} | " + " | ".join(cell.get((row.label, m), "not run here") for m in SHOWN)
                             + " |" for row in TABLES[table].rows])


def steadiness() -> str:
    """Markdown: how the metrics of the last epochs swing, by schedule and averaging."""
    found: pd.DataFrame = swings(curves(on_record("stability", "synthetic"), STORE))
    return found.rename_axis("image AUROC by epoch").to_markdown(disable_numparse=True)


if __name__ == "__main__":
    print("\n\n".join([*(overview(*names) for names in ABLATIONS), steadiness()]))
