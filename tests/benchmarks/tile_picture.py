"""Train on good magnetic tiles and draw three defective ones: the picture at the top of the README.

    python tests/benchmarks/tile_picture.py --data MT --weights FILE

The official protocol at 128 x 128 with a smoothing of 2 pixels. Some good training tiles are held out. They give the
threshold of the dashed contour, so no test tile has a say in it. Each row shows the tile of median score of its defect type.
Beside the picture a JSON file records how it was made. A run that was interrupted resumes from its checkpoint.
"""
import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from rdlib import ReverseDistillation, evaluate, fit, load_dataset
from rdlib.datasets.samples import AnomalyDataset
from rdlib.evaluation import Report
from rdlib.figures.canvas import MARKED, TRUTH, canvas, handle, head, outline, show_mask
from rdlib.reproduction.store import provenance
from rdlib.threshold import threshold_from_good

SIZE, SIGMA, SEED, HELD_OUT, RATE = 128, 2, 0, 100, 0.05
TYPES = "blowhole", "crack", "break"
COLUMNS = "image", "ground truth", "anomaly map", "outlines"
DPI = 150


def median_tile(report: Report, defect: str) -> int:
    """Return the index of the image of median score among those of a defect type."""
    members = np.flatnonzero(report.defect_types == defect)
    return int(members[np.argsort(report.scores[members], kind="stable")][(len(members) - 1) // 2])


def draw(report: Report, indices: list[int], threshold: float) -> Figure:
    """Draw one row per image: image, ground truth, anomaly map, and both outlines on the image."""
    maps = report.maps[indices]
    scale = Normalize(maps.min(), maps.max())
    with canvas(len(indices), len(COLUMNS), 2 * len(indices) + 1.2) as (figure, axes):
        for row, i in zip(axes, indices, strict=True):
            for axis in row:
                axis.imshow(report.image(i))
                axis.set_axis_off()
            row[0].set_title(report.defect_types[i], loc="left", pad=3)
            show_mask(row[1], report.masks[i])
            colors = row[2].imshow(report.maps[i], norm=scale)
            outline(row[3], report.masks[i], TRUTH)
            outline(row[3], report.maps[i] >= threshold, MARKED)
        head(axes[0], COLUMNS)
        bar = figure.colorbar(colors, ax=axes, location="bottom", aspect=50, pad=0.01, label="anomaly map")
        bar.ax.plot(threshold, 1.3, "v", color=MARKED["colors"], markeredgecolor="black", clip_on=False,
                    transform=bar.ax.get_xaxis_transform())
        figure.legend(handles=[handle(TRUTH, "ground truth"), handle(MARKED, "map above the threshold")],
                      loc="outside lower center", ncols=2, handlelength=3)
    return figure


def main() -> None:
    """Train, choose the threshold, and write the picture and its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder that holds MT_Free, MT_Blowhole, ...")
    parser.add_argument("--weights", required=True, help="a file of ImageNet weights, or imagenet to download them")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--checkpoint", default="build/tile_picture.ckpt")
    parser.add_argument("--out", type=Path, default=Path("data/pictures/magnetic_tiles.png"))
    args = parser.parse_args()

    data = load_dataset("magnetic_tile", root=args.data, size=SIZE)
    good = data.train.samples
    train, held_out = (AnomalyDataset(part, data.train.size) for part in (good[:-HELD_OUT], good[-HELD_OUT:]))
    model = ReverseDistillation("resnet18", weights=args.weights, sigma=SIGMA, seed=SEED)
    run = fit(model, train, args.epochs, seed=SEED, precision=args.precision, checkpoint=args.checkpoint,
              checkpoint_every=2, progress=False)

    unseen = evaluate(model, held_out, progress=False)
    threshold = threshold_from_good(unseen.scores, unseen.maps, rate=RATE)
    report = evaluate(model, data.test, progress=False)
    indices = [median_tile(report, defect) for defect in TYPES]
    draw(report, indices, threshold.pixel).savefig(args.out, dpi=DPI, metadata={"Software": None})
    record = {
        "sha256": hashlib.sha256(args.out.read_bytes()).hexdigest(),
        "command": "python tests/benchmarks/tile_picture.py --data MT --weights FILE "
                   f"--epochs {run.epochs} --precision {args.precision}",
        "tiles": [data.test.samples[i].name for i in indices], "size": SIZE, "sigma": SIGMA, "seed": SEED,
        "epochs": run.epochs, "precision": run.settings["precision"], "weights": "ImageNet",
        "trained_on": len(train), "held_out": HELD_OUT,
        "threshold": {"pixel": threshold.pixel, "rule": "just above every map of the held-out good training tiles"},
        "threads": torch.get_num_threads(), "seconds": round(run.seconds, 1), **provenance(model.device)}
    args.out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
