"""Keep the table of scores on disk while it grows, so that a stopped run keeps its rows and can go on.

OUT/scores.csv has the rows, a line each. OUT/run.json says which model, settings and folder they belong to. Until the
table is complete, it also has the names of earlier rows that are no longer in the table.
"""
import json
import os
import re
from collections.abc import Generator
from contextlib import contextmanager, suppress
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from rdlib.utils.errors import check_number, shown
from rdlib.utils.files import explained, written_atomically

TYPES = {"file": str, "score": float, **dict.fromkeys(("anomalous", "row", "column", "height", "width"), "Int64"),
         "error": str}
COLUMNS = tuple(TYPES)
UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # the last are bytes that are no UTF-8
FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")  # what a spreadsheet would calculate
SHOWN, LONGEST = 3, 251  # names in a message; bytes of a name with which .png makes no more than a system allows


def cell(text: str) -> str:
    """Escape characters that do not print, and begin with ./ what a spreadsheet would take for a formula."""
    text = UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return f"./{text}" if FORMULA.match(text) else text


def listed_name(path: Path, folder: Path) -> str:
    """Return a file's path below `folder` for the table, see `cell`. A backslash becomes two, so that names differ."""
    return cell(path.relative_to(folder).as_posix().replace("\\", "\\\\"))


def overlay_name(name: str, listed: str) -> str:
    """Return the name of a file's overlay, `name` with .png; where that is too long, the beginning and a hash.

    The hash is of the last part of the `listed` name.
    """
    last = listed.rpartition("/")[2]
    short = re.sub(r"\W", "", last, flags=re.ASCII)[:40] + "-" + sha256(last.encode()).hexdigest()[:32]
    return f"{name if len(last.encode()) <= LONGEST else name[:name.rfind('/') + 1] + short}.png"


@contextmanager
def opened(out: Path) -> Generator[None, None, None]:
    """Keep other runs out of a folder, which is created. What stops this run is raised again with how to go on.

    Raises OSError if another run writes there, and ChildProcessError if a process that reads images was killed.
    """
    lock, table = FileLock(out / ".scoring.lock", timeout=0), out / "scores.csv"  # a killed process keeps no lock
    try:
        with explained(table, "could not be written"):
            out.mkdir(parents=True, exist_ok=True)
            lock.acquire()
    except Timeout:
        raise OSError(f"Another scoring writes to {out}. Wait until it ends, or choose another folder.") from None
    try:
        yield
    except (KeyboardInterrupt, RuntimeError) as stop:
        if not (interrupted := isinstance(stop, KeyboardInterrupt)) and "DataLoader worker" not in str(stop):
            raise
        words = f"{str(stop).strip()} {table} has {len(read_table(table))} rows. Go on with --resume."
        raise (KeyboardInterrupt if interrupted else ChildProcessError)(words.strip()) from None
    finally:
        with suppress(OSError):  # on Windows, it is still open
            os.unlink(lock.lock_file)
        lock.release()


def begin(out: Path, run: dict, paths: dict[str, Path], resume: bool) -> set[str]:
    """Write an empty table, or prepare the table of a stopped run for further rows. Return the names that it has.

    With `resume`, rows of images that have changed since that run began, or that had an error, are removed. Raises
    ValueError if the table belongs to another run. `run` is what all rows depend on.
    """
    table, note = out / "scores.csv", out / "run.json"
    old, before, kept = read_table(table), _load(note), pd.DataFrame(columns=COLUMNS)
    if resume and table.exists():
        other = [name for name, value in json.loads(json.dumps(run)).items() if before.get(name, ...) != value]
        known = tuple(old.columns) == COLUMNS
        if other or not known or (odd := odd_rows(old)):
            what = (f"it was written with another {', '.join(other) or 'version'}" if other or not known else
                    f"it has a row that no scoring writes, {odd[0]}")
            raise ValueError(f"{table} cannot be resumed: {what}. Write to another folder, or leave resume out to "
                             "score all images again.")
        changed = {name for name, path in paths.items() if not os.path.exists(path)  # ctime: also a copy with its time
                   or max(os.path.getmtime(path), os.path.getctime(path)) > before.get("began", 0)}
        kept = old[~old["file"].isin(changed) & (old["error"] == "")]
    earlier = sorted({*before.get("earlier", ())} | ({*old.get("file", ())} - {*kept["file"]}))
    _write({"earlier": earlier}, note)  # it describes no run until the table is that of the run
    _write(kept, table)
    _write(run | {"began": os.path.getmtime(table), "earlier": earlier}, note)
    return set(kept["file"])


