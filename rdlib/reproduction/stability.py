"""How steady training is: metrics by epoch of the runs that noted them, and how much they swing."""
from collections.abc import Sequence

import numpy as np
import pandas as pd

from rdlib.reproduction.store import ResultStore
from rdlib.reproduction.tables import Cell

COLUMNS = ["row", "category", "seed", "epoch", "value"]


def curves(cells: Sequence[Cell], store: ResultStore, metric: str = "image_auroc") -> pd.DataFrame:
    """One line an evaluation on the way: row, category, seed, epoch, value. Empty where no run noted any."""
    lines = []
    for cell in cells:
        found = store.read(cell.config)
        curve = found.get("curve", {}) if found else {}
        lines += [(cell.row.label, cell.category, cell.config.seed, int(epoch), values[metric])
                  for epoch, values in curve.items()]
    return pd.DataFrame(lines, columns=COLUMNS)


def swings(frame: pd.DataFrame) -> pd.DataFrame:
    """How steady the last half of every curve is, means over seeds and categories: one line a row, as text.

    Columns: last, the value after the last epoch; best and worst of the last half, and the swing, the mean change from
    one evaluation to the next, without its sign.
    """
    lines = []
    for (row, _, _), part in frame.groupby(["row", "category", "seed"], sort=False):
        values = part.sort_values("epoch")["value"].to_numpy()
        half = values[len(values) // 2:]
        lines.append((row, half[-1], half.max(), half.min(), np.abs(np.diff(half)).mean() if len(half) > 1 else np.nan))
    found = pd.DataFrame(lines, columns=["row", "last epoch", "best of last half", "worst of last half", "swing"])
    found = found.groupby("row", sort=False).mean()
    return found.map("{:.3f}".format).rename_axis(index=None, columns="image AUROC by epoch")
