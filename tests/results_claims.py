"""Make the sections of the results page on the paper's claims: tables, verdicts, measures, the number of images."""
import json
import statistics
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
from results_tables import NOT_FOUND, ROOT, SHOWN, by_seed, load, markdown, number, published, spread

from rdlib.reproduction.results import NOT_RUN
from rdlib.threshold import rate_bound

JUDGED = {name: SHOWN[name] for name in ("image_auroc", "aupro")}
CONFIDENCE = 0.95


class Claim(NamedTuple):
    """A claim: in a table, the rows that begin so are worse than the reference row, on every data set."""

    table: str
    reference: str
    rows: str
    datasets: tuple[str, ...]


CLAIMS = {
    "direction": Claim("direction", "reverse, flattened", "forward", ("synthetic", "magnetic_tile_5")),
    "ocbe": Claim("ocbe", "MFF + OCE (OCBE)", "", ("synthetic", "magnetic_tile")),
    "scales": Claim("scales", "trained and scored: M1 + M2 + M3", "trained and scored", ("synthetic", "magnetic_tile")),
    "loss": Claim("loss", "flattened (official code)", "by position", ("screw", "magnetic_tile_30", "synthetic"))}
NOVELTY = "mnist", "fashion_mnist"
CLASSES = "sum of the map"


def effects(claim: Claim, dataset: str, metric: str) -> pd.DataFrame:
    """Return the differences from the reference row, by label; p is NaN where no test was made."""
    frame = load(claim.table, dataset).effects(claim.reference, metric).set_index("row")
    return frame.reindex(columns=["difference", "std", "seeds", "p", "verdict"])


def p_value(p: float) -> str:
    """Write p with three decimals; a dash where no test was made."""
    return "–" if p != p else "< 0.001" if p < 0.001 else f"{p:.3f}"


def claim_table(claim: Claim) -> str:
    """Return the rows of all data sets with their differences from the reference row, p and verdicts."""
    lines, notes = [], []
    for dataset in claim.datasets:
        results = load(claim.table, dataset)
        found = {metric: effects(claim, dataset, metric) for metric in JUDGED}
        notes.append(f"{results.benchmark.title}: {results.provenance()}")
        for row in dict.fromkeys(point.row for point in results.points):
            cells = []
            for metric, frame in found.items():
                line = frame.loc[row.label]
                shown = f"{line['difference']:+.3f}" if line["difference"] == line["difference"] else "–"  # not NaN
                shown += f" ± {line['std']:.3f}" if line["std"] >= 0 else ""
                cells += [number(results, row, metric), shown,
                          p_value(line["p"]), line["verdict"]]
            lines.append([results.benchmark.title, row.label, found["image_auroc"].loc[row.label, "seeds"], *cells])
    parts = [part for title in JUDGED.values() for part in (title, "difference", "p", "verdict")]
    return f"{markdown(lines, ['data', 'row', 'seeds', *parts])}\n\n*{' '.join(notes)}*"


def judged(verdicts: list[str]) -> str:
    """Say in words what the verdicts of the claim's rows show."""
    worse, better, same = (verdicts.count(word) for word in ("worse", "better", "no difference shown"))
    rows = len(verdicts)
    if not worse + better + same:
        return NOT_RUN if set(verdicts) == {NOT_RUN} else "no verdict yet"
    found = ("mixed" if worse and better else "contradicted" if better else "not shown" if not worse else
             "shown" if worse == rows else "shown in part")
    return f"{found}, {worse} of {rows} rows are worse and {better} better"


def verdict(claim: Claim) -> str:
    """Return one line: whether the claim is shown, by metric and data set."""
    said = []
    for metric, title in JUDGED.items():
        parts = []
        for dataset in claim.datasets:
            frame = effects(claim, dataset, metric).drop(claim.reference)
            own = frame[frame.index.str.startswith(claim.rows)]
            parts.append(f"{load(claim.table, dataset).benchmark.title}: {judged(own['verdict'].tolist())}")
        said.append(f"{title[0].upper()}{title[1:]}: {'; '.join(parts)}.")
    return f"**Verdict.** {' '.join(said)}"


def novelty_claim() -> str:
    """Return the means of one-class novelty detection beside the published ones, and the verdict in words."""
    rows, said = [], []
    for dataset in NOVELTY:
        results = load("novelty", dataset)
        row = next(row for row in results.table.rows if row.label == CLASSES)
        values, numbers = list(by_seed(results, row, "image_auroc").values()), published(results)["value"]
        paper, title = (numbers.iloc[0] if len(numbers) else None), results.benchmark.title
        gap = statistics.fmean(values) - paper if values and paper is not None else None
        rows.append([title, row.label, number(results, row, "image_auroc"), len(values),
                     NOT_FOUND if paper is None else f"{paper:.3f}", "–" if gap is None else f"{gap:+.3f}"])
        said.append(f"{title}: " + (NOT_RUN if not values else "no published number found" if gap is None else
                                    f"{abs(gap):.3f} {'below' if gap < 0 else 'above'} the paper's mean"))
    head = ["data, one class normal", "row", "image AUROC", "seeds", "the paper's", "difference"]
    return f"**Verdict.** {'; '.join(said)}.\n\n{markdown(rows, head)}"


def measures(table: str, dataset: str = "synthetic") -> str:
    """Return what students do with defects of drawn scenes: mean over the categories ± over seeds, by row."""
    results, lines, names = load(table, dataset), {}, dict[str, None]()
    for row in dict.fromkeys(point.row for point in results.points):
        points = [point for point in results.points if point.row is row]
        by: dict[int, list[dict]] = {}
        for point in points:
            by.setdefault(point.config.seed, []).append(results.runs.get(point.config, {}).get("measures", {}))
        lines[row.label] = [pd.DataFrame(found).mean() for found in by.values() if all(found)]  # all categories
        names |= dict.fromkeys(name for found in lines[row.label] for name in found.index)
    if not names:
        return "No run has recorded these measures yet."
    rows = [[label, *(spread((line[name] for line in found if name in line), "–") for name in names)]
            for label, found in lines.items()]
    return markdown(rows, [f"{results.table.title}: {results.benchmark.title}", *names])


def images() -> str:
    """Return the metrics by number of good images, and what that number of held-out images promises."""
    results = load("images", "magnetic_tile")
    record = json.loads((ROOT / "data/pictures/magnetic_tiles.json").read_text(encoding="utf-8"))
    everything = record["trained_on"] + record["held_out"]
    rows = []
    for row in results.table.rows:
        n = row.change.get("n_train", everything)
        rows.append([n, row.change["epochs"], *(number(results, row, metric) for metric in SHOWN), f"1 in {n + 1}",
                     f"{100 * rate_bound(0, n, CONFIDENCE):.1f} %"])
    head = ["good images", "epochs", *SHOWN.values(), "false alarms on average, as held-out images",
            f"at most, with {100 * CONFIDENCE:.0f} % confidence"]
    return f"{markdown(rows, head)}\n\n*{results.provenance()}*"


PARTS: dict[str, Callable[[], str]] = {
    **{f"claim_{name}": lambda claim=claim: f"{verdict(claim)}\n\n{claim_table(claim)}"
       for name, claim in CLAIMS.items()},
    "claim_novelty": novelty_claim, "images": images,
    **{f"measures_{name}": lambda name=name: measures(name) for name in ("direction", "ocbe")}}
