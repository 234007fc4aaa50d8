"""Store results: one JSON file per run, named by the key of its settings and written atomically."""
import json
import os
import platform
import subprocess
import traceback
from contextlib import suppress
from datetime import date
from functools import cache, partial
from pathlib import Path

import numpy
import psutil
import torch
import torchvision

from rdlib.reproduction.config import RunConfig, from_dict
from rdlib.utils.files import written_atomically
from rdlib.utils.version import __version__

KEYS = ("config", "metrics", "per_defect", "versions", "hardware", "seconds", "peak_memory_mb", "revision")


class ResultStore:
    """A folder of result files.

    Args:
        folder: folder of the files; created when the first file is written.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).resolve()  # a worker may run in another folder

    def path(self, config: RunConfig) -> Path:
        """Return the path of a run's result file, which may not exist yet."""
        return self.folder / f"{config.key}.json"

    def error_path(self, config: RunConfig) -> Path:
        """Return the path of a failed run's error message."""
        return self.folder / f"{config.key}.error.txt"

    def read(self, config: RunConfig) -> dict | None:
        """Read a run's result; None if it is missing or damaged, so that the run is repeated."""
        return _parse(self.path(config))

    def read_all(self) -> dict[RunConfig, dict]:
        """Read every result in the folder, in the order of names. Other files are skipped."""
        results = {}
        for path in sorted(self.folder.glob("*.json"), key=lambda path: path.name):
            if result := _parse(path):
                with suppress(TypeError, KeyError):  # settings that this version of the kit does not have
                    config = from_dict(result["config"])
                    if path == self.path(config):
                        results[config] = result
        return results

    def write(self, config: RunConfig, result: dict) -> None:
        """Store a result, one line per key, and delete an earlier error of the same run."""
        lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in result.items())
        with written_atomically(self.path(config)) as temporary:
            temporary.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
        self.error_path(config).unlink(missing_ok=True)

    def write_error(self, config: RunConfig, error: BaseException) -> None:
        """Store the traceback of a failed run."""
        text = "".join(traceback.format_exception(error))
        with written_atomically(self.error_path(config)) as temporary:
            temporary.write_text(f"{config.label}\n\n{text}", encoding="utf-8")


def _parse(path: Path) -> dict | None:
    """Read a result file; None if it is missing or damaged."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # ValueError: not JSON, or not text
        return None
    return result if isinstance(result, dict) and all(key in result for key in KEYS) else None


def hardware(device: torch.device) -> str:
    """Describe the processor or GPU, without the machine's name."""
    if device.type == "cuda":
        return f"GPU, {torch.cuda.get_device_name(device)}"
    return (f"CPU, {psutil.cpu_count(logical=False)} cores, {platform.machine()}, "
            f"{torch.backends.cpu.get_cpu_capability()}")


@cache
def revision() -> str | None:
    """Return the checkout's commit, with a + if tracked files of the library differ; None outside a checkout.

    Later calls in a process return the first result, since it describes the code that the process has loaded.
    """
    run = partial(subprocess.check_output, cwd=Path(__file__).parent, text=True, stderr=subprocess.DEVNULL,
                  env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"})
    try:
        changed = run(["git", "status", "--porcelain", "-uno", "--", ":/rdlib"])
        return run(["git", "rev-parse", "--short=12", "HEAD"]).strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def provenance(device: torch.device) -> dict:
    """Return a result's date, versions, hardware and commit."""
    versions = {"rdlib": __version__, "torch": torch.__version__, "torchvision": torchvision.__version__,
                "numpy": numpy.__version__, "python": platform.python_version()}
    return {"versions": versions, "hardware": hardware(device), "revision": revision(),
            "date": date.today().isoformat()}
