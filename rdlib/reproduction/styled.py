"""Format tables for notebooks: differences in words, signs and colors; "not run here" where a result is missing."""
from collections.abc import Sequence
from hashlib import sha256
from html import escape, unescape

import pandas as pd
from pandas.io.formats.style import Styler

from rdlib.reproduction.results import NOT_RUN
from rdlib.utils.errors import check_choice

# Backgrounds: light blue and orange of Okabe and Ito, gray; black text is readable on each.
MORE, LESS, ABSENT = (f"background-color: {colour}; color: black" for colour in ("#cfe6f5", "#fadcc3", "#efefef"))
LOOK = [{"selector": "caption", "props": "caption-side: top; text-align: left; font-weight: bold; padding: 4px 0"},
        {"selector": "th, td", "props": "text-align: right; padding: 3px 8px; white-space: nowrap"},
        {"selector": "th.row_heading", "props": "text-align: left"}]
SCROLL = 'style="display: block; overflow-x: auto" tabindex="0"'  # on a narrow screen, with the keyboard too


class TextStyler(Styler):
    """A Styler that prints as text, so that a stored notebook is the same every time."""

    def __repr__(self) -> str:
        return unescape(f"{self.caption}\n{self.to_string(delimiter='  ')}")


def styled(frame: pd.DataFrame, title: str, differences: Sequence = (), *, digits: int = 3) -> Styler:
    """Format a table of numbers and texts. In HTML, texts, labels and the title are escaped.

    Args:
        frame: numbers and texts; NaN becomes "not run here". If rows share a label, the labels become a column.
        title: title above the table.
        differences: columns whose values are marked as more (▲, blue) or less (▼, orange); here NaN becomes a dash.
        digits: number of decimals.

    Returns:
        A pandas Styler. The same input gives the same HTML.

    Raises:
        ValueError: `differences` names a column that does not exist.
    """
    for column in differences:
        check_choice("column", column, list(frame))

    def difference(value: float) -> str:
        sign = "= " if not round(value, digits) else "▲ +" if value > 0 else "▼ −"
        return f"{sign}{abs(value):.{digits}f}"

    def safe(label: object) -> object:
        return label and escape(str(label))  # None, the name of most axes, stays None

    def colour(value: float) -> str:
        return "" if pd.isna(value) or not round(value, digits) else MORE if value > 0 else LESS

    named = frame.index.is_unique
    frame = frame if named else frame.reset_index()
    others = [column for column in frame if column not in differences]
    key = sha256(f"{title}\n{frame.to_string()}".encode("utf-8", "backslashreplace")).hexdigest()[:8]
    table = TextStyler(frame.rename_axis(index=safe, columns=safe), uuid=key, caption=escape(title),
                       table_attributes=SCROLL).set_table_styles(LOOK).format_index(safe).format_index(safe, axis=1)
    table.format(lambda value: f"{value:.{digits}f}" if pd.api.types.is_float(value) else escape(str(value)),
                 na_rep=NOT_RUN, subset=others)
    table.map(lambda value: ABSENT if pd.isna(value) or value == NOT_RUN else "", subset=others)
    table.format(difference, na_rep="–", subset=list(differences)).map(colour, subset=list(differences))
    return table if named else table.hide(axis="index")
