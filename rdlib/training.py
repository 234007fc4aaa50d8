"""Training the student (paper §4): a plain loop over batches, the official protocol by default.

Adam at a constant rate, no augmentation, one model per category, the last epoch reported: nothing is chosen on test
data. The order of the images depends on the seed and the epoch alone, so a run can stop after any step and go on later
as if it had never stopped.
"""
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from rdlib.checkpoint import read_checkpoint, write_checkpoint
from rdlib.losses import LOSSES
from rdlib.model import ReverseDistillation
from rdlib.hardware import memory_format, resolve_precision
from rdlib.teacher_features import CachedFeatures, FeatureSource, LiveFeatures, wants_cache


@dataclass
class Run:
    """A training run: what `fit` returns, and what it hands to every callback after every step."""

    model: ReverseDistillation
    epochs: int
    steps_per_epoch: int
    images_per_epoch: int
    settings: dict  # what the run was asked for and what it chose: cache, precision, ...
    losses: list[float] = field(default_factory=list)  # one per step
    seconds: float = 0.0  # spent in steps, over all resumptions, without the teacher cache and the callbacks
    stop: bool = False  # a callback sets it to end the run after this step

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


Callback = Callable[[Run], None]


def fit(model: ReverseDistillation, dataset: Dataset, epochs: int = 200, *, batch_size: int = 16, lr: float = 0.005,
        betas: tuple[float, float] = (0.5, 0.999), loss: str = "flattened", seed: int = 0,
        cache: bool | Literal["auto"] = "auto", precision: str = "float32", workers: int = 0,
        callbacks: Iterable[Callback] = (), checkpoint: str | Path | None = None, checkpoint_every: int = 10,
        progress: bool = True) -> Run:
    """Train OCBE and student on good images, where the model is; the defaults are the official protocol.

    Args:
        model: changed in place; in eval mode when `fit` returns.
        dataset: good images, as items with an `.image` (3, H, W) float32 in [0, 1], see `rdlib.samples.Item`.
        epochs: passes over the images, in all: a resumed run does what is missing.
        batch_size: the last, smaller batch of an epoch is kept, except a lone image where the embedding is 1 x 1
            (32 x 32 input): BatchNorm cannot train on a single value per channel.
        lr, betas: Adam's, without weight decay.
        loss: "flattened" (official code) or "positional" (the paper's eq. 2).
        seed: of the order of the images.
        cache: keep the teacher's features in memory: True, False, or "auto" (no augmentation, and memory allows).
        precision: "float32", "bf16" (autocast) or "auto" (bf16 where the hardware has it).
        workers: processes that read images, where features are not kept.
        callbacks: called with the `Run` after every step; one may set `run.stop`.
        checkpoint: file to write every `checkpoint_every` epochs and at the end; if it is there, the run goes on from it.
        progress: show a progress bar with loss and images per second.

    Returns:
        The `Run`. On one machine's CPU, equal arguments give equal weights bit for bit, stopped and resumed or not.

    Raises:
        ValueError: an empty data set, or an unknown loss or precision.
        FloatingPointError: the loss became NaN or infinite.
        CheckpointError: the checkpoint is damaged or belongs to another run.
    """
    if loss not in LOSSES:
        raise ValueError(f"There is no loss '{loss}'. Choose one of: {', '.join(LOSSES)}.")
    precision = resolve_precision(precision, model.device)
    optimiser = torch.optim.Adam(model.parameters(), lr=lr, betas=betas, fused=model.device.type in ("cpu", "cuda"))
    steps_per_epoch = len(epoch_chunks(dataset, batch_size, seed, 0))
    settings = {"backbone": model.config.backbone, "batch_size": batch_size, "lr": lr, "betas": list(betas),
                "loss": loss, "seed": seed, "precision": precision, "images": len(dataset)}
    run = Run(model, epochs, steps_per_epoch, len(dataset), settings)
    if checkpoint and Path(checkpoint).exists():
        read_checkpoint(Path(checkpoint), run, optimiser)
    model.to(memory_format=memory_format(model.device))
    source = _feature_source(run, dataset, cache, batch_size, workers, progress)
    model.train()
    try:
        with tqdm(total=epochs * len(dataset), initial=run.step * len(dataset) // steps_per_epoch, unit="image",
                  desc="training", disable=not progress) as bar:
            while run.epoch < epochs and not run.stop:
                chunks = epoch_chunks(dataset, batch_size, seed, run.epoch)[run.step % steps_per_epoch:]
                _train_epoch(run, source.batches(chunks), optimiser, callbacks, bar)
                if checkpoint and (run.stop or run.epoch == epochs or run.epoch % checkpoint_every == 0):
                    write_checkpoint(Path(checkpoint), run, optimiser)
    finally:
        model.eval()
    return run


def epoch_chunks(dataset: Dataset, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """The batches of an epoch: (B,) int64 places in the data set, shuffled by seed and epoch alone.

    Raises ValueError where there is nothing to train on.
    """
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
    chunks = list(order.split(batch_size)) if len(order) else []
    if chunks and len(chunks[-1]) == 1 and dataset[0].image.shape[-2:] == (32, 32):
        chunks.pop()
    if not chunks:
        raise ValueError(f"A training set of {len(dataset)} images in batches of {batch_size} leaves nothing to train "
                         "on. Add good images (at 32 x 32 pixels, two or more to a batch).")
    return chunks


def _feature_source(run: Run, dataset: Dataset, cache: bool | str, batch_size: int, workers: int,
                    progress: bool) -> FeatureSource:
    dtype = torch.bfloat16 if run.settings["precision"] == "bf16" else torch.float32
    # A resumed run keeps to what it began with: kept and fresh features may differ in the last bit.
    kept = run.settings.setdefault("cached", wants_cache(run.model, dataset, cache, dtype))
    source = LiveFeatures(run.model, dataset, workers)
    if not kept or run.epoch >= run.epochs:
        return source
    with _autocast(run):
        return CachedFeatures(source, batch_size, progress)


def _autocast(run: Run) -> torch.autocast:
    return torch.autocast(run.model.device.type, torch.bfloat16, enabled=run.settings["precision"] == "bf16")


def _train_epoch(run: Run, batches: Iterable, optimiser: torch.optim.Optimizer, callbacks: Iterable[Callback],
                 bar: tqdm) -> None:
    """Train on what is left of an epoch, or until a callback stops the run."""
    loss_of = LOSSES[run.settings["loss"]]
    began = time.perf_counter()
    for teacher in batches:
        with _autocast(run):
            student = run.model.restore(teacher)
        loss = loss_of([t.float() for t in teacher], [s.float() for s in student])
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(
                f"The loss became {value} in step {run.step + 1} (epoch {run.epoch + 1}), and this model is lost. "
                "Train a new one with a smaller lr or precision='float32'; a checkpoint, if you keep one, is intact.")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        run.losses.append(value)
        run.seconds += time.perf_counter() - began
        bar.update(len(teacher[0]))
        bar.set_postfix(epoch=f"{run.epoch}/{run.epochs}", loss=f"{value:.4f}")
        for callback in callbacks:
            callback(run)
        if run.stop:
            return
        began = time.perf_counter()
