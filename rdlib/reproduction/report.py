"""What a table says: means, spread and intervals of the runs on record, published numbers beside them."""
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rdlib.reproduction.stability import evaluations, swings
from rdlib.reproduction.store import ResultStore
from rdlib.reproduction.tables import NOT_STATED, Cell, Ground, Table
from rdlib.utils.errors import DataError
from rdlib.utils.files import shipped, written_atomically

METRICS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO",
           "aupro_per_image": "AUPRO per image (official)"}
PAPER, RERUN = "RD4AD (paper", "official code"  # how the published numbers' variants begin
MEAN = "mean"


def published_numbers() -> pd.DataFrame:
    """The published numbers, one a line with its source; values in percent. Raises DataError where the file is gone."""
    try:
        return pd.read_csv(shipped("reference", "published.csv"))
    except FileNotFoundError as error:
        raise DataError(f"This installation lacks its published numbers: {error}") from error


def measured(cells: Sequence[Cell], store: ResultStore) -> pd.DataFrame:
    """One line a row, category and metric, and one for the mean over the categories; in the order of the cells.

    Columns: row, category, metric, mean, std (over seeds, blank for one), low, high (95 % interval over resampled
    test images), seeds (how many are on record), of (how many are asked for). Nothing is guessed: where a category has
    no run yet there is no mean over the categories.
    """
    order = list(dict.fromkeys((cell.row, cell.category) for cell in cells))
    lines = []
    for row in dict.fromkeys(row for row, _ in order):
        categories = [category for r, category in order if r is row]
        found = {c: [r for cell in cells if cell.row is row and cell.category == c and (r := store.read(cell.config))]
                 for c in categories}
        wanted = {c: sum(cell.row is row and cell.category == c for cell in cells) for c in categories}
        for metric in METRICS:
            parts = {c: _values(results, row.scored_by, metric) for c, results in found.items()}
            lines += [_line(row.label, c, metric, *parts[c], wanted[c]) for c in categories if len(parts[c][0])]
            complete = len(categories) > 1 and all(len(values) == wanted[c] for c, (values, _) in parts.items())
            if complete and len({len(values) for values, _ in parts.values()}) == 1:
                values = np.mean([values for values, _ in parts.values()], 0)
                resampled = [r for _, r in parts.values()]
                resampled = np.mean(resampled, 0) if all(r is not None for r in resampled) else None
                lines.append(_line(row.label, MEAN, metric, values, resampled, len(values)))
    columns = ["row", "category", "metric", "mean", "std", "low", "high", "seeds", "of"]
    return pd.DataFrame(lines, columns=columns)


