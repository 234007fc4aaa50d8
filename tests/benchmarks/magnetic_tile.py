"""Train and test on the magnetic tiles by the official protocol, evaluate along the way, and write the results down.

    python tests/benchmarks/magnetic_tile.py --data FOLDER --teacher embedded --epochs 6 --seeds 0 1 2
    python tests/benchmarks/magnetic_tile.py --data FOLDER --teacher imagenet=FILE --epochs 36 --every 6

ResNet-18, 128 x 128, 761 good images to train, the other 191 and the 392 defective ones to test, sigma 2. One JSON file
per seed; a run that was interrupted goes on from its checkpoint. Metrics along the way are for looking at the curve:
nothing is chosen by them, the last epoch is the result.
"""
import argparse
import json
import time
import zlib
from pathlib import Path

import torch

from rdlib import ReverseDistillation, Run, evaluate, fit, load_dataset
from rdlib.encoder import TeacherEncoder
from rdlib.reproduction.store import provenance
from rdlib.utils.files import written_atomically
from rdlib.utils.hardware import peak_memory_mib


def teacher_crc(teacher: TeacherEncoder) -> int:
    """Compute the CRC-32 of a teacher's weights, as float32, that the results on record name."""
    crc = 0
    for value in teacher.state_dict().values():
        crc = zlib.crc32((value.float() if value.is_floating_point() else value).contiguous().numpy().tobytes(), crc)
    return crc


def train_and_test(args: argparse.Namespace, seed: int) -> None:
    """Train and test with one seed; every evaluation writes the result file again, with all results so far."""
    teacher, _, file = args.teacher.partition("=")
    weights = file or (None if teacher == "random" else teacher)
    data = load_dataset("magnetic_tile", root=args.data, size=128)
    model = ReverseDistillation("resnet18", weights=weights, sigma=2, seed=seed)
    folder = Path(args.out)
    path = folder / f"magnetic_tile_{teacher}_seed{seed}.json"
    curve = json.loads(path.read_text(encoding="utf-8"))["curve"] if path.exists() else {}
    for epochs in range(args.every, args.epochs + 1, args.every):
        if str(epochs) in curve:
            continue
        run = fit(model, data.train, epochs, seed=seed, precision=args.precision, checkpoint_every=args.every,
                  checkpoint=folder / f"{teacher}_seed{seed}.ckpt", progress=args.progress)
        curve[str(epochs)] = evaluate(model, data.test, progress=False).metrics
        shown = ", ".join(f"{name} {value:.4f}" for name, value in curve[str(epochs)].items())
        print(f"{teacher}, seed {seed}, {epochs} epochs: {shown}", flush=True)
        with written_atomically(path) as temporary:
            found = result(run, curve[str(run.epochs)], dataset="magnetic_tile", size=128, sigma=2, teacher=teacher)
            temporary.write_text(json.dumps(found | {"curve": curve}, indent=1) + "\n", encoding="utf-8")


def result(run: Run, metrics: dict, **config: object) -> dict:
    """Return the content of a result file: configuration, metrics of the last evaluation, provenance."""
    config |= {"teacher_crc": teacher_crc(run.model.teacher), "epochs": run.epochs, "threads": torch.get_num_threads()}
    return {"config": config | run.settings,
            "metrics": metrics, "seconds": round(run.seconds, 1),
            "peak_memory_mb": round(peak_memory_mib(run.model.device)), **provenance(run.model.device)}


def main() -> None:
    """Run every seed and write one result file each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder that holds MT_Free, MT_Blowhole, ...")
    parser.add_argument("--teacher", default="embedded", metavar="NAME[=FILE]",
                        help="embedded, imagenet, random, random_calibrated, or a name for the weights in FILE")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--every", type=int, default=2, help="evaluate every so many epochs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--out", default="build/magnetic_tile")
    parser.add_argument("--progress", action="store_true")
    args = parser.parse_args()
    for seed in args.seeds:
        began = time.time()
        train_and_test(args, seed)
        print(f"seed {seed} done in {(time.time() - began) / 60:.1f} min")


if __name__ == "__main__":
    main()
