"""Make and write the records of benchmarks: JSON files with configuration, results and provenance."""
import json
import zlib
from pathlib import Path

import torch

from rdlib import Run
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


def result(run: Run, metrics: dict, **config: object) -> dict:
    """Return the content of a result file: configuration, metrics of the last evaluation, provenance.

    `config` replaces settings of the run with the same name, such as the teacher's fingerprint by its name.
    """
    config |= {"teacher_crc": teacher_crc(run.model.teacher), "epochs": run.epochs, "threads": torch.get_num_threads()}
    return {"config": run.settings | config,
            "metrics": metrics, "seconds": round(run.seconds, 1),
            "peak_memory_mb": round(peak_memory_mib(run.model.device)), **provenance(run.model.device)}


def write(path: Path, found: dict) -> None:
    """Write a record as JSON; an interruption leaves the earlier file."""
    with written_atomically(path) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
