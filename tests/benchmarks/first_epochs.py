"""Check that recorded runs are those of today's code: train one epoch of each again, and compare the loss.

    python tests/benchmarks/first_epochs.py --before 2026-11-30 --weights imagenet=FILE --root mnist=FOLDER --jobs 2

The runs are those in data/results/runs with an earlier date than `--before`. The mean loss of the first epoch is
compared, of a memory bank the image AUROC. Runs that differ in their evaluation only share a training. A run whose
data or file of weights is missing is named and left out. data/results/first_epochs.json is written after each training;
what is there is not run again. With names of runs, only these are run.
"""
import argparse
import json
import sys
import warnings
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import torch
from joblib import Parallel, delayed
from recording import write

from rdlib import Run, evaluate, fit
from rdlib.reproduction import Machine, ResultStore, RunConfig, weights_id
from rdlib.reproduction.command import parse_pair
from rdlib.reproduction.runs import OPTIONS, build, load
from rdlib.reproduction.store import provenance
from rdlib.utils.errors import DataError
from rdlib.variants.baselines import MemoryBank

RESULTS = Path(__file__).parents[2] / "data" / "results"
KEPT = "hardware", "float32", "revision", "date"  # of the provenance


def training(config: RunConfig) -> RunConfig:
    """Return the same settings for all runs that share their first epoch."""
    if config.method == "memory":
        return config
    epochs = {} if config.schedule == "cosine" else {"epochs": 1}  # the rate of a step depends on them
    return replace(config, sigma=4.0, score="max", curve_every=None, ema=None, **epochs)


def again(config: RunConfig, machine: Machine) -> tuple[RunConfig, float | str]:
    """Train one epoch. Return the settings with the mean loss, a memory bank's image AUROC, or what is missing."""
    file = machine.weights.get(config.weights)
    if config.weights_id != weights_id(config.weights, file):
        return config, f"needs the teacher's file {config.weights_id}: --weights {config.weights}=FILE"
    torch.set_num_threads(config.threads)
    try:
        data, model = load(config, machine), build(config, machine)
    except DataError as error:
        return config, f"needs its data: {error}".splitlines()[0]
    if isinstance(model, MemoryBank):
        model.fit(data.train)
        return config, evaluate(model, data.test, progress=False).image_auroc

    def stop(run: Run) -> None:
        run.stop = run.at_epoch_end

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The loss sums the scales")  # an ablation trains other scales on purpose
        run = fit(model, data.train, scales=config.train_scales, callbacks=[stop], progress=False,
                  **{name: getattr(config, name) for name in OPTIONS})
    return config, run.epoch_losses[0]


def recorded(before: str, folder: Path = RESULTS) -> dict[RunConfig, float]:
    """Return the first loss of each run with an earlier date than `before`, or a memory bank's image AUROC."""
    return {config: result["losses"][0] if result["losses"] else result["metrics"]["image_auroc"]
            for config, result in ResultStore(folder / "runs").read_all().items() if result["date"] < before}


def compare(before: str, machine: Machine, jobs: int, names: list[str], folder: Path = RESULTS) -> None:
    """Train what is missing, and write the file after each training."""
    path, old, shared = folder / "first_epochs.json", recorded(before, folder), defaultdict(list)
    found = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else {}
    for config in old:
        if config.key not in found and (not names or config.key in names):
            shared[training(config)].append(config)
    origin = provenance(torch.device(machine.device))
    calls = (delayed(again)(config, machine) for config in shared)
    for config, value in Parallel(jobs, return_as="generator_unordered", batch_size=1)(calls):
        runs = shared[config]
        print(f"{', '.join(run.key for run in runs)}: {value}", file=sys.stderr, flush=True)
        if isinstance(value, str):
            continue
        for run in runs:
            found[run.key] = {"recorded": old[run], "again": value, "equal": value == old[run],
                              "difference": abs(value - old[run]), **{name: origin[name] for name in KEPT}}
        write(path, {"command": f"python tests/benchmarks/first_epochs.py --before {before}", "before": before,
                     "runs": dict(sorted(found.items()))})


def summary(folder: Path = RESULTS) -> str:
    """Say in words how many recorded runs were repeated, and how many of them agree."""
    found = json.loads((folder / "first_epochs.json").read_text(encoding="utf-8"))
    old = {config.key: value for config, value in recorded(found["before"], folder).items()}
    runs = [run for key, run in found["runs"].items() if old.get(key) == run["recorded"]]  # others were replaced
    other = [run["difference"] for run in runs if not run["equal"]]
    return (f"{len(runs)} of {len(old)} recorded runs of earlier revisions were trained for one epoch again: "
            f"{len(runs) - len(other)} gave the same loss to the last bit"
            + (f", the others differ by {max(other):.1g} at most" if other else "")
            + f" ({', '.join(sorted({run['hardware'] for run in runs}))}). "
              "Of a memory bank, the image AUROC is compared.")


def main() -> None:
    """Run what is missing and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="RUN", help="name of a result file without .json")
    parser.add_argument("--before", required=True, metavar="YYYY-MM-DD")
    parser.add_argument("--weights", nargs="+", default=[], metavar="NAME=FILE")
    parser.add_argument("--root", nargs="+", default=[], metavar="FAMILY=FOLDER")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    machine = Machine(weights=dict(map(parse_pair, args.weights)), roots=dict(map(parse_pair, args.root)))
    compare(args.before, machine, args.jobs, args.names)
    print(summary())


if __name__ == "__main__":
    main()
