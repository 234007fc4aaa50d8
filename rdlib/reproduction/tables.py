"""The paper's tables as grids of runs: a table says what is compared, a benchmark on which data and for how long."""
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from rdlib.datasets.folders import BTAD_CATEGORIES, MVTEC_CATEGORIES, VISA_CATEGORIES
from rdlib.reproduction.config import RunConfig
from rdlib.reproduction.single import MAIN, SCALE_SETS
from rdlib.synthetic import CATEGORIES

NOT_STATED = "not stated"  # the backbone of some published numbers


@dataclass(frozen=True)
class Row:
    """A row of a table: the settings that it changes, and the way in which its maps are scored."""

    label: str
    change: dict = field(default_factory=dict, hash=False)
    scored_by: str = MAIN  # a key of a result's "scored_by"


@dataclass(frozen=True)
class Table:
    """What is compared."""

    name: str
    title: str
    rows: tuple[Row, ...]
    published: dict[str, str] = field(default_factory=dict, hash=False)  # label of a row -> backbone in published.csv


@dataclass(frozen=True)
class Benchmark:
    """The data on which a table's rows are compared, and the settings that they share."""

    title: str
    family: str  # of the data sets, as `load_dataset` takes it
    categories: tuple[str, ...]
    base: RunConfig
    seeds: tuple[int, ...] = (0, 1, 2)


class GridPoint(NamedTuple):
    """A run and its place in a table."""

    row: Row
    category: str
    config: RunConfig


def _rows(setting: str, values: dict[str, str]) -> tuple[Row, ...]:
    """Return a row for each label, which gives the setting its value."""
    return tuple(Row(label, {setting: value}) for label, value in values.items())


_SCALES = {" + ".join(f"M{k}" for k in scales): scales for scales in SCALE_SETS}
TABLES = {table.name: table for table in (
    Table("main", "Anomaly detection and localization, by backbone",
          _rows("backbone", {"WRN-50-2": "wide_resnet50_2", "ResNet-18": "resnet18", "ResNet-50": "resnet50"}),
          {"WRN-50-2": "wide_resnet50_2"}),
    Table("ocbe", "Parts of the bottleneck",
          _rows("bottleneck", {"teacher's layer4, frozen": "pre", "OCE on f3, random, frozen": "pre_random",
                               "OCE on f3, trained": "oce", "MFF + OCE (OCBE)": "mff_oce"})),
    Table("scales", "Scales in training and in the anomaly map",
          (*(Row(f"trained and scored: {m}", {"train_scales": s}, "".join(map(str, s))) for m, s in _SCALES.items()),
           *(Row(f"all trained, scored: {m}", {}, "".join(map(str, s))) for m, s in _SCALES.items() if len(s) < 3))),
    Table("readout", "Loss, fusion, smoothing",
          (Row("flattened loss, added, smoothed (default)"), Row("loss by position (eq. 2)", {"loss": "positional"}),
           Row("maps multiplied", scored_by=f"{MAIN} multiply"),
           Row("maps not smoothed", scored_by=f"{MAIN} unsmoothed"))),
    Table("teacher", "Weights of the teacher",
          _rows("weights", {"random": "random", "random, BatchNorm calibrated": "random_calibrated",
                            "procedural images (embedded)": "embedded", "ImageNet": "imagenet"})),
    Table("novelty", "One-class novelty detection",
          (Row("sum of the map"), Row("maximum of the map", scored_by=f"{MAIN} max")), {"sum of the map": NOT_STATED}),
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
_ABLATED = ("weave", "wood", "gear", "connector")  # two textures and two objects
_CLASSES = tuple("0123456789")
BENCHMARKS = {benchmark.family: benchmark for benchmark in (
    Benchmark("MVTec AD", "mvtec", MVTEC_CATEGORIES, RunConfig("mvtec"), (0,)),
    Benchmark("VisA", "visa", VISA_CATEGORIES, RunConfig("visa"), (0,)),
    Benchmark("BTAD", "btad", BTAD_CATEGORIES, RunConfig("btad"), (0,)),
    Benchmark("procedural benchmark", "synthetic", _ABLATED,
              RunConfig("synthetic", weights="embedded", n_train=100, batch_size=4, **_SMALL)),
    Benchmark("magnetic tiles", "magnetic_tile", ("",), RunConfig("magnetic_tile", **_SMALL), (0,)),
    Benchmark("digits of scikit-learn", "digits", _CLASSES,
              RunConfig("digits", weights="embedded", epochs=20, normalize=False, **_TINY), (0,)),
    Benchmark("MNIST", "mnist", _CLASSES, RunConfig("mnist", epochs=4, normalize=False, **_TINY), (0,)),
    Benchmark("Fashion-MNIST", "fashion_mnist", _CLASSES,
              RunConfig("fashion_mnist", epochs=4, normalize=False, **_TINY), (0,)),
    Benchmark("CIFAR-10", "cifar10", _CLASSES, RunConfig("cifar10", epochs=4, **_TINY), (0,)),
)}


def grid(table: Table, benchmark: Benchmark, categories: Sequence[str] | None = None,
         seeds: Sequence[int] | None = None, **changes: Any) -> list[GridPoint]:
    """List every run of a table on a benchmark.

    Rows without a teacher are left out: the embedded teacher is a ResNet-18.

    Args:
        table: what is compared.
        benchmark: data and shared settings.
        categories: use these categories; None: the benchmark's.
        seeds: use these seeds; None: the benchmark's.
        changes: settings that replace the benchmark's; a row's own settings come last.

    Returns:
        One point per row, category and seed, in this order.

    Raises:
        ValueError: the benchmark has no such category.
    """
    known = CATEGORIES if benchmark.family == "synthetic" else benchmark.categories  # synthetic: its own are a choice
    unknown = set(categories or ()) - set(known)
    if unknown:
        raise ValueError(f"{benchmark.title} has no category {', '.join(sorted(unknown))}. "
                         f"Choose from {', '.join(known)}.")
    points = [GridPoint(row, category, replace(benchmark.base, **{
                  **changes, **row.change, "dataset": f"{benchmark.family}/{category}".rstrip("/"), "seed": seed}))
              for row in table.rows for category in categories or benchmark.categories
              for seed in seeds or benchmark.seeds]
    return [point for point in points if point.config.weights != "embedded" or point.config.backbone == "resnet18"]
