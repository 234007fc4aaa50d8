"""What the notebooks share: how large everything is on this machine, and models that several of them look at.

`RDLIB_PROFILE` chooses the size: "cpu" (default), minutes on two cores, offline; or "paper", the paper's protocol, for
a GPU and ImageNet's weights.
"""
import json
import os
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from rdlib.datasets import data_root, load_dataset
from rdlib.hardware import best_device
from rdlib.model import ReverseDistillation
from rdlib.run import Run
from rdlib.samples import AnomalyData
from rdlib.training import fit
from rdlib.weights import embedded_teacher


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
    """The profile that `RDLIB_PROFILE` names. Raises ValueError for one that there is not."""
    name = os.environ.get("RDLIB_PROFILE") or "cpu"
    if name not in PROFILES:
        raise ValueError(f"RDLIB_PROFILE is '{name}'. Set it to one of: {', '.join(PROFILES)}.")
    return PROFILES[name]


class Lesson(NamedTuple):
    """A data set and a model that has learnt from it, with the run that taught it."""

    data: AnomalyData
    model: ReverseDistillation
    run: Run


def lesson(name: str, size: Profile | None = None, *, seed: int = 0) -> Lesson:
    """A model trained on the data set `name` (as `load_dataset` takes it) in a profile: from file if a notebook has
    trained it before, else trained now.

    The file, a checkpoint of `fit`, lies in `data_root()`/lessons; its name follows from settings and teacher, so
    equal arguments give the same model either way. Delete it, or ask for another seed, to see the training itself.
    """
    size = size or profile()
    data = load_dataset(name, size=size.size, n_train=size.n_train)
    model = ReverseDistillation(size.backbone, size.weights, sigma=size.sigma, seed=seed).to(best_device())
    teacher = sha256(embedded_teacher().read_bytes()).hexdigest() if size.weights == "embedded" else size.weights
    key = sha256(json.dumps([name, asdict(size), seed, str(model.device), teacher]).encode()).hexdigest()[:12]
    path = data_root() / "lessons" / f"{name.replace('/', '-')}-{key}.pt"
    run = fit(model, data.train, size.epochs, batch_size=size.batch_size, seed=seed, precision="auto", checkpoint=path)
    return Lesson(data, model, run)