def finished(out: Path) -> pd.DataFrame:
    """Return the table of a complete run, and sort its file by name."""
    _write(table := read_table(out / "scores.csv").sort_values("file", ignore_index=True), out / "scores.csv")
    return table


def remove_outdated(out: Path, wanted: set[str], kept: set[str]) -> list[str]:
    """Remove the overlays of rows that earlier tables had, except those of `wanted` files. Say what is left.

    Links are neither followed nor removed. Overlays of `kept` files, the rows of a resumed run, are not mentioned.
    """
    overlays, run, left = out / "overlays", _load(out / "run.json"), []
    wanted, kept, earlier = ({overlay_name(name, name) for name in names} for names in (wanted, kept, run["earlier"]))
    outdated, known = earlier - wanted, wanted | kept
    if overlays.is_symlink():
        return [f"{overlays} is a link. Overlays of earlier scorings were left there."] * bool(outdated)
    for path in sorted(path for path in overlays.rglob("*") if path.is_symlink() or not path.is_dir()):
        name = listed_name(path, overlays)
        with suppress(OSError):
            if name in outdated and path.is_file() and not path.is_symlink():
                path.unlink()
        if name not in known and os.path.lexists(path):
            left.append(name)
    _write(run | {"earlier": []}, out / "run.json")
    more = f"{len(left)} more file{'s' * (len(left) > 1)}"
    return [f"{overlays} holds {more} that no scoring here has drawn; left there: {shown(left, SHOWN)}"] * bool(left)


def _load(note: Path) -> dict:
    """Read what run.json says; {} if there is none, or another or a damaged file in its place."""
    try:
        says = json.loads(note.read_text(encoding="utf-8"))
        check_number("began", says.get("began", 0), "[0, inf)")
        return says if all(isinstance(name, str) for name in says["earlier"]) else {}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return {}


def odd_rows(table: pd.DataFrame) -> list[str]:
    """List the files of rows that no scoring writes: a file twice or outside the folder, or a number missing."""
    score, row, column, height, width = table[["score", *COLUMNS[3:-1]]].to_numpy(float, na_value=np.nan).T
    whole = np.isfinite(score) & (0 <= row) & (row < height) & (0 <= column) & (column < width)
    decided = table["anomalous"].isin([0, 1]) | table["anomalous"].isna()
    outside = np.array([name[:1] in ("", "/") or ".." in name.split("/") for name in table["file"]], bool)
    return [*table["file"][table["file"].duplicated() | outside | ~decided | ((table["error"] == "") & ~whole)]]


def read_table(path: Path) -> pd.DataFrame:
    """Read a table without a torn last line. It has no columns if the file is missing or no such table."""
    content = path.read_bytes() if path.is_file() else b""
    try:
        return pd.read_csv(BytesIO(content[:content.rfind(b"\n") + 1]), dtype=TYPES, keep_default_na=False,
                           na_values=dict.fromkeys(COLUMNS[1:-1], ""))
    except (ValueError, TypeError, OverflowError):  # 0.5 is no whole number
        return pd.DataFrame()


def _write(content: pd.DataFrame | dict, path: Path) -> None:
    text = (content.to_csv(index=False, float_format="%.9g", lineterminator="\n")
            if isinstance(content, pd.DataFrame) else json.dumps(content, indent=1))
    with written_atomically(path) as temporary:
        temporary.write_bytes(text.encode())
