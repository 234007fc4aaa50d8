"""The tables: small grids of runs, in words. A table says what is compared, a ground on what data and how long."""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import NamedTuple

from rdlib.reproduction.config import RunConfig
from rdlib.reproduction.single import MAIN
from rdlib.synthetic import CATEGORIES

MVTEC = ("carpet", "grid", "leather", "tile", "wood", "bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill",
         "screw", "toothbrush", "transistor", "zipper")
VISA = ("candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pcb1", "pcb2", "pcb3", "pcb4",
        "pipe_fryum")
NOT_STATED = "not stated"  # the backbone of some published numbers
ABLATED = ("weave", "wood", "gear", "connector")  # two textures, two objects: what ablations are run on here


@dataclass(frozen=True)
class Row:
    """A line of a table: what differs from the ground's usual run, and which reading of the maps it shows."""

    label: str
    change: dict = field(default_factory=dict, hash=False)
    scored_by: str = MAIN


@dataclass(frozen=True)
class Table:
    """What is compared."""

    name: str
    title: str
    rows: tuple[Row, ...]
    published: dict[str, str] = field(default_factory=dict, hash=False)  # a row's label -> backbone in the records


@dataclass(frozen=True)
class Ground:
    """Where it is compared: data sets and the usual run on them."""

    title: str
    family: str  # of the data sets, as `load_dataset` takes it
    categories: tuple[str, ...]
    usual: RunConfig
    seeds: tuple[int, ...] = (0, 1, 2)

    def dataset(self, category: str) -> str:
        """The name of a category's data set."""
        return f"{self.family}/{category}" if category else self.family


class Cell(NamedTuple):
    """One run and where it stands in its table."""

    row: Row
    category: str
    config: RunConfig


def _scales() -> Iterator[tuple[int, ...]]:
    return (scales for n in (1, 2, 3) for scales in combinations((1, 2, 3), n))


def _name(scales: Sequence[int]) -> str:
    return " + ".join(f"M{k}" for k in scales)


TABLES = {table.name: table for table in (
    Table("main", "Anomaly detection and localization, by backbone (paper, Tables 1 and 2)",
          tuple(Row(label, {"backbone": name}) for label, name in
                (("WRN-50-2", "wide_resnet50_2"), ("ResNet-18", "resnet18"), ("ResNet-50", "resnet50"))),
          {"WRN-50-2": "wide_resnet50_2"}),
    Table("ocbe", "What the bottleneck is made of",
          tuple(Row(label, {"bottleneck": name}) for label, name in
                (("teacher's layer4, frozen", "pre"), ("OCE on f3, random, frozen", "pre_random"),
                 ("OCE on f3, trained", "oce"), ("MFF + OCE (OCBE)", "mff_oce")))),
    Table("scales", "Which scales are trained, and which are read",
          (*(Row(f"trained and read: {_name(s)}", {"train_scales": s}, "".join(map(str, s))) for s in _scales()),
           *(Row(f"all trained, read: {_name(s)}", {}, "".join(map(str, s))) for s in _scales() if len(s) < 3))),
    Table("readout", "Loss, fusion, smoothing",
          (Row("flattened loss, added, smoothed (usual)"), Row("loss by position (eq. 2)", {"loss": "positional"}),
           Row("maps multiplied", scored_by=f"{MAIN} multiply"), Row("maps not smoothed", scored_by=f"{MAIN} unsmoothed"))),
    Table("teacher", "Where the teacher's weights come from",
          tuple(Row(label, {"weights": name}) for label, name in
                (("random", "random"), ("random, BatchNorm calibrated", "random_calibrated"),
                 ("procedural images (embedded)", "embedded"), ("ImageNet", "imagenet")))),
    Table("novelty", "One-class novelty detection, one class normal",
          (Row("sum of the map"), Row("maximum of the map", scored_by=f"{MAIN} max")), {"sum of the map": NOT_STATED}),
    Table("baselines", "Reverse distillation and what it is compared with",
          (Row("reverse distillation"),
           Row("forward student (loss by position)", {"method": "forward", "loss": "positional"}),
           Row("feature memory (nearest neighbour)", {"method": "memory"}))),
    Table("stability", "Constant rate, schedule and averaged student, by epoch",
          (Row("constant rate (official)", {"curve_every": 1}),
           Row("cosine schedule", {"curve_every": 1, "schedule": "cosine"}),
           Row("averaged student, 0.99", {"curve_every": 1, "ema": 0.99}),
           Row("cosine and averaged", {"curve_every": 1, "schedule": "cosine", "ema": 0.99}))),
)}

_SMALL = {"backbone": "resnet18", "weights": "embedded", "size": 128, "sigma": 2.0, "precision": "bf16"}
_DIGITS = {"backbone": "resnet18", "size": 32, "normalize": False, "score": "sum"}
GROUNDS = {
    "mvtec": Ground("MVTec AD", "mvtec", MVTEC, RunConfig("mvtec"), (0,)),
    "visa": Ground("VisA", "visa", VISA, RunConfig("visa"), (0,)),
    "btad": Ground("BTAD", "btad", ("01", "02", "03"), RunConfig("btad"), (0,)),
    "synthetic": Ground("procedural benchmark", "synthetic", ABLATED,
                        RunConfig("synthetic", n_train=100, epochs=10, batch_size=4, **_SMALL)),
    "magnetic_tile": Ground("magnetic tiles", "magnetic_tile", ("",),
                            RunConfig("magnetic_tile", epochs=10, **{**_SMALL, "weights": "imagenet"}), (0,)),
    "digits": Ground("digits of scikit-learn", "digits", tuple("0123456789"),
                     RunConfig("digits", weights="embedded", epochs=20, **_DIGITS), (0,)),
    "mnist": Ground("MNIST", "mnist", tuple("0123456789"), RunConfig("mnist", epochs=4, **_DIGITS), (0,)),
    "fashion_mnist": Ground("Fashion-MNIST", "fashion_mnist", tuple("0123456789"),
                            RunConfig("fashion_mnist", epochs=4, **_DIGITS), (0,)),
    "cifar10": Ground("CIFAR-10", "cifar10", tuple("0123456789"),
                      RunConfig("cifar10", epochs=4, **{**_DIGITS, "normalize": True}), (0,)),
    "caltech256": Ground("Caltech-256", "caltech256", tuple(map(str, range(1, 257))),
                         RunConfig("caltech256", epochs=4, **{**_DIGITS, "normalize": True}), (0,)),
}
assert set(ABLATED) <= set(CATEGORIES)


def cells(table: Table, ground: Ground, categories: Sequence[str] | None = None, seeds: Sequence[int] | None = None,
          **changes: object) -> list[Cell]:
    """Every run of a table on a ground; `changes` to the usual run hold for all of them, rows' own come last.

    Rows that no teacher can be had for are left out: the embedded one is a ResNet-18.

    Raises ValueError for a category that the ground has not.
    """
    known = CATEGORIES if ground.family == "synthetic" else ground.categories  # there the usual ones are a choice
    unknown = set(categories or ()) - set(known)
    if unknown:
        raise ValueError(f"{ground.title} has no category {', '.join(sorted(unknown))}. "
                         f"Choose of {', '.join(known)}.")
    found = [Cell(row, category, replace(ground.usual, **{**changes, **row.change}, dataset=ground.dataset(category),
                                         seed=seed))
             for row in table.rows for category in categories or ground.categories for seed in seeds or ground.seeds]
    return [cell for cell in found if cell.config.weights != "embedded" or cell.config.backbone == "resnet18"]
