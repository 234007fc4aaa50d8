"""Provide the settings, trained models and answer checks that the notebooks share.

The environment variable `RDLIB_PROFILE` chooses the settings. "cpu", the default, is small enough for two cores and
works offline. "paper" is the paper's protocol, for a GPU and ImageNet's weights.
"""
import json
import os
import warnings
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import ArrayLike
from torch.testing import assert_close

from rdlib.datasets.load import data_root, load_dataset
from rdlib.datasets.samples import AnomalyData
from rdlib.model import ReverseDistillation
from rdlib.training.checkpoint import fingerprint
from rdlib.training.loop import fit
from rdlib.training.run import Run
from rdlib.utils.arrays import as_array
from rdlib.utils.errors import CheckpointError, check_choice, checked
from rdlib.utils.files import check_writable
from rdlib.utils.hardware import best_device, resolve_precision

SHOWING = ("figures", "widgets", "reproduction", "deploy", "cli.py", "__main__.py")  # neither train nor map


@dataclass(frozen=True)
class Profile:
    """The settings of a lesson: backbone, teacher's weights, side of the images in pixels, training, smoothing."""

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
    check_choice("RDLIB_PROFILE", name, PROFILES)
    return PROFILES[name]


class Lesson(NamedTuple):
    """A data set, a model trained on it, and the training run."""

    data: AnomalyData
    model: ReverseDistillation
    run: Run


@checked
def lesson(name: str, cfg: Profile | None = None, *, seed: int = 0) -> Lesson:
    """Return a model trained on the data set `name` (as `load_dataset` takes it) in a profile.

    The run is stored as a checkpoint in `data_root()`/lessons. Equal arguments reuse it on the same kind of hardware,
    until the library's code changes. A checkpoint that is damaged or belongs to other images is replaced. Where this
    folder cannot be written, a warning says so, and nothing is stored.

    Args:
        name: the data set, such as "synthetic/weave".
        cfg: the settings; None for those of `profile()`.
        seed: seed of the student's weights and of the order of the images; another seed trains another model.

    Returns:
        The data, the trained model and its run.

    Raises:
        ValueError: `RDLIB_PROFILE` or `name` is unknown.
        DataError: the data set is missing or unreadable.
        WeightsError: the teacher's weights cannot be downloaded or read.
        FloatingPointError: the loss or a weight became NaN or infinite.
    """
    cfg = cfg or profile()
    data = load_dataset(name, size=cfg.size, n_train=cfg.n_train)
    model = ReverseDistillation(cfg.backbone, cfg.weights, sigma=cfg.sigma, seed=seed).to(best_device())
    settings = [name, asdict(cfg), seed, str(model.device), resolve_precision("auto", model.device),
                fingerprint(model.teacher), source_hash(Path(__file__).parent)]  # all that its checkpoint depends on
    key = sha256(json.dumps(settings).encode()).hexdigest()[:12]
    path = data_root() / "lessons" / f"{name.replace('/', '-')}-{key}.pt"
    train = partial(fit, model, data.train, cfg.epochs, batch_size=cfg.batch_size, seed=seed, precision="auto")
    try:
        check_writable(path, "Set RDLIB_DATA to a folder of yours.")
    except OSError as error:
        warnings.warn(f"{error} The lesson is trained, but not stored.", stacklevel=2)
        return Lesson(data, model, train())
    try:
        with FileLock(path.with_name(f".{path.name}.lock")):  # two notebooks may ask for one lesson
            run = train(checkpoint=path)
    except CheckpointError:  # a damaged file, or other images of the same name
        path.unlink(missing_ok=True)
        return lesson(name, cfg, seed=seed)
    return Lesson(data, model, run)


def source_hash(library: Path) -> str:
    """Compute the SHA-256 of the library's code, in hexadecimal, without the modules that only show results."""
    files = (path for path in sorted(library.rglob("*.py")) if path.relative_to(library).parts[0] not in SHOWING)
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def agree(what: str, got: Any, expected: ArrayLike, hint: str = "", *, tolerance: float = 1e-5) -> None:
    """Check a student's answer: `got` must have the shape of `expected` and equal numbers within `tolerance`.

    Args:
        what: name of the answer, at the start of the message.
        got: a number, nested list, array or tensor of any dtype and device; None means "not answered yet".
        expected: a number, nested list, array or tensor.
        hint: advice at the end of the message.
        tolerance: absolute tolerance, and also tolerance relative to the expected number; at least 0.

    Raises:
        AssertionError: the answer is missing or not numeric, or its shape or a number differs.
    """
    if got is None or got is NotImplemented:
        raise AssertionError(f"{what} is {got}: nothing was written there yet, or a return is missing. {hint}")
    try:
        got = as_array(got, np.float64)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{what} should be numbers, not {type(got).__name__} ({error}). {hint}") from error
    expected = as_array(expected, np.float64)
    convert = torch.tensor if got.ndim or expected.ndim else float
    assert_close(convert(got), convert(expected), rtol=tolerance, atol=tolerance,
                 msg=lambda text: f"{what}: {text}\n{hint}")
