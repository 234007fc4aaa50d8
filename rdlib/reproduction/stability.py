"""How steady training is: metrics by epoch of the runs that noted them, and how much they swing."""
from collections.abc import Sequence

import numpy as np
import pandas as pd

from rdlib.evaluation.bootstrap import METRICS
from rdlib.reproduction.store import ResultStore
from rdlib.reproduction.tables import Cell

EVALUATION = ["row", "category", "seed", "epoch"]


def evaluations(cells: Sequence[Cell], store: ResultStore) -> pd.DataFrame:
    """One line an evaluation on the way: row, category, seed, epoch, and a column a metric. Empty where no run noted
    any."""
    lines = []
    for cell in cells:
        found = store.read(cell.config)
        curve = found.get("curve", {}) if found else {}
        lines += [(cell.row.label, cell.category, cell.config.seed, int(epoch), *(values[name] for name in METRICS))
                  for epoch, values in curve.items()]
    return pd.DataFrame(lines, columns=[*EVALUATION, *METRICS])


def curves(cells: Sequence[Cell], store: ResultStore, metric: str = "image_auroc") -> pd.DataFrame:
    """`evaluations` of one metric, in the column "value", as `swings` and `figures.metric_curves` take them."""
    return evaluations(cells, store)[[*EVALUATION, metric]].rename(columns={metric: "value"})


def swings(frame: pd.DataFrame) -> pd.DataFrame:
    """How steady the last half of every curve is: one line a row, as text, mean ± standard deviation over seeds.

    Columns: last, the value after the last epoch; best and worst of the last half, and the swing, the mean change from
    one evaluation to the next, without its sign. A seed's value is its mean over the categories.
    """
    lines = []
    for (row, _, seed), part in frame.groupby(["row", "category", "seed"], sort=False):
        values = part.sort_values("epoch")["value"].to_numpy()
        half = values[len(values) // 2:]
        swing = np.abs(np.diff(half)).mean() if len(half) > 1 else np.nan
        lines.append((row, seed, half[-1], half.max(), half.min(), swing))
    names = ["last epoch", "best of last half", "worst of last half", "swing"]
    found = pd.DataFrame(lines, columns=["row", "seed", *names])
    seeds = found.groupby(["row", "seed"], sort=False).mean().groupby("row", sort=False)
    text = seeds.mean().map("{:.3f}".format)
    text += seeds.std().map(lambda std: f" ± {std:.3f}" if std >= 0 else "")  # one seed has no spread
    return text.rename_axis(index=None, columns="image AUROC by epoch")
