"""Measure the costs of every backbone: parameters and operations; speed and peak memory of `predict` on this machine.

    python tests/benchmarks/complexity.py --device cuda     # measure, and write the tables
    python tests/benchmarks/complexity.py --report          # only write the tables from the stored results

Random weights, batches of 8 random images. One JSON file per backbone, device, size and precision in
data/results/costs, which replaces an older one; the tables are data/results/tables/complexity.csv and .md.
"""
import argparse
import copy
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rdlib import ReverseDistillation, best_device
from rdlib.encoder import BACKBONES
from rdlib.reproduction.report import write_csv
from rdlib.reproduction.store import provenance
from rdlib.utils.files import written_atomically
from rdlib.utils.hardware import peak_memory_mib

RESULTS = Path(__file__).parents[2] / "data" / "results"
BATCH = 8
TITLE = "Parameters, operations, memory, speed"
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def count_parameters(network: nn.Module) -> int:
    """Count weights and biases, frozen or not, without BatchNorm's running statistics."""
    return sum(value.numel() for key, value in network.state_dict().items() if not key.endswith(STATISTICS))


def count_flops(model: nn.Module, size: tuple[int, int]) -> int:
    """Count the operations of a model's convolutions for one image (H, W); a multiplication and an addition are two.

    A copy of the model runs on torch's meta device, which computes only shapes.
    """
    shadow = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty(1, 3, *size, device="meta"))
    return counter.get_total_flops()


def synchronize(device: torch.device) -> None:
    """Wait until the accelerator has finished; the CPU has none to wait for."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def images_per_second(predict: Callable[[Tensor], object], images: Tensor, seconds: float = 2.0) -> float:
    """Measure the speed of a function of a batch (B, 3, H, W), after one call to warm up."""
    predict(images)
    synchronize(images.device)
    began, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - began < seconds:
        predict(images)
        synchronize(images.device)
        calls += 1
    return calls * len(images) / (time.perf_counter() - began)


def measure(backbone: str, device: str, size: int, precision: str, seconds: float = 2.0) -> dict:
    """Measure one backbone. Peak memory is that of the whole process, in MiB."""
    model = ReverseDistillation(backbone, weights=None).to(device)
    images = torch.rand(BATCH, 3, size, size, device=model.device, generator=torch.Generator(model.device))
    speed = images_per_second(lambda batch: model.predict(batch, BATCH, precision), images, seconds)
    memory = peak_memory_mib(model.device)
    parameters = {name: count_parameters(getattr(model, name)) for name in ("teacher", "ocbe", "student")}
    return {"backbone": backbone, "parameters": parameters, "flops": count_flops(model, (size, size)),
            "images_per_second": speed, "peak_memory_mb": memory}


def measure_and_store(backbone: str, device: str, size: int, precision: str, threads: int, folder: Path) -> None:
    """Measure one backbone and write its result file."""
    torch.set_num_threads(threads)
    config = {"backbone": backbone, "device": torch.device(device).type, "size": size, "precision": precision,
              "threads": threads, "batch_size": BATCH}
    costs = {"config": config, **measure(backbone, device, size, precision), **provenance(torch.device(device))}
    with written_atomically(folder / f"{backbone}-{config['device']}-{size}-{precision}.json") as temporary:
        temporary.write_text(json.dumps(costs, indent=1) + "\n", encoding="utf-8")


def load_costs(folder: Path) -> pd.DataFrame:
    """Read the stored costs, one line per backbone, device, size and precision; empty without files."""
    lines = []
    for path in sorted(folder.glob("[!.]*.json"), key=lambda path: path.name):  # .NAME is being written
        found = json.loads(path.read_text(encoding="utf-8"))
        weights = {f"{part}, M weights": round(count / 1e6, 2) for part, count in found["parameters"].items()}
        lines.append({**found["config"], **weights, "GFLOP per image": round(found["flops"] / 1e9, 1),
                      "images/s": float(f"{found['images_per_second']:.3g}"),
                      "peak memory, MB": round(found["peak_memory_mb"]), "hardware": found["hardware"],
                      "date": found["date"]})
    return pd.DataFrame(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure every backbone in its own process, write the tables, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default=str(best_device()))
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels; default 256")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--threads", type=int, default=1, help="of torch; default 1")
    parser.add_argument("--report", action="store_true", help="measure nothing, only write the tables")
    args = parser.parse_args(arguments)
    folder, tables = RESULTS / "costs", RESULTS / "tables"
    if not args.report:  # a new process for each, since its peak memory never falls
        with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
            list(pool.map(measure_and_store, BACKBONES,
                          *map(repeat, (args.device, args.size, args.precision, args.threads, folder))))
    frame = load_costs(folder)
    if frame.empty:
        print(f"{folder} holds no costs. Leave out --report to measure them.", file=sys.stderr)
        return 1
    text = f"# {TITLE}\n\n{frame.to_markdown(index=False)}\n"
    tables.mkdir(parents=True, exist_ok=True)
    write_csv(frame, tables / "complexity.csv")
    (tables / "complexity.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
