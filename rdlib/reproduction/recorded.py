"""What the runs on record say of a table: found whichever teacher's file they used, and compared run by run."""
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rdlib.reproduction.config import RunConfig, from_dict, weights_id
from rdlib.reproduction.single import MAIN
from rdlib.reproduction.store import ResultStore
from rdlib.reproduction.tables import Cell, Row

NOT_RUN = "not run here"
EFFECTS = ["row", "value", "difference", "std", "low", "high", "seeds", "verdict"]


def recorded(cells: Sequence[Cell], store: ResultStore) -> list[Cell]:
    """The same cells, each with the run on record that is its own but for the teacher's file, where there is one.

    Which file a teacher came from is part of a run's key, but who reads results need not have that file. The embedded
    teacher is the exception: it ships with the kit, and results of its earlier versions are not its own.
    """
    found: dict[RunConfig, RunConfig] = {}
    for path in sorted(store.folder.glob("*.json")):
        try:
            config = from_dict(json.loads(path.read_text())["config"])
        except (ValueError, KeyError, TypeError):  # no result, or one of another version of the kit
            continue
        if path == store.path(config):
            found.setdefault(replace(config, weights_id=None), config)

    def on_record(config: RunConfig) -> RunConfig:
        if config.weights == "embedded":
            return replace(config, weights_id=weights_id("embedded"))
        return config if store.has(config) else found.get(replace(config, weights_id=None), config)

    return [cell._replace(config=on_record(cell.config)) for cell in cells]


def complete(cells: Sequence[Cell], store: ResultStore) -> list[Cell]:
    """The cells of those categories on which most can be compared: the choice that makes the number of finished rows
    times that of categories largest, of equals the one with more rows. A row is finished on a category that has all its
    seeds on record. All cells where no row is finished anywhere."""
    missing = {(cell.row, cell.category) for cell in cells if not store.has(cell.config)}
    rows, categories = dict.fromkeys(cell.row for cell in cells), dict.fromkeys(cell.category for cell in cells)
    finished = [frozenset(category for category in categories if (row, category) not in missing) for row in rows]
    rows_with = {own: sum(own <= other for other in finished) for own in finished}
    best = max(finished, key=lambda own: (len(own) * rows_with[own], rows_with[own]))
    return [cell for cell in cells if not best or cell.category in best]


def effects(cells: Sequence[Cell], store: ResultStore, reference: str, metric: str = "image_auroc") -> pd.DataFrame:
    """What changing one thing is worth: every row of a table against its row `reference`, run by run.

    A seed counts where both rows have all categories. Its difference is that of the means over the categories.

    Returns:
        One line a row, in the table's order: value, the mean of the seeds that count (of all of its own complete ones
        in the reference's line); difference from the reference; std, the difference's standard deviation over seeds;
        low and high, its 95 % interval over resampled test images, which are the same ones in both rows; seeds, how
        many count; verdict, in words. "Clearly" asks both of the interval to leave out 0 and, from two seeds on, of the
        difference to exceed two of its standard deviations; "unclear" names what it fails by.

    Raises:
        ValueError: no row is called `reference`.
    """
    rows = {cell.row.label: cell.row for cell in cells}
    if reference not in rows:
        raise ValueError(f"There is no row '{reference}'. Choose of {', '.join(rows)}.")
    values = {label: _by_seed([cell for cell in cells if cell.row is row], row, store, metric)
              for label, row in rows.items()}
    lines = []
    for label, own in values.items():
        pairs = [(own[seed], values[reference][seed]) for seed in own if seed in values[reference]]
        configs = {cell.config for cell in cells if cell.row.label == label}
        done = sum(map(store.has, configs))
        missing = NOT_RUN if not done else f"{done} of {len(configs)} runs so far"
        missing = "its reference was not run" if own and not values[reference] else missing
        lines.append((label, *_effect(pairs, label == reference, missing)))
    return pd.DataFrame(lines, columns=EFFECTS)


def _by_seed(cells: Sequence[Cell], row: Row, store: ResultStore, metric: str) -> dict[int, tuple[float, NDArray]]:
    """The metric of every seed that has all categories: its mean over them, and the same of every resampling (R,)."""
    found = {}
    for seed in dict.fromkeys(cell.config.seed for cell in cells):
        results = [store.read(cell.config) for cell in cells if cell.config.seed == seed]
        if any(result is None for result in results):
            continue
        places = [result["scored_by"].get(row.scored_by, {}) for result in results]
        numbers = [result["metrics"] if row.scored_by == MAIN else place
                   for result, place in zip(results, places, strict=True)]
        value = np.mean([number.get(metric, np.nan) for number in numbers])
        resampled = [result["bootstrap"].get(row.scored_by, {}).get(metric) for result in results]
        if value == value and all(resampled):
            found[seed] = value, np.mean(resampled, axis=0) / 1e4
    return found


def _effect(pairs: Sequence[tuple], is_reference: bool, missing: str) -> tuple:
    """A line of `effects` without its label, from the pairs (own, reference) of the seeds."""
    if not pairs:
        return *[np.nan] * 5, 0, missing
    value, n = np.mean([own[0] for own, _ in pairs]), len(pairs)
    if is_reference:
        return value, *[np.nan] * 4, n, "reference"
    differences = np.array([own[0] - reference[0] for own, reference in pairs])
    mean, std = differences.mean(), differences.std(ddof=1) if n > 1 else np.nan
    low, high = np.percentile(np.mean([own[1] - reference[1] for own, reference in pairs], axis=0), (2.5, 97.5))
    return value, mean, std, low, high, n, _verdict(mean, std, low, high)


def _verdict(mean: float, std: float, low: float, high: float) -> str:
    sign = "better" if mean > 0 else "worse"
    if low <= 0 <= high:
        return "unclear: test images"
    if std != std:
        return f"{sign}, one seed"
    return f"clearly {sign}" if abs(mean) > 2 * std else "unclear: seeds"
