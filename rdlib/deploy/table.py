"""Keep the table of scores on disk while it grows, so that a stopped run keeps its rows and can go on.

OUT/scores.csv has the rows, a line each. OUT/run.json says which model, settings and folder they belong to.
"""
import json
from io import BytesIO
from os.path import getctime, getmtime  # ctime: also of a copy that keeps its time
from pathlib import Path

import pandas as pd

from rdlib.utils.files import written_atomically

TYPES = {"file": str, "score": float, **dict.fromkeys(("anomalous", "row", "column", "height", "width"), "Int64"),
         "error": str}
COLUMNS = tuple(TYPES)


def listed_name(path: Path, folder: Path) -> str:
    """Return a file's path below `folder` for the table. Line breaks and bytes that are no UTF-8 are escaped."""
    name = path.relative_to(folder).as_posix().encode("utf-8", "backslashreplace").decode()
    return name.replace("\n", "\\n").replace("\r", "\\r")


def begin_table(out: Path, run: dict, paths: dict[str, Path], resume: bool) -> set[str]:
    """Write an empty table, or prepare the table of a stopped run for further rows. Return the names that it has.

    With `resume`, rows of images that have changed since that run began, or that had an error, are removed. Raises
    ValueError if the table belongs to another run. `run` is what all rows depend on.
    """
    table, note = out / "scores.csv", out / "run.json"
    text, kept = json.dumps(run, indent=1), pd.DataFrame(columns=COLUMNS)
    if resume and table.exists():
        content = table.read_bytes()
        kept = _read(content[:content.rfind(b"\n") + 1])  # without a torn last line
        earlier, now = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}, json.loads(text)
        other = [name for name in now if name not in earlier or now[name] != earlier[name]]
        if other or tuple(kept.columns) != COLUMNS:
            raise ValueError(f"{table} cannot be resumed: it was written with another {', '.join(other) or 'version'}. "
                             "Write to another folder, or leave resume out to score all images again.")
        began = getmtime(note)
        changed = {name for name, path in paths.items() if max(getmtime(path), getctime(path)) > began}
        kept = kept[~kept["file"].isin(changed) & (kept["error"] == "")]
    else:
        note.unlink(missing_ok=True)  # first, since it does not describe the next table
    _write(kept, table)
    with written_atomically(note) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return set(kept["file"])


def finished_table(out: Path) -> pd.DataFrame:
    """Return the table of a complete run, and sort its file by name where a resumed run has not."""
    table = _read((out / "scores.csv").read_bytes())
    if not table["file"].is_monotonic_increasing:
        _write(table := table.sort_values("file", ignore_index=True), out / "scores.csv")
    return table


def _read(content: bytes) -> pd.DataFrame:
    return pd.read_csv(BytesIO(content), dtype=TYPES, keep_default_na=False, na_values=dict.fromkeys(COLUMNS[1:-1], ""))


def _write(table: pd.DataFrame, path: Path) -> None:
    with written_atomically(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.9g", encoding="utf-8", lineterminator="\n")
