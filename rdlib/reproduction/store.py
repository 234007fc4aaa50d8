"""Result files: one JSON file a run, written whole or not at all, found again by its settings' key."""
import json
import os
import platform
import subprocess
import traceback
from datetime import date
from functools import cache
from pathlib import Path

import numpy
import psutil
import torch
import torchvision

from rdlib.reproduction.config import RunConfig
from rdlib.utils.files import written_atomically
from rdlib.utils.version import __version__

KEYS = ("config", "metrics", "per_defect", "versions", "hardware", "seconds", "peak_memory_mb", "revision")


class ResultStore:
    """A folder of result files.

    Args:
        folder: made when the first file is written.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def path(self, config: RunConfig) -> Path:
        """Where the result of a run lies, or will."""
        return self.folder / f"{config.key}.json"

    def error_path(self, config: RunConfig) -> Path:
        """Where the error of a run that failed lies."""
        return self.folder / f"{config.key}.error.txt"

    def has(self, config: RunConfig) -> bool:
        """Whether the run is done. A file that cannot be read as a result counts as missing: it is done again."""
        return self.read(config) is not None

    def read(self, config: RunConfig) -> dict | None:
        """The result of a run, or None."""
        try:
            found = json.loads(self.path(config).read_text())
        except (FileNotFoundError, ValueError):  # ValueError: no JSON, or no text at all
            return None
        return found if isinstance(found, dict) and all(key in found for key in KEYS) else None

    def write(self, config: RunConfig, result: dict) -> None:
        """File a result, a line a key; an earlier error of the same run is forgotten."""
        lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in result.items())
        with written_atomically(self.path(config)) as temporary:
            temporary.write_text(f"{{\n{lines}\n}}\n")
        for path in (self.error_path(config), self.started_path(config)):
            path.unlink(missing_ok=True)

    def started_path(self, config: RunConfig) -> Path:
        """Where the starts of a run that has neither result nor error are noted."""
        return self.folder / f".{config.key}.started"

    def note_start(self, config: RunConfig, session: str) -> int:
        """Note that a run begins in this process; how often it had begun in the same session, and was killed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.started_path(config).open("a+") as file:
            file.seek(0)
            earlier = sum(line.startswith(f"{session} ") for line in file)
            file.write(f"{session} {os.getpid()}\n")
        return earlier

    def has_begun(self, config: RunConfig, session: str) -> bool:
        """Whether a run began in this session and has left neither result nor error: it was killed."""
        path = self.started_path(config)
        return path.exists() and session in path.read_text()

    def write_error(self, config: RunConfig, error: BaseException) -> None:
        """File why a run failed."""
        text = "".join(traceback.format_exception(error))
        with written_atomically(self.error_path(config)) as temporary:
            temporary.write_text(f"{config.label}\n\n{text}")
        self.started_path(config).unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """What the result was computed with."""
    return {"rdlib": __version__, "torch": torch.__version__, "torchvision": torchvision.__version__,
            "numpy": numpy.__version__, "python": platform.python_version()}


def hardware(device: torch.device) -> str:
    """The machine in words, no name of it."""
    if device.type == "cuda":
        return f"GPU, {torch.cuda.get_device_name(device)}"
    return (f"CPU, {psutil.cpu_count(logical=False)} cores, {platform.machine()}, "
            f"{torch.backends.cpu.get_cpu_capability()}")


@cache
def revision() -> str | None:
    """The checkout's commit, with a + where files under version control differ from it; None outside a checkout.

    As it was when a process first asked: what it has loaded by then is what it runs, whatever is checked out later.
    """
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True,
                              env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"}).stdout.strip()
    try:
        changed = git("status", "--porcelain", "-uno", "--", ":/rdlib")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def provenance(device: torch.device) -> dict:
    """When and where a result was made."""
    return {"versions": versions(), "hardware": hardware(device), "revision": revision(),
            "date": date.today().isoformat()}
