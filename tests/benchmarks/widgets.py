"""Time the explorers' answers, at 256 x 256: python tests/benchmarks/widgets.py [--size PIXELS] [--threads N].

Each line is one callback, from a control's new value to the encoded pictures: the median and the slowest of several.
The aim: 200 ms where maps are at hand, 500 ms where the network runs. What it takes to get to the screen is not in it.
"""
import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from rdlib import ReverseDistillation, load_dataset
from rdlib.datasets.samples import AnomalyData, AnomalyDataset
from rdlib.widgets import DefectExplorer, DrawDefect
from rdlib.widgets.interactive import InteractiveModel

AT_HAND, NETWORK = 200, 500  # ms


def interactive_model(size: int) -> InteractiveModel:
    """Build a model with the embedded teacher and an untrained student: maps take the same time as trained ones."""
    data = load_dataset("synthetic/gear", size=size, n_train=16)
    tests = [*data.test.samples[:10], *data.test.samples[40:70]]
    test = AnomalyDataset(tests, (size, size))
    return InteractiveModel(ReverseDistillation("resnet18"), AnomalyData(data.name, data.train, test))


def callbacks(interactive: InteractiveModel) -> Iterator[tuple[str, int, Callable[[int], None]]]:
    """Yield what is measured: its name, its limit in ms, and a function that moves a control to its k-th place."""
    explorer = DefectExplorer(interactive)
    yield "defect explorer: weight", AT_HAND, lambda k: setattr(explorer.weights[0], "value", 0.5 + 0.1 * k)
    yield "defect explorer: smoothing", AT_HAND, lambda k: setattr(explorer.sigma, "value", 1 + 0.5 * k)
    yield "defect explorer: threshold", AT_HAND, lambda k: setattr(explorer.factor, "value", 0.5 + 0.1 * k)
    yield "defect explorer: fusion", AT_HAND, lambda k: setattr(explorer.fusion, "value", ("multiply", "add")[k % 2])
    explorer.kind.value = "good"
    yield "defect explorer: new image", NETWORK, lambda k: setattr(explorer.number, "value", 1 + k)
    board = DrawDefect(interactive)
    yield "draw a defect: stroke", NETWORK, lambda k: setattr(board.canvas, "layer", stroke(
        interactive.data.test.size, k))


def stroke(size: tuple[int, int], k: int) -> bytes:
    """Return the k-th layer of paint, a brown square on an (H, W) image."""
    layer = np.zeros((*size, 4), np.uint8)
    layer[16:32, 8 * k:8 * k + 16] = (70, 48, 30, 255)
    return layer.tobytes()


def main() -> None:
    """Measure and print a table; the exit status says whether every median keeps its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    began = time.perf_counter()
    interactive = interactive_model(args.size)
    print(f"{args.size} x {args.size}, {args.threads} threads, torch {torch.__version__}; ready after "
          f"{time.perf_counter() - began:.1f} s")
    print(f"{'callback':38s}{'median':>8s}{'slowest':>9s}{'aim':>6s}  ms")
    late = False
    for name, limit, move in callbacks(interactive):
        times = []
        for k in range(9):
            began = time.perf_counter()
            move(k)
            times.append(1000 * (time.perf_counter() - began))
        late |= statistics.median(times) > limit
        print(f"{name:38s}{statistics.median(times):8.0f}{max(times):9.0f}{limit:6d}", flush=True)
    raise SystemExit(int(late))


if __name__ == "__main__":
    main()
