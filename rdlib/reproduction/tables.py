"""Define the paper's tables as grids of runs: a table defines the rows to compare, a benchmark the data."""
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from rdlib.datasets import downloads
from rdlib.reproduction.judging import MAIN
from rdlib.reproduction.store import RunConfig
from rdlib.synthetic import CATEGORIES
from rdlib.utils.errors import check_choice, checked


@dataclass(frozen=True)
class Row:
    """A row of a table: the settings that it changes, and how its maps are scored.

    Args:
        label: name of the row, unique in its table.
        change: settings of `RunConfig` by name; they replace the benchmark's.
        scored_by: a key of a result's "scored_by".
    """

    label: str
    change: dict = field(default_factory=dict, hash=False)
    scored_by: str = MAIN


@dataclass(frozen=True)
class Table:
    """A table of the paper: the rows that are compared.

    Args:
        name: key in `TABLES`; the names of the written files begin with it.
        title: title above the table.
        rows: the rows, in order.
        published: for the label of a row, its backbone in published.csv, or "" if the file names none.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    published: dict[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Benchmark:
    """The data on which a table's rows are compared, and the settings that they share.

    Args:
        name: key in `BENCHMARKS`, and the end of the names of the written files.
        title: name of the data set in a title.
        published: name of the data set in published.csv.
        categories: categories of the data set.
        base: shared settings; their `dataset` is the family, the first part of a name for `load_dataset`.
        seeds: seeds of the runs of each row and category.
    """

    name: str
    title: str
    published: str
    categories: tuple[str, ...]
    base: RunConfig
    seeds: tuple[int, ...] = (0,)


class GridPoint(NamedTuple):
    """A run and its place in a table.

    Args:
        row: row of the table.
        category: category of the benchmark.
        config: settings of the run.
    """

    row: Row
    category: str
    config: RunConfig


def _read(name: str) -> dict[str, dict]:
    """Read a list that ships with this package: tables or benchmarks by their names."""
    return tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


TABLES = {name: Table(name, table["title"], tuple(Row(label, scored_by=row.pop("scored_by", MAIN), change=row)
                                                  for label, row in table["rows"].items()),
                      table.get("published", {})) for name, table in _read("tables.toml").items()}
BENCHMARKS = {name: Benchmark(name, data["title"], data.get("published", data["title"]),
                              tuple(data.get("categories") or downloads.CATEGORIES[name]),
                              RunConfig(data.get("family", name), **data.get("base", {})),
                              tuple(data.get("seeds", [0])))
              for name, data in _read("benchmarks.toml").items()}


@checked
def grid(table: Table, benchmark: Benchmark, categories: Sequence[str] | None = None,
         seeds: Sequence[int] | None = None, **changes: Any) -> list[GridPoint]:
    """List every run of a table on a benchmark.

    The embedded teacher is a ResNet-18, so its runs with other backbones are left out.

    Args:
        table: the rows to compare.
        benchmark: data and shared settings.
        categories: use these categories; None: the benchmark's.
        seeds: use these seeds; None: the benchmark's.
        changes: settings that replace the benchmark's, but not a row's own settings.

    Returns:
        One point per row, category and seed, in this order.

    Raises:
        ValueError: the benchmark has no such category.
        TypeError: `changes` has a name that is no setting of `RunConfig`.
    """
    family = benchmark.base.dataset
    known = CATEGORIES if family == "synthetic" else benchmark.categories  # synthetic: its own are a choice
    for category in categories or ():
        check_choice(f"category of {benchmark.title}", category, known)
    points = [GridPoint(row, category, replace(benchmark.base, **{
                  **changes, **row.change, "dataset": f"{family}/{category}".rstrip("/"), "seed": seed}))
              for row in table.rows
              for category in dict.fromkeys(categories or benchmark.categories)
              for seed in dict.fromkeys(seeds or benchmark.seeds)]
    return [point for point in points if point.config.weights != "embedded" or point.config.backbone == "resnet18"]
