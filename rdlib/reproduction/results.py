"""Read the stored results of a table: means with intervals, effects of a change, curves, provenance."""
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rdlib.evaluation import bootstrap
from rdlib.reproduction.judging import AVERAGED, MAIN
from rdlib.reproduction.store import ResultStore, RunConfig, weights_id
from rdlib.reproduction.tables import BENCHMARKS, TABLES, Benchmark, GridPoint, Row, Table, grid
from rdlib.utils.errors import check_choice, checked, warn

METRICS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO",
           "aupro_per_image": "AUPRO per image (official)"}
MEAN = "mean"
NOT_RUN = "not run here"


@dataclass(frozen=True)
class Results:
    """The stored results of a table on a benchmark.

    Args:
        table: the table.
        benchmark: the benchmark.
        points: the runs that the table needs.
        runs: the stored results by settings; a run that is missing here has not been executed.
    """

    table: Table
    benchmark: Benchmark
    points: list[GridPoint]
    runs: Mapping[RunConfig, dict]

    @property
    def configs(self) -> list[RunConfig]:
        """List the settings of every run that the table needs, without repetition."""
        return list(dict.fromkeys(point.config for point in self.points))

    @property
    def stored(self) -> list[dict]:
        """Return the results of the runs that have been executed."""
        return [self.runs[config] for config in self.configs if config in self.runs]

    @property
    def categories(self) -> list[str]:
        """List the categories of the runs."""
        return list(dict.fromkeys(point.category for point in self.points))

    def complete(self) -> "Results":
        """Keep the categories with the most finished rows, so that all rows are compared on the same images."""
        missing = {point[:2] for point in self.points if point.config not in self.runs}
        finished = Counter(category for _, category in {point[:2] for point in self.points} - missing)
        most = max(finished.values(), default=0)
        return replace(self, points=[point for point in self.points if finished[point.category] == most])

    def by_seed(self, row: Row, categories: Sequence[str], metric: str) -> dict[int, tuple[float, NDArray]]:
        """Return a row's mean over the categories, for every seed that has all of them.

        Args:
            row: a row of the table.
            categories: categories of the benchmark.
            metric: a key of `METRICS`.

        Returns:
            A pair for each seed: the metric, and its values on resampled test images, (R,) in units of 1e-4. Without
            these values, NaN takes their place.
        """
        found, points = {}, [point for point in self.points if point.row is row and point.category in categories]
        for seed in dict.fromkeys(point.config.seed for point in points):
            results = [self.runs.get(point.config) for point in points if point.config.seed == seed]
            values = [(result["metrics"] if row.scored_by == MAIN else result["scored_by"].get(row.scored_by, {}))
                      .get(metric, np.nan) if result else np.nan for result in results]
            resampled = [result["bootstrap"].get(row.scored_by, {}).get(metric) for result in results if result]
            if not np.isnan(values).any():
                found[seed] = float(np.mean(values)), np.mean(resampled if all(resampled) else [np.nan], axis=0)
        return found

    def measured(self) -> pd.DataFrame:
        """Summarize every row, category and metric, and the mean over the categories.

        Returns:
            One line per row, category and metric, NaN where no result is stored. `mean` and `std` are over seeds. `low`
            and `high` are the 95 % interval over test images. `seeds` counts the seeds with results, `of` the seeds
            that the table needs. The mean over the categories is NaN unless all runs of the row are stored.
        """
        lines, groups = [], {category: [category] for category in self.categories}
        groups |= {MEAN: self.categories} if len(groups) > 1 else {}
        for row in dict.fromkeys(point.row for point in self.points):
            seeds = {point.config.seed for point in self.points if point.row is row}
            for metric, (name, group) in product(METRICS, groups.items()):
                values = list(self.by_seed(row, group, metric).values())
                values = values if name != MEAN or len(values) == len(seeds) else []
                lines.append((row.label, name, metric, *_summary(values), len(values), len(seeds)))
        return pd.DataFrame(lines, columns=["row", "category", "metric", "mean", "std", "low", "high", "seeds", "of"])

    def effects(self, reference: str, metric: str = "image_auroc") -> pd.DataFrame:
        """Compare every row with a reference row, seed by seed, on the mean over the categories.

        Args:
            reference: label of the row to compare with.
            metric: a key of `METRICS`.

        Returns:
            One line per row. `value` is the metric, averaged over seeds. `difference` is `value` minus that of the
            reference, `std` its standard deviation over seeds. `low` and `high` are its 95 % interval over test images.
            `p` is that of a two-sided paired t-test over the seeds that both rows have; `seeds` counts them. With three
            or more, `verdict` is "better" or "worse" if p < 0.05, else "no difference shown". With fewer, p is NaN, and
            the verdict "shown, no verdict".

        Raises:
            ValueError: the table has no such row.
        """
        rows = {point.row.label: point.row for point in self.points}
        check_choice("row", reference, rows)
        base, lines = self.by_seed(rows[reference], self.categories, metric), []
        for label, row in rows.items():
            own = self.by_seed(row, self.categories, metric)
            pairs = [(own[seed], base[seed]) for seed in own if seed in base]
            done = [point.config in self.runs for point in self.points if point.row is row]
            changes = [(mine[0] - other[0], mine[1] - other[1]) for mine, other in pairs if label != reference]
            effect, p = _summary(changes), _p_value([change for change, _ in changes])
            verdict = ("reference" if pairs and label == reference else _verdict(effect[0], p) if pairs else
                       "its reference was not run" if own and not base else
                       f"{sum(done)} of {len(done)} runs so far" if any(done) else NOT_RUN)
            lines.append((label, np.mean([mine[0] for mine, _ in pairs] or np.nan), *effect, p, len(pairs), verdict))
        return pd.DataFrame(lines, columns=["row", "value", "difference", "std", "low", "high", "p", "seeds",
                                            "verdict"])

    def curves(self) -> pd.DataFrame:
        """Return the metrics by epoch, with the columns `row`, `category`, `seed`, `epoch`, and one per metric.

        Runs without metrics by epoch are left out.
        """
        lines = [(point.row.label, point.category, point.config.seed, int(epoch), *map(values.get, bootstrap.METRICS))
                 for point in self.points
                 for epoch, values in self.runs.get(point.config, {}).get(
                     "averaged_curve" if point.row.scored_by == AVERAGED else "curve", {}).items()]
        return pd.DataFrame(lines, columns=["row", "category", "seed", "epoch", *bootstrap.METRICS])

    def provenance(self) -> str:
        """Describe when, where and with which code the stored runs were executed."""
        if not self.stored:
            return "No run is stored."
        runs = pd.json_normalize([{**run, "bootstrap": None} for run in self.stored])
        names = ("date", "hardware", "versions.torch", "revision", "config.precision", "config.threads")
        date, hardware, torch, revision, precision, threads = (", ".join(sorted(set(map(str, runs[name]))))
                                                               for name in names)
        return (f"{len(runs)} of {len(self.configs)} runs, {date}; {hardware}; torch {torch}, revision {revision}; "
                f"{precision}, {threads} thread(s), {runs['seconds'].mean() / 60:.1f} minutes a run, "
                f"{runs['peak_memory_mb'].max()} MB at most.")


