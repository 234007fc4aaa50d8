"""Tables as notebooks show them: published beside measured, differences in colour and in words."""
from collections.abc import Sequence
from hashlib import sha256

import numpy as np
import pandas as pd

from rdlib.reproduction.recorded import NOT_RUN, effects
from rdlib.reproduction.report import MEAN, METRICS, beside_published, measured
from rdlib.reproduction.store import ResultStore
from rdlib.reproduction.tables import Cell, Ground, Table

UP, DOWN, ABSENT = "#cfe6f5", "#fadcc3", "#efefef"  # light Okabe-Ito blue and vermilion, grey: black text reads on all
SHAPE = [{"selector": selector, "props": props} for selector, props in (
    ("caption", "caption-side: top; text-align: left; font-weight: bold; padding: 4px 0"),
    ("th", "text-align: right; padding: 3px 8px"), ("td", "text-align: right; padding: 3px 8px"),
    ("th.row_heading", "text-align: left"))]


class Styled:
    """A table that a page shows in colour and a terminal as plain text, the same on every machine.

    Args:
        frame: of texts, as they are to be read. Lines that share a name get it as a column of its own.
        colours: of the same shape, a background for every cell, "" for none.
        title: above the table.
    """

    def __init__(self, frame: pd.DataFrame, colours: pd.DataFrame, title: str):
        self.title, self._named = title, frame.index.is_unique
        self.frame = frame if self._named else frame.reset_index()
        self._colours = colours if self._named else colours.reset_index(drop=True).reindex(
            columns=self.frame.columns, fill_value="")

    def _repr_html_(self) -> str:
        look = "background-color: {}; color: black; white-space: nowrap"
        css = self._colours.map(lambda colour: look.format(colour) if colour else "")
        styler = self.frame.style.apply(lambda _: css, axis=None).set_caption(self.title).set_table_styles(SHAPE)
        if not self._named:
            styler = styler.hide(axis="index").set_table_styles(
                [{"selector": ".col0", "props": "text-align: left"}], overwrite=False)
        # pandas would draw a new id each time, and stored pages would differ for nothing.
        name = sha256(repr(self).encode()).hexdigest()[:8]
        return f'<div style="overflow-x: auto">{styler.set_uuid(name).to_html()}</div>'

    def __repr__(self) -> str:
        return f"{self.title}\n{self.frame.to_string(index=self._named)}"


def styled(frame: pd.DataFrame, title: str, differences: Sequence[str] = (), *, absent: str = NOT_RUN,
           digits: int = 3) -> Styled:
    """A frame of numbers and texts as a reader wants it.

    Args:
        frame: numbers are rounded to `digits`, texts stay, what is missing becomes `absent`.
        title: above the table.
        differences: columns that say by how much something is more (an upward triangle, blue) or less (a downward one,
            orange); what rounds to nothing has neither.
        absent: the word for what is missing, on grey; in a column of differences it is a dash.

    Raises:
        KeyError: a column of differences that is not there.
    """
    unknown = set(differences) - set(frame.columns)
    if unknown:
        raise KeyError(f"The table has no column {', '.join(sorted(unknown))}.")
    texts, colours = frame.astype(object), pd.DataFrame("", frame.index, frame.columns)
    for place, column in enumerate(frame.columns):
        for line, value in enumerate(frame[column]):
            look = _difference(value, digits) if column in differences else _plain(value, absent, digits)
            texts.iloc[line, place], colours.iloc[line, place] = look
    return Styled(texts, colours, title)


def _plain(value: object, absent: str, digits: int) -> tuple[str, str]:
    if pd.isna(value):
        return absent, ABSENT
    if isinstance(value, (float, np.floating)):
        return f"{value:.{digits}f}", ""
    return str(value), ABSENT if value == absent else ""


def _difference(value: float, digits: int) -> tuple[str, str]:
    if pd.isna(value):
        return "–", ""
    text = f"{abs(value):.{digits}f}"
    if not float(text):
        return f"= {text}", ""
    return (f"▲ +{text}", UP) if value > 0 else (f"▼ −{text}", DOWN)


def published_beside(table: Table, ground: Ground, cells: Sequence[Cell], store: ResultStore, row: str,
                     metric: str = "image_auroc") -> pd.DataFrame:
    """A row of a table, one line a category and their mean, whether it has been run or not.

    Columns, parts of 1: paper; official code, an independent rerun of it; measured here; difference (measured - paper);
    seeds, how many are on record. NaN where nothing was published or run.

    Raises ValueError for a row that the table has not.
    """
    if row not in {r.label for r in table.rows}:
        raise ValueError(f"There is no row '{row}'. Choose of {', '.join(r.label for r in table.rows)}.")
    lines = [c or ground.title for c in ground.categories] + ([MEAN] if len(ground.categories) > 1 else [])
    blank = pd.DataFrame({"row": row, "category": lines, "metric": metric, "mean": np.nan, "seeds": 0})
    found = measured(cells, store).replace({"category": {"": ground.title}})
    found = found[(found["row"] == row) & (found["metric"] == metric)][list(blank)]
    whole = pd.concat([found, blank]).drop_duplicates("category").set_index("category").loc[lines].reset_index()
    shown = beside_published(whole, table, ground).set_index("category")
    shown = shown.rename(columns={"rerun": "official code", "mean": "measured here"}).rename_axis(METRICS[metric])
    return shown[["paper", "official code", "measured here", "difference", "seeds"]].astype({"seeds": int})


def worth(cells: Sequence[Cell], store: ResultStore, reference: str, title: str,
          metrics: Sequence[str] = ("image_auroc", "aupro")) -> Styled:
    """What every row of a table is worth against its row `reference`, metric by metric, with a verdict in words.

    Each metric has its value, the difference, and what `effects` says of it; then come the seeds. Rows that were not
    run say so. Raises as `effects`.
    """
    parts, differences = [], []
    for metric in metrics:
        found = effects(cells, store, reference, metric).set_index("row").rename_axis(None)
        parts.append(pd.DataFrame({METRICS[metric]: found["value"], f"Δ {METRICS[metric]}": found["difference"],
                                   f"{METRICS[metric]}: verdict": found["verdict"]}))
        differences.append(f"Δ {METRICS[metric]}")
    return styled(pd.concat([*parts, found["seeds"]], axis=1), title, differences)
