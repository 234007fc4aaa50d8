"""Make the tables of the results page from stored runs: the main table, published numbers, ablations."""
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd

from rdlib.reproduction import Results, Row, load_results, published_numbers
from rdlib.reproduction.report import KIT_NAMES
from rdlib.reproduction.results import AVERAGED, MEAN, NOT_RUN

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "data" / "results"
SHOWN = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}
MEASURED = SHOWN | {"aupro_per_image": "AUPRO per image"}
PUBLISHED = {name: MEASURED[name] for name in ("image_auroc", "pixel_auroc", "aupro_per_image")}
BACKBONES = {"resnet18": "ResNet-18", "resnet50": "ResNet-50", "wide_resnet50_2": "Wide-ResNet-50-2"}
TEACHERS = {"embedded": "the kit's weights", "imagenet": "ImageNet", "random": "random weights",
            "random_calibrated": "random weights, BatchNorm calibrated"}
LOSSES = {"flattened": "flattened loss", "positional": "loss by position"}
# The data sets of the main table, with the tables whose rows it shows. The first row stands beside published numbers.
MAIN_TABLE = {"screw": ("loss", "protocol"), "magnetic_tile_30": ("loss",), "magnetic_tile": ("teacher",),
              "photo": ("teacher",), "synthetic": ("teacher",),
              "digits": ("novelty",), "mnist": ("novelty",), "fashion_mnist": ("novelty",)}
VARIANTS = "RD4AD (paper", "official code", "paddle port", "anomalib"  # of published.csv, by how they begin
NOT_FOUND = "not found"  # no citable source has the paper's number


@cache
def loaded(table: str, dataset: str, folder: Path) -> Results:
    """Load stored results, once a process."""
    return load_results(table, dataset, folder=folder)


def load(table: str, dataset: str) -> Results:
    """Load stored results, from any working folder."""
    return loaded(table, dataset, RESULTS / "runs")


def markdown(rows: Iterable[Iterable], head: Iterable[str]) -> str:
    """Return a Markdown table. A mean and its deviation stay on one line."""
    head = list(head)
    lines = ("| " + " | ".join(map(str, line)) + " |" for line in (head, ["---"] * len(head), *rows))
    return "\n".join(lines).replace(" ± ", "\u00a0±\u00a0")


def spread(values: Iterable[float], otherwise: str = NOT_RUN) -> str:
    """Return "mean ± standard deviation" over seeds."""
    values = list(values)
    if not values:
        return otherwise
    return f"{statistics.fmean(values):.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def by_seed(results: Results, row: Row, metric: str) -> dict[int, float]:
    """Return the mean over the categories for every seed that has all of them."""
    return {seed: value for seed, (value, _) in results.by_seed(row, results.categories, metric).items()}


def number(results: Results, row: Row, metric: str) -> str:
    """Return mean ± standard deviation over seeds of the mean over the categories, or what is missing."""
    runs = {point.config for point in results.points if point.row is row}
    done = len(runs & results.runs.keys())
    recorded = by_seed(results, row, "image_auroc")  # then the metric is one that these runs do not record
    missing = NOT_RUN if not done else "–" if recorded else f"{done} of {len(runs)} runs so far"
    return spread(by_seed(results, row, metric).values(), missing)


def averaged(results: Results) -> Results:
    """Return the rows whose runs have averaged weights, scored with them."""
    points = [point for point in results.points if point.config.ema and point.row.scored_by != AVERAGED]
    rows = {point.row: replace(point.row, label=f"{point.row.label}, averaged weights", scored_by=AVERAGED)
            for point in points}
    return replace(results, points=[point._replace(row=rows[point.row]) for point in points])


def both(results: Results) -> Iterator[tuple[Results, Row]]:
    """Go through the rows, each with its averaged weights after it."""
    other = averaged(results)
    extra = {row.label: row for row in dict.fromkeys(point.row for point in other.points)}
    for row in dict.fromkeys(point.row for point in results.points):
        yield results, row
        if (label := f"{row.label}, averaged weights") in extra:
            yield other, extra[label]


def published(results: Results) -> pd.DataFrame:
    """Return the published numbers of RD4AD for the data of the results, as shares, with the kit's names."""
    numbers = published_numbers().replace({"metric": KIT_NAMES}).fillna({"backbone": ""})
    whole = len(results.categories) > 1
    category = "average" if whole else results.categories[0]
    named = (numbers["dataset"] == results.benchmark.published) & (numbers["category"] == category)
    numbers = numbers[named & numbers["variant"].str.startswith(VARIANTS) & numbers["unit"].isin(["%", "fraction"])]
    return numbers.assign(value=numbers["value"] / numbers["unit"].map({"%": 100, "fraction": 1}))


def papers_number(results: Results, value: float | None) -> str:
    """Return the paper's image AUROC with its backbone, and how far `value` is from it."""
    numbers = published(results)
    found = numbers[numbers["variant"].str.startswith(VARIANTS[0]) & (numbers["metric"] == "image_auroc")]
    if found.empty:
        return NOT_FOUND if results.benchmark.name == "mnist" else "–"
    line = found.iloc[0]
    backbone = BACKBONES.get(line["backbone"], "backbone unknown")
    return f"{line['value']:.3f}" + ("" if value is None else f" ({value - line['value']:+.3f})") + f", {backbone}"


def link_of(source: str, text: str) -> str:
    """Link the source of a published number."""
    where = source.partition(" (")[0]
    if where.startswith("github:"):
        repository, _, path = where.removeprefix("github:").partition(" ")
        name, _, commit = repository.partition("@")
        where = f"https://github.com/{name}/blob/{commit or 'HEAD'}/{path}"
    return f"[{text}]({where.replace(' ', '%20')})"