def _values(results: list[dict], scored_by: str, metric: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The metric of every seed (n,), and its mean over them for every resampling (R,), where it was resampled."""
    usual = scored_by == "123"
    values = [r["metrics"][metric] if usual else r["scored_by"].get(scored_by, {}).get(metric, np.nan) for r in results]
    values = np.array([value for value in values if value == value])
    resampled = [r["bootstrap"].get(scored_by, {}).get(metric) for r in results]
    whole = len(values) == len(results) > 0 and all(r is not None for r in resampled)
    return values, np.mean(resampled, 0) / 1e4 if whole else None


def _line(row: str, category: str, metric: str, values: np.ndarray, resampled: np.ndarray | None, of: int) -> tuple:
    low, high = np.percentile(resampled, (2.5, 97.5)) if resampled is not None else (np.nan, np.nan)
    std = values.std(ddof=1) if len(values) > 1 else np.nan
    return row, category, metric, values.mean(), std, low, high, len(values), of


def beside_published(frame: pd.DataFrame, table: Table, ground: Ground) -> pd.DataFrame:
    """`measured`'s lines with columns paper, rerun and difference (measured - paper), in parts of 1; blank where
    nothing was published. A published mean stands beside a mean over all of the ground's categories, and no other."""
    numbers = published_numbers()
    numbers = numbers[numbers["dataset"] == ground.title].fillna({"backbone": NOT_STATED}).replace(
        {"category": {"average": MEAN}, "metric": {"auroc": "image_auroc"}})
    if not set(ground.categories) <= set(frame["category"]):
        numbers = numbers[numbers["category"] != MEAN]

    def look(line: pd.Series, variant: str) -> float:
        backbone, metric = table.published.get(line["row"]), line["metric"]
        if metric == "aupro_per_image":
            metric = "aupro"  # both published AUPROs are the official per-image one
        elif metric == "aupro":
            return np.nan
        found = numbers[(numbers["backbone"] == backbone) & (numbers["metric"] == metric)
                        & (numbers["category"] == line["category"]) & numbers["variant"].str.startswith(variant)]
        return found["value"].iloc[0] / 100 if len(found) else np.nan

    frame = frame.copy()
    frame["paper"] = [look(line, PAPER) for _, line in frame.iterrows()]
    frame["rerun"] = [look(line, RERUN) for _, line in frame.iterrows()]
    frame["difference"] = frame["mean"] - frame["paper"]
    return frame


def wide(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A metric as it is read: a line a row, a column a category; mean ± spread [interval], text. Empty without runs."""
    part = frame[frame["metric"] == metric]
    text = part.assign(text=[_text(line) for _, line in part.iterrows()])
    shown = text.pivot(index="row", columns="category", values="text")
    rows, columns = dict.fromkeys(part["row"]), dict.fromkeys(part["category"])
    last = [MEAN] if MEAN in columns else []
    return shown.reindex(index=list(rows), columns=[c for c in columns if c != MEAN] + last).fillna("").rename_axis(
        index=None, columns=METRICS[metric])


def _text(line: pd.Series) -> str:
    spread = f" ± {line['std']:.3f}" if line["std"] == line["std"] else ""
    interval = f" [{line['low']:.3f}, {line['high']:.3f}]" if line["low"] == line["low"] else ""
    missing = f" ({line['seeds']} of {line['of']} seeds)" if line["seeds"] < line["of"] else ""
    published = f"; paper {line['paper']:.3f} ({line['difference']:+.3f})" if line.get("paper", np.nan) >= 0 else ""
    published += f"; official code {line['rerun']:.3f}" if line.get("rerun", np.nan) >= 0 else ""
    return f"{line['mean']:.3f}{spread}{interval}{published}{missing}"


def provenance_text(cells: Sequence[Cell], store: ResultStore) -> str:
    """Where the runs on record come from, in a sentence or two."""
    results = [r for config in dict.fromkeys(cell.config for cell in cells) if (r := store.read(config))]
    if not results:
        return "No run is on record."
    def seen(*keys: str) -> str:
        values = []
        for result in results:
            value = result
            for key in keys:
                value = value[key]
            values.append(str(value))
        return ", ".join(sorted(set(values)))
    wanted = len(dict.fromkeys(cell.config for cell in cells))
    seconds = [r["seconds"] for r in results]
    return (f"{len(results)} of {wanted} runs, {seen('date')}; {seen('hardware')}; torch {seen('versions', 'torch')}, "
            f"revision {seen('revision')}; {seen('config', 'precision')}, {seen('config', 'threads')} thread(s), "
            f"{np.mean(seconds) / 60:.1f} minutes a run, {max(r['peak_memory_mb'] for r in results)} MB at most. "
            "Mean ± standard deviation over seeds [95 % bootstrap interval over test images].")


def write_report(table: Table, ground: Ground, cells: Sequence[Cell], store: ResultStore, folder: Path) -> list[Path]:
    """Write NAME.csv (every line), NAME.md, NAME.html and NAME.tex (one block a metric, with provenance).

    Where runs noted curves, also NAME-epochs.csv, which is not among the paths returned.
    """
    frame = beside_published(measured(cells, store), table, ground)
    blocks = [wide(frame, metric) for metric in METRICS if (frame["metric"] == metric).any()]
    name = f"{table.name}-{ground.family}"
    by_epoch = evaluations(cells, store)
    if len(by_epoch):
        blocks.append(swings(by_epoch.rename(columns={"image_auroc": "value"})))
        with written_atomically(folder / f"{name}-epochs.csv") as temporary:
            by_epoch.round(5).to_csv(temporary, index=False)
    title, origin = f"{table.title}: {ground.title}", provenance_text(cells, store)
    markdown = [f"# {title}", *(block.to_markdown() for block in _headed(blocks)), f"*{origin}*"]
    html = [f"<h2>{title}</h2>", *(block.to_html() for block in blocks), f"<p>{origin}</p>"]
    latex = [f"% {title}", *(f"% {block.columns.name}\n{latex_table(block)}" for block in blocks), f"% {origin}"]
    texts = {"csv": frame.to_csv(index=False), "md": "\n\n".join(markdown) + "\n",
             "html": "<!doctype html>\n<meta charset='utf-8'>\n" + "\n".join(html) + "\n",
             "tex": "\n\n".join(latex) + "\n"}
    paths = []
    for suffix, text in texts.items():
        paths.append(folder / f"{name}.{suffix}")
        with written_atomically(paths[-1]) as temporary:
            temporary.write_text(text)
    return paths


def _headed(blocks: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """With the metric above the rows' labels: Markdown has one line of headings."""
    return [block.rename_axis(block.columns.name) for block in blocks]


def latex_table(block: pd.DataFrame, index: bool = True) -> str:
    """A frame as a LaTeX tabular (package booktabs): names escaped, ± as LaTeX writes it."""
    style = block.rename_axis(columns=None).style.format(str, escape="latex")
    for axis in ("index", "columns"):
        style = style.format_index(str, escape="latex", axis=axis)
    style = style if index else style.hide(axis="index")
    return style.to_latex(hrules=True).replace("±", r"$\pm$")
