"""What a training run has done so far: `fit` returns it, callbacks watch it, a checkpoint holds it."""
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from rdlib.detector import Distillation
from rdlib.training.averaging import MovingAverage


@dataclass
class Run:
    """A training run: what `fit` returns, and what it hands to every callback after every step."""

    model: Distillation
    epochs: int
    steps_per_epoch: int
    images_per_epoch: int  # that are trained on, see `batch_size` of `fit`
    settings: dict  # what the run was asked for and what it chose: cache, precision, ...
    losses: list[float] = field(default_factory=list)  # one per step
    seconds: float = 0.0  # spent in steps, over all resumptions, without the teacher cache and the callbacks
    stop: bool = False  # a callback sets it to end the run after this step
    average: MovingAverage | None = None  # of the weights, while `fit` runs with `ema`

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.losses)

    @property
    def epoch(self) -> int:
        """Whole epochs done."""
        return self.step // self.steps_per_epoch

    @property
    def at_epoch_end(self) -> bool:
        """Whether the last step was the last of its epoch."""
        return self.step > 0 and self.step % self.steps_per_epoch == 0

    @property
    def epoch_losses(self) -> list[float]:
        """The mean loss of every whole epoch."""
        k = self.steps_per_epoch
        return [sum(self.losses[i:i + k]) / k for i in range(0, self.epoch * k, k)]

    @property
    def images_per_second(self) -> float:
        """Training speed over the whole run."""
        return self.step / self.steps_per_epoch * self.images_per_epoch / max(self.seconds, 1e-9)

    def averaged(self) -> AbstractContextManager:
        """A block in which the model carries the averaged weights, for a callback that evaluates it on the way.

        Without `ema` the model stays as it is, so a callback need not ask; so it does after `fit`, when it carries the
        average anyway.
        """
        return self.average.in_place() if self.average else nullcontext()
