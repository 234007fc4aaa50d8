"""Define the settings of a run, and store its result: a JSON file named by their key and written atomically."""
import json
import platform
import re
import subprocess
import traceback
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import date
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy
import psutil
import torch
import torchvision

from rdlib.anomaly_map import SCORES, checked_scales
from rdlib.detector.config import checked_sides
from rdlib.encoder import get_backbone
from rdlib.losses import LOSSES
from rdlib.ocbe import BOTTLENECKS
from rdlib.reproduction.record import check_result
from rdlib.training.loop import SCHEDULES
from rdlib.utils.errors import check_choice, check_fields, checked
from rdlib.utils.files import written_atomically
from rdlib.utils.hardware import float32_mode
from rdlib.utils.version import __version__
from rdlib.weights import EMBEDDED_SHA256


@dataclass(frozen=True)
class RunConfig:
    """The settings that change a run's result. The defaults are the official protocol.

    No default ever changes, since a run's key hashes only the settings that differ from them. A new setting gets the
    value that earlier runs had as its default.

    Equal settings are the same run. It is executed once, and every table that needs it reads the same file.

    Args:
        dataset: name of the data set for `load_dataset`.
        seed: seed of the student's weights, the order of the images, and a random teacher.
        size: side of the square images, in pixels, a multiple of 32.
        n_train: use only the first n_train training images; None: all.
        method: "reverse", "forward" (forward student) or "memory" (memory bank).
        blocks: residual blocks of a forward student's three stages, see `ForwardStudent`; None: the teacher's.
        backbone: network of the teacher, a key of `BACKBONES`.
        weights: the teacher's weights: "embedded", "imagenet", "random" or "random_calibrated".
        weights_id: signature of the teacher's file, see the function `weights_id`.
        bottleneck, sigma, normalize, score: see `ReverseDistillation`.
        loss, epochs, batch_size, lr, schedule, precision: see `fit`.
        ema: decay of a moving average of the weights, whose results are recorded beside those of the weights.
        train_scales: `scales` of `fit`.
        curve_every: evaluate on the test set every curve_every epochs; None: only at the end.
        threads: number of torch's threads in the run; another number may change the last bit of a sum.
    """

    dataset: str
    seed: int = 0
    size: int = 256
    n_train: int | None = None
    method: str = "reverse"
    backbone: str = "wide_resnet50_2"
    weights: str = "imagenet"
    weights_id: str | None = None
    bottleneck: str = "mff_oce"
    loss: str = "flattened"
    train_scales: tuple[int, ...] = (1, 2, 3)
    sigma: float = 4.0
    normalize: bool = True
    score: str = "max"
    epochs: int = 200
    batch_size: int = 16
    lr: float = 0.005
    schedule: str = "constant"
    ema: float | None = None
    curve_every: int | None = None
    precision: str = "float32"
    threads: int = 1
    blocks: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "train_scales", checked_scales(self.train_scales))  # a list in JSON and TOML
        check_fields(self)
        checked_sides(self.size)
        get_backbone(self.backbone)
        check_choice("method", self.method, ("reverse", "forward", "memory"))
        if self.blocks:
            object.__setattr__(self, "blocks", tuple(self.blocks))  # a list in TOML
            check_choice("method with blocks", self.method, ("forward",))
        for name, choices in (("precision", ("float32", "bf16", "auto")), ("loss", LOSSES), ("schedule", SCHEDULES),
                              ("bottleneck", BOTTLENECKS), ("score", SCORES)):
            check_choice(name, getattr(self, name), choices)

    @property
    def changes(self) -> dict[str, Any]:
        """Return the settings that differ from the defaults, always with the data set."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}

    @property
    def key(self) -> str:
        """Return the name of the run's file: data set, seed, and 12 digits of the SHA-256 of `changes`."""
        text = json.dumps(self.changes, sort_keys=True)
        name = re.sub(r"[^\w.-]+", "_", self.dataset)[-40:]
        return f"{name}-seed{self.seed}-{sha256(text.encode()).hexdigest()[:12]}"

    @property
    def label(self) -> str:
        """Describe the run in one line, for progress messages and errors."""
        return ", ".join(f"{name} {value}" for name, value in self.changes.items() if name != "weights_id")


def weights_id(weights: str, file: str | Path | None = None) -> str | None:
    """Compute the signature of the teacher's file: the first 12 digits of its SHA-256.

    Args:
        weights: the teacher's weights, as in `RunConfig`.
        file: the file to read these weights from, or None.

    Returns:
        The digits for a given file or for the embedded teacher; None if `weights` alone determines the weights.

    Raises:
        OSError: the file cannot be read.
    """
    if file:
        return sha256(Path(file).read_bytes()).hexdigest()[:12]
    return EMBEDDED_SHA256[:12] if weights == "embedded" else None  # its file is checked when it is read


class ResultStore:
    """A folder of result files.

    Args:
        folder: folder of the files; created when the first file is written.
    """

    @checked
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
        return self._read(self.path(config)).get(config)

    def read_all(self, like: Iterable[RunConfig] | None = None) -> dict[RunConfig, dict]:
        """Read every result in the folder, or those with data set and seed of a run in `like`, in the order of names.

        A warning names each other file, once a process.
        """
        names = None if like is None else {config.key.rpartition("-")[0] for config in like}
        paths = sorted(path.name for path in self.folder.glob("*.json"))
        paths = [path for path in paths if names is None or path.rpartition("-")[0] in names]
        return {config: result for path in paths for config, result in self._read(self.folder / path).items()}

    def _read(self, path: Path) -> dict[RunConfig, dict]:
        """Read a result file. Return an empty dict if it is missing, or damaged, which a warning says."""
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            check_result(result)
            if path != self.path(config := RunConfig(**result["config"])):
                raise ValueError(f"it holds the run {config.key}.")
            return {config: result | {"config": asdict(config)}}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            warn_once(f"{path} is no result ({type(error).__name__}: {error}) and counts as missing. Remove it, or run "
                      "its run again.")
            return {}

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


@cache
def warn_once(text: str) -> None:
    """Warn once a process."""
    warnings.warn(text, stacklevel=2)


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
    run = partial(subprocess.check_output, cwd=Path(__file__).parent, text=True, stderr=subprocess.DEVNULL)
    try:
        changed = run(["git", "--no-optional-locks", "status", "--porcelain", "-uno", "--", ":/rdlib"])
        return run(["git", "rev-parse", "--short=12", "HEAD"]).strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def provenance(device: torch.device) -> dict:
    """Return a result's date, versions, hardware, arithmetic of float32, and commit."""
    versions = {"rdlib": __version__, "torch": torch.__version__, "torchvision": torchvision.__version__,
                "numpy": numpy.__version__, "python": platform.python_version()}
    return {"versions": versions, "hardware": hardware(device), "float32": float32_mode(device),
            "revision": revision(), "date": date.today().isoformat()}
