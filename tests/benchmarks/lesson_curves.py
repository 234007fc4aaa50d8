"""Record the curves that notebook 06 draws: how steady training is, and how far it overfits.

    python tests/benchmarks/lesson_curves.py --seeds 0 1 2

Gears, 48 good images of 96 x 96 pixels, ResNet-18 with the embedded teacher, 10 epochs in batches of 4, sigma 1.5.
After every epoch: the image AUROC on every third test image, at a constant rate, with the weights averaged (decay 0.97
a step) and with the cosine schedule; and the distance of teacher and student on 30 images trained on and on 30 good
images that were not. One JSON file a seed in data/results/lessons; what is there is not run again. Nothing is chosen by
the curves.
"""
import argparse
import time
from pathlib import Path

import torch
from recording import result, write

from rdlib import ReverseDistillation, Run, evaluate, fit, load_dataset
from rdlib.datasets.samples import AnomalyData

RESULTS = Path(__file__).parents[2] / "data" / "results" / "lessons"
EPOCHS, IMAGES, SIZE, SIGMA, DECAY = 10, 48, 96, 1.5, 0.97
SEEN, UNSEEN = range(30), range(100, 130)  # of the training images; the second are not trained on


def distance(model: ReverseDistillation, images: torch.Tensor) -> float:
    """Compute the cosine distance of teacher and student, mean over images and places, summed over scales."""
    return model.scale_maps(images).mean((0, 2, 3)).sum().item()


def train(data: AnomalyData, seed: int, precision: str, note, **options) -> Run:
    """Train one model; `note` is called with the run at the end of every epoch."""
    model = ReverseDistillation("resnet18", "embedded", sigma=SIGMA, seed=seed)
    return fit(model, data.train, EPOCHS, batch_size=4, seed=seed, precision=precision, progress=False,
               callbacks=[lambda run: run.at_epoch_end and note(run)], **options)


def curves(seed: int, precision: str) -> dict:
    """Run both trainings of one seed and return the content of its result file."""
    began, data = time.perf_counter(), load_dataset("synthetic/gear", size=SIZE)
    seen, unseen = (torch.stack([data.train[i].image for i in part]) for part in (SEEN, UNSEEN))
    data.train.samples, data.test.samples = data.train.samples[:IMAGES], data.test.samples[::3]
    auroc = {"constant rate": [], "constant rate, weights averaged": [], "cosine": []}
    apart = {"images trained on": [], "good images never seen": []}

    def test(run: Run, row: str) -> None:
        auroc[row].append(evaluate(run.model, data.test, progress=False).image_auroc)

    def note(run: Run) -> None:
        test(run, "constant rate")
        for row, images in zip(apart, (seen, unseen), strict=True):
            apart[row].append(distance(run.model, images))
        with run.averaged():
            test(run, "constant rate, weights averaged")

    run = train(data, seed, precision, note, ema=DECAY)
    train(data, seed, precision, lambda run: test(run, "cosine"), schedule="cosine")
    found = result(run, {"image_auroc": auroc["constant rate"][-1]}, dataset=data.name, size=SIZE, sigma=SIGMA,
                   teacher="embedded")
    command = f"python tests/benchmarks/lesson_curves.py --seeds {seed}"
    return found | {"command": command, "image AUROC": auroc, "distance": apart,
                    "seconds": round(time.perf_counter() - began, 1)}


def main() -> None:
    """Run the seeds that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--precision", default="auto", choices=["float32", "bf16", "auto"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for seed in args.seeds:
        path = args.out / f"gear_seed{seed}.json"
        if path.exists():
            continue
        found = curves(seed, args.precision)
        write(path, found)
        print(f"seed {seed}: {found['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
