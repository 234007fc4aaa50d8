"""One run of a table, in full: everything that its result follows from, and the key it is filed under."""
import json
import re
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from rdlib.weights import embedded_teacher

# Frozen: a run's key hashes only the settings that differ from these. A field that is added to `RunConfig` is added here
# with the value that earlier runs had, whatever its default; nothing else here ever changes, so no key does.
KEY_DEFAULTS = {
    "seed": 0, "size": 256, "n_train": None, "method": "reverse", "backbone": "wide_resnet50_2", "weights": "imagenet",
    "weights_id": None, "bottleneck": "mff_oce", "loss": "flattened", "train_scales": (1, 2, 3), "sigma": 4.0,
    "normalize": True, "score": "max", "epochs": 200, "batch_size": 16, "lr": 0.005, "schedule": "constant", "ema": None,
    "curve_every": None, "precision": "float32", "threads": 1,
}
METHODS = ("reverse", "forward", "memory")  # reverse distillation, and what it is compared with


@dataclass(frozen=True)
class RunConfig:
    """A run: data, method, training, machine settings that change bits. The defaults are the official protocol.

    Two runs with equal settings are the same run, whichever table asks for them: it is done once.
    """

    dataset: str  # as `load_dataset` takes it
    seed: int = 0  # of the student's weights, the order of the images, and a random teacher
    size: int = 256  # side of the square images, pixels
    n_train: int | None = None  # keep only the first so many training images
    method: str = "reverse"  # one of METHODS
    backbone: str = "wide_resnet50_2"
    weights: str = "imagenet"  # the teacher's: "embedded", "imagenet", "random" or "random_calibrated"
    weights_id: str | None = None  # which file that was: first digits of its SHA-256, or None where the word says it
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
    curve_every: int | None = None  # also evaluate after every so many epochs
    precision: str = "float32"
    threads: int = 1  # of torch, inside the run: sums in another order differ in the last bit

    @property
    def key(self) -> str:
        """The name of the run's file: data set, seed, and 12 digits of a SHA-256 of the settings that are not usual."""
        unusual = {name: value for name, value in asdict(self).items() if value != KEY_DEFAULTS.get(name, KeyError)}
        text = json.dumps(unusual, sort_keys=True)
        name = re.sub(r"[^\w.-]+", "_", self.dataset)[-40:]
        return f"{name}-seed{self.seed}-{sha256(text.encode()).hexdigest()[:12]}"

    @property
    def label(self) -> str:
        """The run in a line, for progress and errors."""
        parts = [self.dataset, self.backbone, self.weights, f"seed {self.seed}"]
        usual = RunConfig(self.dataset)
        telling = ("method", "bottleneck", "loss", "train_scales", "schedule", "ema")
        parts += [f"{name} {getattr(self, name)}" for name in telling if getattr(self, name) != getattr(usual, name)]
        return ", ".join(parts)


def weights_id(weights: str, file: str | Path | None = None) -> str | None:
    """The first 12 digits of the SHA-256 of the teacher's file, where the kit can know which one it will be.

    A file given by hand, or the embedded teacher of this version of the kit; None for torchvision's own weights and
    for random ones, which their names determine.
    """
    path = Path(file) if file else embedded_teacher() if weights == "embedded" else None
    return sha256(path.read_bytes()).hexdigest()[:12] if path else None


def from_dict(found: dict) -> RunConfig:
    """The settings in a result file. Raises TypeError for unknown names."""
    return RunConfig(**{name: tuple(value) if isinstance(value, list) else value for name, value in found.items()})