def beside(dataset: str) -> str:
    """Return the published numbers of RD4AD on a data set, each with its recipe and what is measured here minus it."""
    results = load(MAIN_TABLE[dataset][0], dataset)
    numbers, first = published(results), results.points[0].row
    own = {metric: by_seed(results, first, metric) for metric in PUBLISHED}
    rows = []
    numbers = numbers.assign(origin=numbers["source"].str.partition(" ")[0])
    for (_, variant, backbone), group in numbers.groupby(["origin", "variant", "backbone"], sort=False):
        values = group.drop_duplicates("metric").set_index("metric")["value"]
        gaps = {metric: f" ({statistics.fmean(found.values()) - values[metric]:+.3f})"
                for metric, found in own.items() if found and metric in values}
        cells = [f"{values[metric]:.3f}" + gaps.get(metric, "") if metric in values else "–" for metric in PUBLISHED]
        line = group.iloc[0]
        links = dict.fromkeys(link_of(*pair) for pair in group[["source", "table"]].itertuples(index=False))
        rows.append([", ".join(links), variant, BACKBONES.get(backbone, "unknown"), line["resolution"], line["seeds"],
                     line["epoch"], *cells])
    head = ["source", "recipe", "backbone", "resolution", "seed", "epoch", *PUBLISHED.values()]
    return (f"{markdown(rows, head)}\n\n*{results.benchmark.title}. In brackets: the line “{own_line(results, first)}” "
            "of the main table minus the published number.*")


def own_line(results: Results, row: Row) -> str:
    """Describe the recipe of a row."""
    config = next(point.config for point in results.points if point.row is row)
    parts = [LOSSES[config.loss], {"bf16": "bfloat16"}.get(config.precision, config.precision)]
    parts += [row.label] * (results.table.name == "novelty") + ["averaged weights"] * (row.scored_by == AVERAGED)
    return ", ".join(parts)


def files_of(results: Results, row: Row) -> str:
    """Link the result files of a row: one for each seed, and by category if the data set has several."""
    several, found = len(results.categories) > 1, dict[str, list[str]]()
    for point in results.points:
        if point.row is row and point.config in results.runs:
            name = point.category if several else point.config.seed
            link = f"[{name}](runs/{point.config.key}.json)"
            found.setdefault(f"seed {point.config.seed}" if several else "files", []).append(link)
    return "; ".join(f"{name}: {', '.join(links)}" for name, links in found.items())


def best_epoch(results: Results, row: Row) -> str:
    """Return the image AUROC at the best recorded epoch of every run, mean ± standard deviation over seeds."""
    curves = results.curves().query("row == @row.label")
    best = curves.groupby(["seed", "category"])["image_auroc"].max().groupby("seed").mean()
    return spread(best, "–")


def main_table() -> str:
    """Return a line per data set and recipe with stored runs, at the last epoch."""
    lines = []
    for dataset, tables in MAIN_TABLE.items():
        seen, before = set(), len(lines)
        title = ""
        for results, row in (pair for table in tables for pair in both(load(table, dataset))):
            title, configs = results.benchmark.title, [point.config for point in results.points if point.row is row]
            key = (*configs, row.scored_by)
            if key in seen or not set(configs) & results.runs.keys():
                continue
            seen.add(key)
            values, config = by_seed(results, row, "image_auroc"), configs[0]
            lines.append([title, f"{BACKBONES[config.backbone]}, {TEACHERS[config.weights]}", own_line(results, row),
                          config.epochs, ", ".join(map(str, values)) or "–",
                          number(results, row, "image_auroc"), best_epoch(results, row),
                          *(number(results, row, metric) for metric in list(MEASURED)[1:]),
                          papers_number(results, statistics.fmean(values.values()) if values else None),
                          files_of(results, row)])
        if len(lines) == before:
            lines.append([title, NOT_RUN, *[""] * 10])
    head = ["data", "backbone, teacher", "recipe", "epochs", "seeds", "image AUROC", "at its best epoch",
            *list(MEASURED.values())[1:], "image AUROC of the paper (difference)", "result files"]
    return markdown(lines, head)


def overview(table: str, dataset: str) -> str:
    """Return a table of an ablation: a line per row, mean over categories ± standard deviation over seeds."""
    results = load(table, dataset)
    rows = [[row.label, *(number(results, row, metric) for metric in SHOWN)]
            for row in dict.fromkeys(point.row for point in results.points)]
    head = f"{results.table.title}: {results.benchmark.title}"
    return f"{markdown(rows, [head, *SHOWN.values()])}\n\n*{results.provenance()}*"


def novelty(dataset: str) -> str:
    """Return image AUROC by normal class."""
    results = load("novelty", dataset)
    groups = [*([name] for name in results.categories), results.categories]
    rows = [[row.label, *(spread(value for value, _ in results.by_seed(row, group, "image_auroc").values())
                          for group in groups)] for row in dict.fromkeys(point.row for point in results.points)]
    head = [f"{results.benchmark.title}: normal class", *results.categories, MEAN]
    return f"{markdown(rows, head)}\n\n*{results.provenance()}*"


PARTS: dict[str, Callable[[], str]] = {
    "main_table": main_table,
    "beside_screw": lambda: beside("screw"), "beside_fashion": lambda: beside("fashion_mnist"),
    "digits": lambda: novelty("digits"), "mnist": lambda: novelty("mnist"), "fashion": lambda: novelty("fashion_mnist")}
