"""Write a table's measured numbers beside the published ones, as CSV and Markdown."""
from pathlib import Path

import numpy as np
import pandas as pd

from rdlib.reproduction.results import MEAN, METRICS, Results, swings
from rdlib.utils.files import shipped, written_atomically

VARIANTS = {"paper": "RD4AD (paper", "rerun": "official code"}  # column -> how its variants in published.csv begin
KIT_NAMES = {"auroc": "image_auroc", "aupro": "aupro_per_image"}  # all published AUPROs are the official per-image one
LEGEND = "Mean ± standard deviation over seeds [95 % bootstrap interval over test images]."


def published_numbers() -> pd.DataFrame:
    """Read the published numbers, one per row with its source. The column `unit` gives the unit of `value`."""
    return pd.read_csv(shipped("reference", "published.csv"))


def beside_published(results: Results) -> pd.DataFrame:
    """Add the published numbers to the measured ones, see `Results.measured`.

    Args:
        results: results of a table.

    Returns:
        The measured rows with three more columns, as shares; NaN where nothing was published. `paper` is the published
        number. `rerun` is that of an independent rerun of the official code. `difference` is measured - paper. A
        published mean appears only if the results cover all its categories.
    """
    numbers, frame = published_numbers(), results.measured()
    numbers = numbers[(numbers["dataset"] == results.benchmark.published) & (numbers["unit"] == "%")]
    numbers = numbers.fillna({"backbone": ""}).replace({"category": {"average": MEAN}, "metric": KIT_NAMES})
    if set(results.categories) != set(results.benchmark.categories):
        numbers = numbers[numbers["category"] != MEAN]
    lines = pd.MultiIndex.from_arrays([frame["row"].map(results.table.published), frame["metric"], frame["category"]])
    for column, beginning in VARIANTS.items():
        chosen = numbers[numbers["variant"].str.startswith(beginning)].groupby(["backbone", "metric", "category"])
        frame[column] = chosen["value"].first().reindex(lines).to_numpy() / 100
    return frame.assign(difference=frame["mean"] - frame["paper"])


def text_table(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Format one metric of a table as text.

    Args:
        frame: result of `Results.measured` or `beside_published`.
        metric: a key of `METRICS`.

    Returns:
        One row per row of the table and one column per category: mean ± standard deviation [interval]. It is empty if
        no run is stored.

    Raises:
        KeyError: `metric` is unknown.
    """
    part = frame[(frame["metric"] == metric) & (frame["seeds"] > 0)]
    text = part.assign(text=[_text(line) for _, line in part.iterrows()])
    return text.pivot(index="row", columns="category", values="text").fillna("").reindex(
        index=part["row"].unique(), columns=part["category"].unique()).rename_axis(index=None, columns=METRICS[metric])


def _text(line: pd.Series) -> str:
    parts = {"std": " ± {std:.3f}", "low": " [{low:.3f}, {high:.3f}]",
             "paper": "; paper {paper:.3f} ({difference:+.3f})", "rerun": "; official code {rerun:.3f}"}
    text = f"{line['mean']:.3f}" + "".join(part.format(**line) for name, part in parts.items()
                                           if not np.isnan(line.get(name, np.nan)))
    return text + (f" ({line['seeds']} of {line['of']} seeds)" if line["seeds"] < line["of"] else "")


def write_report(results: Results, folder: Path) -> Path:
    """Write a table as NAME.csv and NAME.md, and as NAME-epochs.csv if runs recorded metrics by epoch.

    Args:
        results: results of the table.
        folder: folder to write to; created if necessary.

    Returns:
        The path of the Markdown file.

    Raises:
        OSError: the files cannot be written.
    """
    frame, by_epoch = beside_published(results), results.curves()
    frame = frame[frame["seeds"] > 0]
    blocks = [text_table(frame, metric) for metric in METRICS if metric in set(frame["metric"])]
    path = folder / f"{results.table.name}-{results.benchmark.name}.md"
    write_csv(frame, path.with_suffix(".csv"))
    if len(by_epoch):
        blocks.append(swings(by_epoch.assign(value=by_epoch["image_auroc"])))
        write_csv(by_epoch, path.with_name(f"{path.stem}-epochs.csv"))
    # Markdown has one line of headings, so the metric stands above the rows' labels.
    parts = [f"# {results.table.title}: {results.benchmark.title}",
             *(block.rename_axis(block.columns.name).to_markdown() for block in blocks),
             f"*{results.provenance()} {LEGEND}*"]
    with written_atomically(path) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV. Six decimals hide the differences between versions of numpy."""
    with written_atomically(path) as temporary:
        frame.round(6).to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")
