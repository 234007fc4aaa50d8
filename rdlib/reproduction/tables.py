"""Define the paper's tables as grids of runs: a table defines the rows to compare, a benchmark the data."""
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from rdlib.datasets import downloads
from rdlib.reproduction.config import RunConfig
from rdlib.reproduction.single import MAIN, SCALE_SETS
from rdlib.synthetic import CATEGORIES
from rdlib.utils.errors import check_choice


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
        title: name of the data set in a title.
        categories: categories of the data set.
        base: shared settings; their `dataset` is the family, the first part of a name for `load_dataset`.
        seeds: seeds of the runs of each row and category.
    """

    title: str
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


def _rows(setting: str, values: dict[str, str]) -> tuple[Row, ...]:
    """Return a row for each label that gives the setting its value."""
    return tuple(Row(label, {setting: value}) for label, value in values.items())


TABLES = {table.name: table for table in (
    Table("main", "Anomaly detection and localization, by backbone",
          _rows("backbone", {"WRN-50-2": "wide_resnet50_2", "ResNet-18": "resnet18", "ResNet-50": "resnet50"}),
          {"WRN-50-2": "wide_resnet50_2"}),
    Table("ocbe", "Parts of the bottleneck",
          _rows("bottleneck", {"teacher's layer4, frozen": "pre", "OCE on f3, random, frozen": "pre_random",
                               "OCE on f3, trained": "oce", "MFF + OCE (OCBE)": "mff_oce"})),
    Table("scales", "Scales in training and in the anomaly map",
          (*(Row(f"trained and scored: M{' + M'.join(name)}", {"train_scales": scales}, name)
             for name, scales in SCALE_SETS.items()),
           *(Row(f"all trained, scored: M{' + M'.join(name)}", {}, name) for name in SCALE_SETS if name != MAIN))),
    Table("readout", "Loss, fusion, smoothing",
          (Row("flattened loss, added, smoothed (default)"), Row("loss by position (eq. 2)", {"loss": "positional"}),
           Row("maps multiplied", scored_by=f"{MAIN} multiply"),
           Row("maps not smoothed", scored_by=f"{MAIN} unsmoothed"))),
    Table("teacher", "Weights of the teacher",
          _rows("weights", {"random": "random", "random, BatchNorm calibrated": "random_calibrated",
                            "procedural images (embedded)": "embedded", "ImageNet": "imagenet"})),
    Table("novelty", "One-class novelty detection",
          (Row("sum of the map"), Row("maximum of the map", scored_by=f"{MAIN} max")), {"sum of the map": ""}),
    Table("baselines", "Reverse distillation and its baselines",
          (Row("reverse distillation"),
           Row("forward student (loss by position)", {"method": "forward", "loss": "positional"}),
           Row("memory bank (nearest neighbour)", {"method": "memory"}))),
    Table("stability", "Learning-rate schedule and averaged student, by epoch",
          (Row("constant rate (official)", {"curve_every": 1}),
           Row("cosine schedule", {"curve_every": 1, "schedule": "cosine"}),
           Row("averaged student, 0.99", {"curve_every": 1, "ema": 0.99}),
           Row("cosine and averaged", {"curve_every": 1, "schedule": "cosine", "ema": 0.99}))),
)}

_SMALL: dict[str, Any] = {"backbone": "resnet18", "size": 128, "sigma": 2.0, "precision": "bf16", "epochs": 10}
_TINY: dict[str, Any] = {"backbone": "resnet18", "size": 32, "score": "sum"}
_CLASSES = tuple("0123456789")
BENCHMARKS = {benchmark.base.dataset: benchmark for benchmark in (
    Benchmark("MVTec AD", downloads.CATEGORIES["mvtec"], RunConfig("mvtec")),
    Benchmark("VisA", downloads.CATEGORIES["visa"], RunConfig("visa")),
    Benchmark("BTAD", downloads.CATEGORIES["btad"], RunConfig("btad")),
    Benchmark("procedural benchmark", ("weave", "wood", "gear", "connector"),  # two textures and two objects
              RunConfig("synthetic", weights="embedded", n_train=100, batch_size=4, **_SMALL), (0, 1, 2)),
    Benchmark("magnetic tiles", ("",), RunConfig("magnetic_tile", **_SMALL)),
    Benchmark("digits of scikit-learn", _CLASSES,
              RunConfig("digits", weights="embedded", epochs=20, normalize=False, **_TINY)),
    Benchmark("MNIST", _CLASSES, RunConfig("mnist", epochs=4, normalize=False, **_TINY)),
    Benchmark("Fashion-MNIST", _CLASSES, RunConfig("fashion_mnist", epochs=4, normalize=False, **_TINY)),
    Benchmark("CIFAR-10", _CLASSES, RunConfig("cifar10", epochs=4, **_TINY)),
)}


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
              for row in table.rows for category in categories or benchmark.categories
              for seed in seeds or benchmark.seeds]
    return [point for point in points if point.config.weights != "embedded" or point.config.backbone == "resnet18"]
