"""Define the settings of one run, and the key under which its result is stored."""
import json
import re
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from rdlib.weights import embedded_teacher


@dataclass(frozen=True)
class RunConfig:
    """The settings that change a run's result. The defaults are the official protocol.

    No default ever changes, since a run's key hashes only the settings that differ from them. A new setting gets the
    value that earlier runs had as its default.

    Equal settings are the same run. It is executed once, and every table that needs it reads the same file.

    Args:
        dataset: name of the data set for `load_dataset`.
        seed: seed of the student's weights, the order of the images, and a random teacher.
        size: side of the square images, in pixels.
        n_train: use only the first n_train training images; None: all.
        method: "reverse", "forward" (forward student) or "memory" (memory bank).
        backbone: network of the teacher, a key of `BACKBONES`.
        weights: the teacher's weights: "embedded", "imagenet", "random" or "random_calibrated".
        weights_id: signature of the teacher's file, see the function `weights_id`.
        bottleneck, sigma, normalize, score: see `ReverseDistillation`.
        loss, epochs, batch_size, lr, schedule, ema, precision: see `fit`.
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
    path = Path(file) if file else embedded_teacher() if weights == "embedded" else None
    return sha256(path.read_bytes()).hexdigest()[:12] if path else None


def from_dict(settings: dict) -> RunConfig:
    """Convert the settings of a result file to a `RunConfig`. Raises TypeError or KeyError if they do not fit."""
    return RunConfig(**{**settings, "train_scales": tuple(settings["train_scales"])})
