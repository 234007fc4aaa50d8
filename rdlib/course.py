"""Settings and trained models that the notebooks share.

The environment variable `RDLIB_PROFILE` chooses the settings: "cpu" (default) takes minutes on two cores, offline;
"paper" is the paper's protocol, for a GPU and ImageNet's weights.
"""
import json
import os
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from rdlib.checkpoint import fingerprint
from rdlib.datasets import data_root, load_dataset
from rdlib.errors import CheckpointError
from rdlib.hardware import best_device, resolve_precision
from rdlib.model import ReverseDistillation
from rdlib.run import Run
from rdlib.samples import AnomalyData
from rdlib.training import fit

SHOWING = ("figures", "widgets", "reproduction")  # packages that change neither training nor maps


@dataclass(frozen=True)
class Profile:
    """The size of a lesson: backbone and teacher's weights, image side in pixels, what `fit` is told, smoothing."""

    name: str
    backbone: str
    weights: str
    size: int
    epochs: int
    batch_size: int
    sigma: float
    n_train: int | None  # training images that are kept, None for all


PROFILES = {profile.name: profile for profile in (
    Profile("cpu", "resnet18", "embedded", 128, 10, 4, 2.0, 100),
    Profile("paper", "wide_resnet50_2", "imagenet", 256, 200, 16, 4.0, None),
)}


def profile() -> Profile:
    """Return the profile that `RDLIB_PROFILE` names. Raises ValueError for an unknown name."""
    name = os.environ.get("RDLIB_PROFILE") or "cpu"
    if name not in PROFILES:
        raise ValueError(f"RDLIB_PROFILE is '{name}'. Set it to one of: {', '.join(PROFILES)}.")
    return PROFILES[name]


class Lesson(NamedTuple):
    """A data set, a model trained on it, and the training run."""

    data: AnomalyData
    model: ReverseDistillation
    run: Run


def lesson(name: str, size: Profile | None = None, *, seed: int = 0) -> Lesson:
    """Return a model trained on the data set `name` (as `load_dataset` takes it) in a profile.

    The training is kept as a checkpoint of `fit` in `data_root()`/lessons. It serves again for equal arguments on the
    same kind of hardware, until the library's code changes. What does not fit is trained again. Delete the file, or
    ask for another seed, to see the training itself.
    """
    size = size or profile()
    data, model = load_dataset(name, size=size.size, n_train=size.n_train), _untrained(size, seed)
    path = data_root() / "lessons" / f"{name.replace('/', '-')}-{_key(name, size, seed, model)}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):  # two notebooks may ask for one lesson
        try:
            run = _trained(model, data, size, seed, path)
        except CheckpointError:  # a damaged file, or other images under the same name
            path.unlink()
            model = _untrained(size, seed)
            run = _trained(model, data, size, seed, path)
    return Lesson(data, model, run)


def _untrained(size: Profile, seed: int) -> ReverseDistillation:
    return ReverseDistillation(size.backbone, size.weights, sigma=size.sigma, seed=seed).to(best_device())


def _trained(model: ReverseDistillation, data: AnomalyData, size: Profile, seed: int, path: Path) -> Run:
    return fit(model, data.train, size.epochs, batch_size=size.batch_size, seed=seed, precision="auto", checkpoint=path)


def _key(name: str, size: Profile, seed: int, model: ReverseDistillation) -> str:
    """Everything that the checkpoint of a lesson must agree in, as 12 hexadecimal digits."""
    settings = [name, asdict(size), seed, str(model.device), resolve_precision("auto", model.device),
                fingerprint(model.teacher), source_hash(Path(__file__).parent)]
    return sha256(json.dumps(settings).encode()).hexdigest()[:12]


def source_hash(library: Path) -> str:
    """A SHA-256 over the library's code, without the packages that only show or compare results."""
    files = (path for path in sorted(library.rglob("*.py")) if path.relative_to(library).parts[0] not in SHOWING)
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
