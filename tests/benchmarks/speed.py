"""Measure speed against the official recipe, side by side: `make bench`, or python tests/benchmarks/speed.py [--quick].

Every variant runs in a process of its own, so that its peak memory is its own; variants take turns, so that a busy
moment hits all alike; the fastest round counts. Read the ratios: seconds are this machine's.
"""
import argparse
import json
import platform
import statistics
import subprocess
import sys
import time

import psutil
import torch
from official_recipe import OfficialRecipe, judge
from torch.utils.data import Dataset

from rdlib import ReverseDistillation, evaluate, fit
from rdlib.datasets.samples import AnomalyDataset, Item, SceneSample
from rdlib.synthetic import scene_list

TRAINING = {"resnet18/128": ("resnet18", 128, 16), "wide_resnet50_2/256": ("wide_resnet50_2", 256, 4)}
TARGETS = {"kit float32": {"resnet18/128": 2.0, "wide_resnet50_2/256": 2.0, "test set of 160": 5.0},
           "kit bf16": {"resnet18/128": 3.0, "wide_resnet50_2/256": 4.5, "test set of 160": 5.0}}


class RandomImages(Dataset):
    """Images of noise: what is in them does not change how long they take."""

    augmented = False

    def __init__(self, n: int, size: int):
        self.images = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Item:
        blank = torch.zeros(self.images.shape[-2:], dtype=torch.bool)
        return Item(self.images[index], 0, blank, index, blank)


def train_official(backbone: str, size: int, batch: int, steps: int) -> list[float]:
    """Measure the seconds of each step of the baseline."""
    recipe, images = OfficialRecipe(backbone), RandomImages(batch, size).images
    recipe.train()
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        recipe.train_step(images)
        times.append(time.perf_counter() - began)
    return times


def train_kit(backbone: str, size: int, batch: int, steps: int, precision: str) -> list[float]:
    """Measure the seconds of each step of `fit`, features cached."""
    times, last = [], [0.0]

    def clock(run) -> None:
        times.append(run.seconds - last[0])
        last[0] = run.seconds

    model = ReverseDistillation(backbone, weights=None)
    fit(model, RandomImages(batch, size), steps, batch_size=batch, cache=True, precision=precision, callbacks=[clock],
        progress=False)
    return times


def test_set(n: int) -> tuple[AnomalyDataset, torch.Tensor, torch.Tensor]:
    """n test images of the procedural fabric at 256 x 256, a quarter of them good, rendered beforehand."""
    scenes = scene_list("weave", "test", good=n // 4, defective=n - n // 4)
    dataset = AnomalyDataset([SceneSample(scene, str(i)) for i, scene in enumerate(scenes)], (256, 256))
    items = [dataset[i] for i in range(n)]
    return dataset, torch.stack([item.image for item in items]), torch.stack([item.mask for item in items])


def evaluate_official() -> dict[str, float]:
    """Measure the seconds of the baseline's prediction and metrics, ResNet-18 at 256 x 256."""
    _, images, masks = test_set(160)
    began = time.perf_counter()
    maps = OfficialRecipe("resnet18").predict_all(images)
    predicted = time.perf_counter()
    judge(masks, maps)
    return {"predict": predicted - began, "metrics": time.perf_counter() - predicted}


def evaluate_kit(precision: str) -> dict[str, float]:
    """Measure the seconds of the kit's prediction and its eight metrics, ResNet-18 at 256 x 256."""
    dataset, _, _ = test_set(160)
    model = ReverseDistillation("resnet18", weights=None)
    began = time.perf_counter()
    report = evaluate(model, dataset, precision=precision, progress=False)
    predicted = time.perf_counter()
    _ = report.metrics
    return {"predict": predicted - began, "metrics": time.perf_counter() - predicted}


def measure(what: str, steps: int) -> dict:
    """Measure one variant in this process: median seconds (the first step warms up) and peak memory."""
    kind, _, variant = what.partition(":")
    if kind == "test set of 160":
        parts = evaluate_official() if variant == "official" else evaluate_kit(variant.removeprefix("kit "))
        seconds = sum(parts.values())
    else:
        parts, times = {}, (train_official(*TRAINING[kind], steps) if variant == "official"
                            else train_kit(*TRAINING[kind], steps, variant.removeprefix("kit ")))
        seconds = statistics.median(times[1:])
    import resource  # not on Windows
    return {"seconds": seconds, "parts": parts, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


def in_turns(kind: str, variants: list[str], rounds: int, steps: int) -> dict[str, dict]:
    """Run every variant once per round in a fresh process; return its fastest round and its highest peak."""
    found = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant in variants:
            command = [sys.executable, "-W", "ignore", __file__, "--one", f"{kind}:{variant}", "--steps", str(steps)]
            answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found[variant].append(json.loads(answer.splitlines()[-1]))
            parts = "".join(f", {part} {seconds:.2f} s" for part, seconds in found[variant][-1]["parts"].items())
            print(f"  {kind}, {variant}: {found[variant][-1]['seconds']:.2f} s{parts}", file=sys.stderr, flush=True)
    return {variant: {"seconds": min(r["seconds"] for r in results), "peak_mb": max(r["peak_mb"] for r in results)}
            for variant, results in found.items()}


def main() -> None:
    """Measure everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one short round")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.steps)))
        return
    rounds, steps = (1, 3) if args.quick else (args.rounds, args.steps)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {psutil.cpu_count(logical=False)} cores, "
          f"{platform.machine()}, CPU capability {torch.backends.cpu.get_cpu_capability()}")
    print(f"{'':22s}{'variant':14s}{'seconds':>9s}{'ratio':>8s}{'target':>8s}{'peak MB':>9s}")
    for kind in [*TRAINING, "test set of 160"]:
        results = in_turns(kind, ["official", "kit float32", "kit bf16"], rounds, steps)
        for variant, result in results.items():
            ratio = results["official"]["seconds"] / result["seconds"]
            target = TARGETS.get(variant, {}).get(kind)
            print(f"{kind:22s}{variant:14s}{result['seconds']:9.2f}{ratio:8.2f}{target or '':>8}{result['peak_mb']:9d}",
                  flush=True)


if __name__ == "__main__":
    main()