@checked
def load_results(table: str, dataset: str, categories: Sequence[str] | None = None, seeds: Sequence[int] | None = None,
                 *, folder: str | Path | None = None, files: Mapping[str, str] | None = None,
                 **changes: Any) -> Results:
    """Find the stored results of a table.

    Runs are found even if the file of their teacher's weights is missing here, but only those of one file. Runs with
    the embedded teacher are found only for the teacher that ships with the kit.

    Args:
        table: a key of `TABLES`.
        dataset: a key of `BENCHMARKS`.
        categories: use these categories; None: the benchmark's.
        seeds: use these seeds; None: the benchmark's.
        folder: folder of the result files; None: data/results/runs in the current folder or in the one above.
        files: files of teachers' weights by name; with a file, only runs with this file are found.
        changes: settings that replace the benchmark's.

    Returns:
        The table's runs, with the stored results.

    Raises:
        ValueError: `table` or `dataset` is unknown, or the benchmark has no such category.
        TypeError: `changes` has a name that is no setting of `RunConfig`.
        OSError: a file in `files` cannot be read.
    """
    check_choice("table", table, TABLES)
    check_choice("benchmark", dataset, BENCHMARKS)
    for name in changes.keys() & {"dataset", "seed"}:
        raise TypeError(f"load_results takes no {name}= of runs. Choose by dataset, categories and seeds.")
    places = [Path(folder)] if folder else [Path(start, "data", "results", "runs") for start in (".", "..")]
    points = grid(TABLES[table], BENCHMARKS[dataset], categories, seeds, **changes)
    store = ResultStore(next((place for place in places if place.is_dir()), places[0]))
    runs = store.read_all(point.config for point in points)
    wanted = {point.config for point in points}

    @cache
    def signature(weights: str) -> str | None:
        known = Counter(config.weights_id for config in runs
                        if config.weights == weights and replace(config, weights_id=None) in wanted)
        best = max(known, key=lambda file: (known[file], file is None), default=None)
        if given := weights_id(weights, (files or {}).get(weights)):
            return given
        if len(known) > 1:
            warn(f"Results with several files of the teacher '{weights}' are stored: {', '.join(map(str, known))}. "
                 f"Those with {best} are shown. Choose others by files= (--weights).")
        return best

    return Results(TABLES[table], BENCHMARKS[dataset],
                   [point._replace(config=replace(
                       point.config, weights_id=point.config.weights_id or signature(point.config.weights)))
                    for point in points], runs)


