"""Define the state of a training run: `fit` returns it, callbacks receive it, and a checkpoint stores it."""
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rdlib.datasets.fingerprint import images_digest
from rdlib.detector import Distillation, Features
from rdlib.losses import LOSSES
from rdlib.utils.display import Shown
from rdlib.utils.errors import CheckpointError, checked, warn
from rdlib.utils.hardware import as_float

Tensors = tuple[Tensor, ...] | list[Tensor]


class MovingAverage:
    """Exponential moving average (EMA) of a run's trainable modules over its steps. It varies less than the weights.

    The paper uses none. The average starts at the weights after the first step. Further step t = 1, 2, ... changes it
    to d * average + (1 - d) * weights (torch.optim.swa_utils). Here d = min(decay, (1 + t) / (10 + t)): at a constant
    d near 1, the untrained weights of the first step would count for epochs. BatchNorm's running statistics are
    averaged as well, since those of the last step belong to the weights of the last step.

    Args:
        modules: trainable modules, by name.
        decay: largest share of the average that a step keeps, in (0, 1); 0.99 averages about the last 100 steps.

    Raises:
        ValueError: `decay` is outside (0, 1).
    """

    @checked
    def __init__(self, modules: Mapping[str, nn.Module], decay: float):
        self.live = nn.ModuleDict(modules)

        def warmed_up(averages: Tensors, weights: Tensors, steps: Tensor | int) -> None:
            t = int(steps)
            get_ema_multi_avg_fn(min(decay, (1 + t) / (10 + t)))(averages, weights, steps)

        self.average = AveragedModel(self.live, multi_avg_fn=warmed_up, use_buffers=True)

    def update(self) -> None:
        """Add the current weights to the average."""
        self.average.update_parameters(self.live)

    @torch.no_grad()
    def swap(self) -> None:
        """Swap live and averaged weights in place. Calling it twice restores the original state."""
        states = (networks.state_dict().values() for networks in (self.live, self.average.module))
        for live, averaged in zip(*states, strict=True):
            if live.is_floating_point():  # not BatchNorm's counts of batches
                kept = live.clone()
                live.copy_(averaged)
                averaged.copy_(kept)


@dataclass(repr=False)
class Run(Shown):
    """A training run: settings, losses and progress. Callbacks receive it after every step.

    Args:
        model: the model that is trained.
        epochs: total number of epochs asked for.
        steps_per_epoch: number of batches in an epoch.
        images_per_epoch: number of images that an epoch trains on, see `batch_size` of `fit`.
        settings: settings that `fit` was given or chose, such as batch size, precision and cache.
        losses: one loss per step.
        seconds: time spent in training steps, also before an interruption, without feature cache and callbacks.
        stop: a callback sets it to True to end the run after this step.
        average: moving average of the weights while `fit` runs with `ema`, else None.
        notes: what callbacks keep, by name; a checkpoint stores it, so only numbers, strings, lists and dicts.
        claimed: names of the notes that callbacks of this run have asked for, see `kept`.
        begun: whether this call of `fit` has begun a step, so that weights may have changed.
        interrupted: whether Ctrl-C or SIGTERM ended the run.
        unwritten: files that could not be written, see `writing`.
    """

    model: Distillation
    epochs: int
    steps_per_epoch: int
    images_per_epoch: int
    settings: dict
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    stop: bool = False
    average: MovingAverage | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    claimed: list[str] = field(default_factory=list)
    begun: bool = False
    interrupted: bool = False
    unwritten: list[Path] = field(default_factory=list)

    def kept(self, name: str, dataset: Any = None) -> dict:
        """Return the notes of a callback. Of several callbacks with one name, each has its own, in their order.

        With a checkpoint, raises CheckpointError if the notes were taken on other images than those of `dataset`.
        """
        self.claimed.append(name)
        key = f"{name} {self.claimed.count(name)}"
        images = images_digest(dataset) if dataset is not None and self.settings["training images"] else None
        if self.notes.setdefault(f"images of {key}", images) != images:
            raise CheckpointError(f"The checkpoint has a {name} on other images. Pass the callbacks their earlier data "
                                  "sets, in the same order, or use another file name.")
        return self.notes.setdefault(key, {})

    @contextmanager
    def writing(self, path: Path) -> Generator[None]:
        """Run a block that writes `path`. If that fails, training goes on, and the first time a warning says why."""
        try:
            yield
        except OSError as error:
            if path not in self.unwritten:
                self.unwritten.append(path)
                warn(f"{error} Training goes on without this file.")

    def summary(self) -> dict[str, object]:
        """Return what `repr` shows."""
        loss = f"{self.losses[-1]:.4f}" if self.losses else None
        return {"model": type(self.model).__name__, "epochs": f"{self.epoch} of {self.epochs}", "steps": self.step,
                "images an epoch": self.images_per_epoch, "last loss": loss}

    @property
    def step(self) -> int:
        """Count the finished steps."""
        return len(self.losses)

    @property
    def epoch(self) -> int:
        """Count the finished epochs."""
        return self.step // self.steps_per_epoch

    @property
    def at_epoch_end(self) -> bool:
        """Tell whether the last step finished an epoch."""
        return self.step > 0 and self.step % self.steps_per_epoch == 0

    @property
    def epoch_losses(self) -> list[float]:
        """Compute the mean loss of every finished epoch."""
        k = self.steps_per_epoch
        return [sum(self.losses[i:i + k]) / k for i in range(0, self.epoch * k, k)]

    def loss(self, teacher: Features, student: Features) -> Tensor:
        """Compute the run's loss between the features of a batch, on its scales, in float32 or higher."""
        pairs = [(as_float(teacher[k - 1]), as_float(student[k - 1])) for k in self.settings["scales"]]
        return LOSSES[self.settings["loss"]](*zip(*pairs, strict=True))

    @contextmanager
    def averaged(self) -> Generator[None]:
        """Run a block with the averaged weights in the model, so that a callback can evaluate them.

        Without `ema`, and after `fit`, the block leaves the model as it is.
        """
        with ExitStack() as at_end:
            if self.average:
                self.average.swap()
                at_end.callback(self.average.swap)
            yield

    def end(self) -> None:
        """Put the averaged weights into the model for good."""
        if self.average:
            self.average.swap()
            self.average = None
