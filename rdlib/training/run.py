"""Define the state of a training run. `fit` returns it, callbacks receive it, and a checkpoint stores it."""
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from rdlib.detector import Distillation, Features
from rdlib.losses import LOSSES
from rdlib.training.averaging import MovingAverage
from rdlib.utils.display import Shown
from rdlib.utils.hardware import as_float


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
        swap = self.average.swap if self.average else lambda: None
        swap()
        try:
            yield
        finally:
            swap()