def swings(frame: pd.DataFrame) -> pd.DataFrame:
    """Measure how much the second half of every curve changes.

    Args:
        frame: columns `row`, `category`, `seed`, `epoch`, and `value`, the curve's metric.

    Returns:
        One line per row, as text: mean ± standard deviation over seeds. The columns are the value after the last epoch,
        and the best and the worst value of the second half. The last column, `swing`, is the mean absolute change
        between evaluations in the second half.
    """
    curves = frame.sort_values("epoch", kind="stable").groupby(["row", "category", "seed"], sort=False)["value"]
    half = curves.apply(lambda values: values.iloc[len(values) // 2:]).groupby(level=[0, 1, 2], sort=False)
    found = pd.DataFrame({"last epoch": half.last(), "best of last half": half.max(), "worst of last half": half.min(),
                          "swing": half.agg(lambda values: values.diff().abs().mean())})
    seeds = found.groupby(["row", "seed"], sort=False).mean().groupby("row", sort=False)
    text = seeds.mean().map("{:.3f}".format)
    text += seeds.std().map(lambda std: f" ± {std:.3f}" if std >= 0 else "")  # NaN for one seed
    return text.reindex(frame["row"].unique()).rename_axis(index=None, columns="image AUROC by epoch")


def _summary(values: Sequence[tuple[float, NDArray]]) -> tuple[float, float, float, float]:
    """Return mean and standard deviation over seeds, and the mean's interval over test images; NaN if unknown."""
    numbers, resampled = zip(*values or [(np.nan, np.array(np.nan))], strict=True)
    low, high = np.percentile(sum(resampled) / len(resampled) / 1e4, (2.5, 97.5))
    return float(np.mean(numbers)), float(np.std(numbers, ddof=1)) if len(numbers) > 1 else np.nan, low, high


def _p_value(differences: Sequence[float]) -> float:
    """Compute p of a two-sided paired t-test; NaN for fewer than three differences."""
    from scipy.stats import ttest_1samp  # here: slow to import

    rounded = np.round(differences, 12)  # rounding of the means is no difference
    if len(rounded) < 3:
        return np.nan
    return float(rounded[0] == 0) if np.ptp(rounded) == 0 else float(ttest_1samp(rounded, 0).pvalue)


def _verdict(difference: float, p: float) -> str:
    if np.isnan(p):
        return "shown, no verdict"
    return "no difference shown" if p >= 0.05 else "better" if difference > 0 else "worse"
