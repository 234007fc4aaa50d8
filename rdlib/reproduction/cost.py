"""The table of costs: parameters, operations, memory and speed of each backbone, measured one process each."""
import json
import sys
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch
from tqdm.auto import tqdm

from rdlib.encoder import BACKBONES
from rdlib.evaluation.complexity import measure
from rdlib.reproduction.store import provenance
from rdlib.utils.files import written_atomically

COLUMNS = {"teacher": "teacher, M weights", "ocbe": "OCBE, M weights", "student": "student, M weights",
           "gflops": "GFLOP an image", "images_per_second": "images/s", "peak_memory_mb": "peak memory, MB"}


def measure_and_file(backbone: str, device: str, size: int, precision: str, threads: int, folder: Path) -> None:
    """Measure one backbone and write its result file, which replaces an older one of the same name."""
    torch.set_num_threads(threads)
    found = asdict(measure(backbone, size, device=device, precision=precision))
    config = {"backbone": backbone, "device": torch.device(device).type, "size": size, "precision": precision,
              "threads": threads, "batch_size": 8}
    found = {"config": config, **found, **provenance(torch.device(device))}
    with written_atomically(folder / f"{backbone}-{config['device']}-{size}-{precision}.json") as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n")


def measure_all(device: str, size: int, precision: str, threads: int, folder: Path) -> None:
    """Measure every backbone, each in a fresh process: the peak of memory is a process's."""
    for backbone in tqdm(BACKBONES, unit="backbone", file=sys.stderr):
        process = get_context("spawn").Process(target=measure_and_file,
                                               args=(backbone, device, size, precision, threads, folder))
        process.start()
        process.join()
        if process.exitcode:
            raise RuntimeError(f"Measuring {backbone} failed; the error stands above.")


def costs(folder: Path) -> pd.DataFrame:
    """What is on record: one line a backbone, device, size and precision."""
    lines = []
    for path in sorted(folder.glob("[!.]*.json")):  # a name with a dot in front is half a file
        found = json.loads(path.read_text())
        weights = {name: round(count / 1e6, 2) for name, count in found["parameters"].items()}
        lines.append({**found["config"], **weights, "gflops": round(found["flops"] / 1e9, 1),
                      "images_per_second": float(f"{found['images_per_second']:.3g}"),
                      "peak_memory_mb": round(found["peak_memory_mb"]), "hardware": found["hardware"],
                      "date": found["date"]})
    return pd.DataFrame(lines)
