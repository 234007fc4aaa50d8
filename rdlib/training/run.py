"""Define the state of a training run. `fit` returns it, callbacks receive it, and a checkpoint stores it."""
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rdlib.detector import Distillation
from rdlib.training.averaging import MovingAverage


@dataclass(repr=False)
class Run:
    """A training run: settings, losses and progress. Callbacks receive it after every step."""

    model: Distillation
    epochs: int  # total number of epochs asked for
    steps_per_epoch: int
    images_per_epoch: int  # images that an epoch trains on, see `batch_size` of `fit`
    settings: dict  # what `fit` was asked for and what it chose: batch size, cache, precision, ...
    losses: list[float] = field(default_factory=list)  # one per step
    seconds: float = 0.0  # time spent in steps, summed over interruptions, without feature cache and callbacks
    stop: bool = False  # a callback sets it to end the run after this step
    average: MovingAverage | None = None  # of the weights, while `fit` runs with `ema`

    def __repr__(self) -> str:
        loss = f"{self.losses[-1]:.4f}" if self.losses else "none"
        return (f"Run({self.epoch} of {self.epochs} epochs, {self.step} steps, {self.images_per_epoch} images an "
                f"epoch, last loss {loss})")

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

    @contextmanager
    def averaged(self) -> Generator[None]:
        """Give the model its averaged weights inside a block, so that a callback can evaluate them.

        Without `ema`, and after `fit`, the block leaves the model as it is.
        """
        swap = self.average.swap if self.average else lambda: None
        swap()
        try:
            yield
        finally:
            swap()
