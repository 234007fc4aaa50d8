"""Tables for notebooks: differences in words, signs and colours; what was not run says so."""
from collections.abc import Sequence
from hashlib import sha256

import pandas as pd
from pandas.io.formats.style import Styler

from rdlib.reproduction.results import METRICS, NOT_RUN, Results

# Backgrounds: light blue and orange of Okabe and Ito, grey; black text is readable on each.
MORE, LESS, ABSENT = (f"background-color: {colour}; color: black" for colour in ("#cfe6f5", "#fadcc3", "#efefef"))
LOOK = [{"selector": "caption", "props": "caption-side: top; text-align: left; font-weight: bold; padding: 4px 0"},
        {"selector": "th, td", "props": "text-align: right; padding: 3px 8px; white-space: nowrap"},
        {"selector": "th.row_heading", "props": "text-align: left"}]
SCROLL = 'style="display: block; overflow-x: auto" tabindex="0"'  # on a narrow screen, with the keyboard too


class TextStyler(Styler):
    """A Styler that prints as text, so that a stored notebook is the same every time."""

    def __repr__(self) -> str:
        return f"{self.caption}\n{self.to_string(delimiter='  ')}"


def styled(frame: pd.DataFrame, title: str, differences: Sequence = (), *, absent: str = NOT_RUN,
           digits: int = 3) -> Styler:
    """Format a table of numbers and texts.

    Args:
        frame: numbers are rounded, texts stay. Rows that share a label get it as a column.
        title: stands above the table.
        differences: columns whose values are marked as more (▲, blue) or less (▼, orange).
        absent: replaces NaN, on grey; in a column of differences NaN is a dash.
        digits: number of decimals.

    Returns:
        A pandas Styler. The same input gives the same HTML.

    Raises:
        KeyError: a column of `differences` does not exist.
    """
    if unknown := set(differences) - set(frame.columns):
        raise KeyError(f"The table has no column {', '.join(map(str, unknown))}. It has {', '.join(map(str, frame))}.")

    def text(value: object) -> str:
        if pd.isna(value):
            return absent
        return f"{value:.{digits}f}" if isinstance(value, float) else str(value)

    def difference(value: float) -> str:
        if pd.isna(value):
            return "–"
        sign = "= " if not round(value, digits) else "▲ +" if value > 0 else "▼ −"
        return f"{sign}{abs(value):.{digits}f}"

    def colour(value: float) -> str:
        return "" if pd.isna(value) or not round(value, digits) else MORE if value > 0 else LESS

    named = frame.index.is_unique
    frame = frame if named else frame.reset_index()
    changes = [column for column in frame if column in differences]
    others = [column for column in frame if column not in differences]
    table = TextStyler(frame, uuid=sha256(f"{title}\n{frame.to_string()}".encode()).hexdigest()[:8], caption=title,
                       table_attributes=SCROLL).set_table_styles(LOOK)
    table.format(text, subset=others).map(lambda value: ABSENT if text(value) == absent else "", subset=others)
    table.format(difference, subset=changes).map(colour, subset=changes)
    return table if named else table.hide(axis="index")


def compare(results: Results, reference: str, metrics: Sequence[str] = ("image_auroc", "aupro")) -> Styler:
    """Compare every row of a table with a reference row.

    Args:
        results: of the table.
        reference: label of the row to compare with.
        metrics: keys of `METRICS`; each has its value, the difference and the verdict of `Results.effects`.

    Returns:
        The table, with a line for every row, run or not.

    Raises:
        ValueError: the table has no such row.
    """
    parts: dict[str, pd.Series] = {}
    for metric in metrics:
        found = results.effects(reference, metric).set_index("row").rename_axis(None)
        name = METRICS[metric]
        parts |= {name: found["value"], f"Δ {name}": found["difference"], f"{name}: verdict": found["verdict"],
                  "seeds": found["seeds"]}
    parts["seeds"] = parts.pop("seeds")
    title = f"{results.table.title}: {', '.join(filter(None, results.categories)) or results.benchmark.title}"
    return styled(pd.DataFrame(parts), title, [f"Δ {METRICS[metric]}" for metric in metrics])
