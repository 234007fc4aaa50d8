"""Train on good magnetic tiles and draw three defective ones: the picture at the top of the README.

    python tests/benchmarks/tile_picture.py --data MT --weights FILE

The official protocol at 128 x 128 with a smoothing of 2 pixels. Some good training tiles are held out and give the
threshold of the dashed contour, so no test tile influences it. Beside the picture, a JSON file records how it was made.
An interrupted run resumes from its checkpoint.
"""
import argparse
import hashlib
import json
from pathlib import Path

import torch

from rdlib import ReverseDistillation, evaluate, figures, fit, load_dataset
from rdlib.datasets.samples import AnomalyDataset
from rdlib.reproduction.store import provenance
from rdlib.threshold import threshold_from_good

SIZE, SIGMA, SEED, HELD_OUT = 128, 2, 0, 100
TILES = "exp6_num_36280.jpg", "exp3_num_249637.jpg", "exp6_num_26244.jpg"  # clear examples: blowhole, crack, break
DPI = 150


def main() -> None:
    """Train, choose the threshold, and write the picture and its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder that holds MT_Free, MT_Blowhole, ...")
    parser.add_argument("--weights", required=True, help="a file of ImageNet weights, or imagenet to download them")
    parser.add_argument("--epochs", type=int, default=36)
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
    threshold = threshold_from_good(unseen.scores, unseen.maps)
    report = evaluate(model, data.test, progress=False)
    names = [sample.name for sample in data.test.samples]
    figure = figures.gallery(report, indices=[names.index(tile) for tile in TILES], threshold=threshold.pixel)
    figure.legends[0].get_texts()[-1].set_text("above all values on held-out good training tiles")
    figure.savefig(args.out, dpi=DPI)
    record = {
        "sha256": hashlib.sha256(args.out.read_bytes()).hexdigest(),
        "command": "python tests/benchmarks/tile_picture.py --data MT --weights FILE "
                   f"--epochs {run.epochs} --precision {args.precision}",
        "tiles": TILES, "size": SIZE, "sigma": SIGMA, "seed": SEED,
        "epochs": run.epochs, "precision": run.settings["precision"], "weights": "ImageNet",
        "trained_on": len(train), "held_out": HELD_OUT,
        "threshold": {"pixel": threshold.pixel, "rule": "just above every map of the held-out good training tiles"},
        "threads": torch.get_num_threads(), "seconds": round(run.seconds, 1), **provenance(model.device)}
    args.out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
