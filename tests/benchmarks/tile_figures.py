"""Draw what directions, bottlenecks and scales show on real images: three figures of magnetic tiles for the notebooks.

    python tests/benchmarks/tile_figures.py --data MT --weights FILE

The settings are those of `rdlib reproduce --on magnetic_tile`, with seed 0. Four students are trained: the reverse one
with each bottleneck, and a forward one with the loss by position. Beside the figures, a JSON file records how they were
made, with their summaries. An interrupted call resumes from its checkpoints.
"""
import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from matplotlib.figure import Figure
from recording import write
from tile_picture import TILES
from torch import Tensor

from rdlib import figures, fit
from rdlib.anomaly_map import fuse, gaussian_smooth
from rdlib.datasets.samples import AnomalyDataset
from rdlib.figures import Panel
from rdlib.reproduction import BENCHMARKS, Machine, RunConfig, weights_id
from rdlib.reproduction.runs import OPTIONS, build, load
from rdlib.reproduction.store import provenance

BOTTLENECKS = {"pre_random": "OCE on f3, frozen", "oce": "OCE on f3", "mff_oce": "MFF + OCE"}
FORWARD = "forward"  # the others are the names of bottlenecks of reverse students
DPI = 110


def settings(name: str, epochs: int, weights: str) -> RunConfig:
    """Return the settings of one training."""
    base = replace(BENCHMARKS["magnetic_tile"].base, epochs=epochs, weights_id=weights_id("imagenet", weights))
    return replace(base, **({"method": "forward", "loss": "positional"} if name == FORWARD else {"bottleneck": name}))


def scale_maps(config: RunConfig, machine: Machine, shown: AnomalyDataset, checkpoint: Path) -> Tensor:
    """Train one student and compute its maps by scale of the images shown, (N, 3, H, W)."""
    model = build(config, machine)
    fit(model, load(config, machine).train, checkpoint=checkpoint, checkpoint_every=1,
        **{name: getattr(config, name) for name in OPTIONS})
    return model.scale_maps(torch.stack([item.image for item in shown]))


def draw(shown: AnomalyDataset, columns: dict[str, Tensor], scale: str) -> Figure:
    """Draw a row for each image: image, mask, and its map (H, W) of each column, titled with its highest value."""
    rows = [[Panel(item.image, kind), Panel(item.mask.float().expand(3, -1, -1), "mask"),
             *(Panel(maps[row], f"{title}\nup to {maps[row].max():.2f}") for title, maps in columns.items())]
            for row, (item, kind) in enumerate(zip(shown, shown.defect_types, strict=True))]
    return figures.panels(rows, "cosine distance", scale=scale)


def three_figures(shown: AnomalyDataset, scales: dict[str, Tensor], sigma: float) -> dict[str, Figure]:
    """Draw the three figures from the maps by scale of each student."""
    smooth = {name: gaussian_smooth(fuse(maps), sigma) for name, maps in scales.items()}
    reverse = scales["mff_oce"]
    directions = {"forward": smooth[FORWARD], "reverse": smooth["mff_oce"]}
    by_scale = {f"M{k + 1}": reverse[:, k] for k in range(3)} | {"M1 + M2 + M3": reverse.sum(1)}
    return {"tiles_direction": draw(shown, directions, "row"),
            "tiles_bottleneck": draw(shown, {title: smooth[name] for name, title in BOTTLENECKS.items()}, "row"),
            "tiles_scales": draw(shown, by_scale, "own")}


def main(argv: Sequence[str] | None = None) -> None:
    """Train, draw, and write the figures and their record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder that holds MT_Free, MT_Blowhole, ...")
    parser.add_argument("--weights", required=True, help="a file of ImageNet weights")
    parser.add_argument("--epochs", type=int, default=BENCHMARKS["magnetic_tile"].base.epochs)
    parser.add_argument("--checkpoints", type=Path, default=Path("build", "tile_figures"))
    parser.add_argument("--out", type=Path, default=Path("data", "pictures"))
    args = parser.parse_args(argv)
    machine = Machine(weights={"imagenet": args.weights}, roots={"magnetic_tile": args.data})
    configs = {name: settings(name, args.epochs, args.weights) for name in (FORWARD, *BOTTLENECKS)}
    config, origin = configs[FORWARD], provenance(torch.device(machine.device))
    torch.set_num_threads(config.threads)
    test = load(config, machine).test
    names = [sample.name for sample in test.samples]
    shown = test.subset([names.index(tile) for tile in TILES])
    scales = {name: scale_maps(each, machine, shown, args.checkpoints / f"{name}.ckpt")
              for name, each in configs.items()}
    record = {"command": f"python tests/benchmarks/tile_figures.py --data MT --weights FILE --epochs {args.epochs}",
              "tiles": TILES, "config": {name: asdict(each) for name, each in configs.items()}, "figures": {}}
    for name, figure in three_figures(shown, scales, config.sigma).items():
        figure.savefig(args.out / f"{name}.png", dpi=DPI)
        record["figures"][name] = {"sha256": hashlib.sha256((args.out / f"{name}.png").read_bytes()).hexdigest(),
                                   "summary": figure.summary}
    write(args.out / "tiles.json", record | origin)


if __name__ == "__main__":
    main()
