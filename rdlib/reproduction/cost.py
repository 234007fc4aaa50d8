"""The table of costs: parameters, operations, memory and speed of every backbone."""
import json
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch

from rdlib.encoder import BACKBONES
from rdlib.evaluation.complexity import measure
from rdlib.reproduction.store import provenance
from rdlib.utils.files import written_atomically


def measure_and_store(backbone: str, device: str, size: int, precision: str, threads: int, folder: Path) -> None:
    """Measure one backbone and write its result file, which replaces an older one."""
    torch.set_num_threads(threads)
    costs = measure(backbone, size, device=device, precision=precision)
    config = {"backbone": backbone, "device": torch.device(device).type, "size": size, "precision": precision,
              "threads": threads, "batch_size": 8}
    costs = {"config": config, **costs, **provenance(torch.device(device))}
    with written_atomically(folder / f"{backbone}-{config['device']}-{size}-{precision}.json") as temporary:
        temporary.write_text(json.dumps(costs, indent=1) + "\n", encoding="utf-8")


def measure_costs(device: str, size: int, precision: str, threads: int, folder: Path) -> None:
    """Measure every backbone in its own process, since peak memory is counted per process."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        list(pool.map(measure_and_store, BACKBONES, *map(repeat, (device, size, precision, threads, folder))))


def load_costs(folder: str | Path) -> pd.DataFrame:
    """Read the stored costs, one line per backbone, device, size and precision; empty without files."""
    lines = []
    for path in sorted(Path(folder).glob("[!.]*.json"), key=lambda path: path.name):  # .NAME is being written
        found = json.loads(path.read_text(encoding="utf-8"))
        weights = {f"{part}, M weights": round(count / 1e6, 2) for part, count in found["parameters"].items()}
        lines.append({**found["config"], **weights, "GFLOP per image": round(found["flops"] / 1e9, 1),
                      "images/s": float(f"{found['images_per_second']:.3g}"),
                      "peak memory, MB": round(found["peak_memory_mb"]), "hardware": found["hardware"],
                      "date": found["date"]})
    return pd.DataFrame(lines)
