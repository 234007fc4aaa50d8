"""Make the parts of the results page on metrics by epoch: agreement with the official modules, picked epochs."""
import json
import statistics
from collections.abc import Callable

import pandas as pd
import picked_epochs
import results_tables
from results_tables import ROOT, SHOWN, averaged, both, load, markdown, spread

from rdlib.reproduction import Results, Row, swings
from rdlib.reproduction.results import NOT_RUN

REFERENCE = ROOT / "data" / "reference"


def reference(name: str) -> dict:
    """Read a JSON file of data/reference."""
    return json.loads((REFERENCE / name).read_text(encoding="utf-8"))


def curve_table(dataset: str, metric: str = "image_auroc") -> pd.DataFrame:
    """Return a metric by epoch as text, a column per row of the table `loss` and for its averaged weights."""
    results = load("loss", dataset)
    curves = pd.concat([results.curves(), averaged(results).curves()])
    labels = [row.label for _, row in both(results)]
    text = curves.groupby(["epoch", "row"])[metric].agg(spread).unstack("row")
    return text.reindex(columns=labels).rename_axis(index="epoch", columns=None)


def curves_of_tiles() -> str:
    """Return the metrics of the magnetic tiles by epoch, and what the official modules reached."""
    tables = [curve_table("magnetic_tile_30", metric).rename_axis(index=f"{title}: epoch")
              for metric, title in SHOWN.items()]
    text = "\n\n".join(markdown(table.reset_index().to_numpy(), [table.index.name, *table]) for table in tables
                       if len(table)) or f"By epoch: {NOT_RUN}."
    record = reference("official_modules_magnetic_tile.json")
    values = ", ".join(f"{value:.3f}" for value in record["image_auroc"])
    seeds = ", ".join(map(str, record["seeds"]))
    return (f"{text}\n\n*{load('loss', 'magnetic_tile_30').provenance()}*\n\n"
            f"The official modules, trained in float32 for {record['epochs']} epochs, reached an image AUROC of "
            f"{values} (seeds {seeds}; {record['date']}).")


def agreement() -> str:
    """Return image AUROC on screw by epoch beside that of the official modules, and whether the criterion holds."""
    record, results = reference("official_modules_screw.json"), load("loss", "screw")
    (plain, first), (other, second) = list(both(results))[:2]
    table = curve_table("screw").reindex(index=record["epochs"], columns=[first.label, second.label])
    theirs = [[f"{value:.3f}" for value in record[f"image_auroc{kind}"]] for kind in ("", "_averaged")]
    rows = [[epoch, ours[0], official, ours[1], official_averaged] for epoch, ours, official, official_averaged in
            zip(record["epochs"], table.astype(object).fillna(NOT_RUN).to_numpy(), *theirs, strict=True)]
    head = ["epoch", "here", "official modules", "here, averaged weights", "official modules, averaged weights"]
    return "\n\n".join([markdown(rows, head), f"*{results.provenance()}*",
                        criterion(record, {"here": (plain, first), "here, averaged weights": (other, second)})])


def criterion(record: dict, ways: dict[str, tuple[Results, Row]]) -> str:
    """State the criterion of agreement, and whether runs on record meet it."""
    asked = record["criterion"]
    low, high = asked["image_auroc"]
    start, last = asked["from_epoch"], record["epochs"][-1]
    rows, verdicts = [], []
    for name, (results, row) in ways.items():
        curves = results.curves()
        curves = curves[curves["row"] == row.label]
        image = curves[curves["epoch"] >= start]["image_auroc"].mean()
        pixel, aupro = curves[curves["epoch"] == last][["pixel_auroc", "aupro"]].mean()
        seeds = {point.config.seed for point in results.points}
        verdicts.append(None if set(curves["seed"]) != seeds else
                        low <= image <= high and pixel >= asked["pixel_auroc"] and aupro >= asked["aupro"])
        shown = [NOT_RUN if curves.empty else f"{value:.3f}" for value in (image, pixel, aupro)]
        rows.append([name, *shown, {None: "–", True: "yes", False: "no"}[verdicts[-1]]])
    theirs = record["averaged_at_the_last_epoch"]
    mean = [statistics.fmean(v for epoch, v in zip(record["epochs"], record[f"image_auroc{kind}"], strict=True)
                             if epoch >= start) for kind in ("", "_averaged")]
    rows += [["official modules", f"{mean[0]:.3f}", "–", "–", "–"],
             ["official modules, averaged weights", f"{mean[1]:.3f}", f"{theirs['pixel_auroc']:.4f}",
              f"{theirs['aupro']:.3f}", "–"]]
    holds = ("It cannot be judged yet." if None in verdicts else "**It holds.**" if all(verdicts) else
             "**It does not hold.**")
    head = ["", f"image AUROC, epochs {start} to {last}", f"pixel AUROC at {last}", f"AUPRO at {last}", "is it met"]
    return (f"The criterion: image AUROC, averaged over the epochs {start} to {last} and the seeds, from {low} to "
            f"{high}. At epoch {last}, pixel AUROC at least {asked['pixel_auroc']}, and AUPRO at least "
            f"{asked['aupro']}. {holds}\n\n{markdown(rows, head)}")


def picked() -> str:
    """Return image AUROC at the last epoch and at the best ones on the test data, and what the public logs show."""
    frame = picked_epochs.rows(results_tables.RESULTS / "runs")
    gains = frame[["best", "own"]].sub(frame["last"], axis=0)
    rows = [[log, f"{line['last']:.3f}", f"{line['best']:.3f} ({gain['best']:+.3f})", line["epoch"],
             f"{line['own']:.3f} ({gain['own']:+.3f})", line["broken"] or "–"]
            for (log, line), (_, gain) in zip(frame.iterrows(), gains.iterrows(), strict=True)]
    logs = ~frame.index.str.startswith(picked_epochs.HERE)
    whole = gains[logs & (frame["broken"] == "")]
    (best, own), (best_whole, own_whole) = gains[logs].median(), whole.median()
    head = ["curve", "last epoch", "best epoch of the mean", "which", "each category at its own best",
            f"lost more than {picked_epochs.BROKEN} by the last epoch"]
    return (f"The median of the {logs.sum()} public logs: the best epoch of the mean is {best:.3f} above the last one. "
            f"With each category at its own best epoch, the mean is {own:.3f} above it. In {logs.sum() - len(whole)} "
            f"logs, a category had broken by the last epoch. Without these logs, the medians are {best_whole:.3f} "
            f"and {own_whole:.3f}.\n\n{markdown(rows, head)}")


def steadiness() -> str:
    """Return how image AUROC changes from epoch to epoch, by schedule and averaging."""
    results = load("stability", "synthetic").complete()
    if not results.stored:
        return f"{results.table.title}: {NOT_RUN}."
    found = swings(results.curves().assign(value=lambda curves: curves["image_auroc"]))
    head = f"image AUROC by epoch: {', '.join(results.categories)}"
    rows = [[label, *line] for label, line in zip(found.index, found.to_numpy(), strict=True)]
    return f"{markdown(rows, [head, *found.columns])}\n\n*{results.provenance()}*"


PARTS: dict[str, Callable[[], str]] = {
    "agreement": agreement, "curves_of_tiles": curves_of_tiles, "picked": picked, "steadiness": steadiness}
