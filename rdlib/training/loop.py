"""Training of the student: a plain loop over batches, with the official protocol as default.

The protocol is Adam at a constant rate, no augmentation, one model per category, and the last epoch is reported:
nothing is chosen on test data. The order of the images depends on seed and epoch only, so a run can stop after any
step and resume later with the same result.
"""
import json
import math
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from numbers import Integral
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from rdlib.anomaly_map import SCALES, checked_scales
from rdlib.datasets.samples import Seeded, augments, check_dataset
from rdlib.detector import Distillation, Features
from rdlib.losses import LOSSES
from rdlib.training.averaging import MovingAverage
from rdlib.training.checkpoint import read_checkpoint, write_checkpoint
from rdlib.training.features import Batch, CachedFeatures, FeatureSource, LiveFeatures, wants_cache
from rdlib.training.run import Run
from rdlib.training.schedule import SCHEDULES
from rdlib.utils.hardware import as_float, autocast, memory_format, neutral, resolve_precision

Callback = Callable[[Run], None]


def fit(model: Distillation, dataset: Dataset, epochs: int = 200, *, batch_size: int = 16, lr: float = 0.005,
        betas: tuple[float, float] = (0.5, 0.999), loss: str = "flattened", scales: Sequence[int] = SCALES,
        schedule: str = "constant", ema: float | None = None, seed: int = 0,
        cache: bool | Literal["auto"] = "auto", precision: str = "float32", num_workers: int = 0,
        callbacks: Iterable[Callback] = (), checkpoint: str | Path | None = None, checkpoint_every: int = 10,
        progress: bool = True) -> Run:
    """Train OCBE and student (or a `ForwardStudent`) on good images, on the model's device.

    The defaults are the official protocol.

    Args:
        model: changed in place. When `fit` returns it is in eval mode and has no threshold.
        dataset: good images, as items with an `.image` (3, H, W) float32 in [0, 1], see `rdlib.datasets.samples.Item`. Random
            augmentation that draws from torch's, numpy's or Python's global generator follows `seed` and epoch.
        epochs: total number of epochs, 1 or more; a resumed run continues up to this number.
        batch_size: the last, smaller batch of an epoch is kept, except a lone image where the embedding is 1 x 1
            (32 x 32 input): BatchNorm cannot train on a single value per channel.
        lr, betas: Adam's, without weight decay.
        loss: "flattened" (official code) or "positional" (the paper's eq. 2).
        scales: whose losses are summed; all three in the paper. What the map is made of is the model's own choice.
        schedule: of the learning rate: "constant" (paper), or "cosine", from `lr` down to 0 over all `epochs`.
        ema: None (paper), or the decay per step of a moving average of the weights, such as 0.99, see
            `rdlib.training.averaging`. The model holds the average when `fit` returns.
        seed: of the order of the images and of random augmentation.
        cache: keep the teacher's features in memory: True, False, or "auto" (no augmentation, and memory allows).
        precision: "float32", "bf16" (autocast) or "auto" (bf16 where the hardware has it).
        num_workers: processes that read images, where features are not kept.
        callbacks: called with the `Run` after every step; one may set `run.stop`. The method `on_end` of a callback
            that has one is called with the `Run` when training ends, also when it ends with an error.
        checkpoint: file to write every `checkpoint_every` epochs and at the end; if it is there, the run resumes.
        progress: show a progress bar with loss and images per second.

    Returns:
        The `Run`. On the CPU of one machine, equal arguments give equal weights bit for bit, whether the run was
        stopped and resumed or not. Cached and fresh features may differ by rounding, so a resumed run keeps to what
        it began with, `run.settings["cached"]`. The caller's autocast, grad mode and default dtype have no effect.

    Raises:
        ValueError: a data set that is empty or of another form; a number, word or decay that makes no sense.
        FloatingPointError: the loss or a weight became NaN or infinite.
        CheckpointError: the checkpoint is damaged, belongs to another run, or has gone further than `epochs`.
    """
    _check_words(loss=(loss, LOSSES), schedule=(schedule, SCHEDULES), cache=(cache, (True, False, "auto")))
    epochs, batch_size, checkpoint_every = (_whole(name, number, 1) for name, number in (
        ("epochs", epochs), ("batch_size", batch_size), ("checkpoint_every", checkpoint_every)))
    seed, num_workers, callbacks = _whole("seed", seed, 0), _whole("num_workers", num_workers, 0), tuple(callbacks)
    precision, checkpoint = resolve_precision(precision, model.device), checkpoint and Path(checkpoint)
    with neutral(model.device), ExitStack() as ends:
        live = LiveFeatures(model, dataset, seed, precision, num_workers, check_dataset(dataset))
        model.to(memory_format=memory_format(model.device))
        chunks = epoch_chunks(dataset, batch_size, seed, 0)
        settings = {**model.signature(), "batch_size": batch_size, "lr": lr, "betas": list(betas), "loss": loss,
                    "scales": list(checked_scales(scales)), "schedule": schedule,
                    "decay_epochs": None if schedule == "constant" else epochs, "ema": ema, "seed": seed,
                    "precision": precision, **_image_settings(dataset, seed)}
        settings = json.loads(json.dumps(settings, default=lambda number: number.item()))  # a checkpoint takes no NumPy
        optimizer = torch.optim.Adam(model.parameters(), lr=settings["lr"], betas=settings["betas"],
                                     fused=model.device.type in ("cpu", "cuda"))
        average = None if ema is None else MovingAverage(model.trainable_modules(), ema)
        run = Run(model, epochs, len(chunks), sum(map(len, chunks)), settings, average=average)
        if checkpoint and checkpoint.exists():
            read_checkpoint(checkpoint, run, optimizer)
        for callback in callbacks:
            if hasattr(callback, "on_end"):
                ends.callback(callback.on_end, run)
        ends.callback(model.eval)
        source = _feature_source(run, live, cache, progress)
        model.threshold = None
        model.train()
        _train(run, source, dataset, optimizer, callbacks, checkpoint, checkpoint_every, progress)
        if average:
            average.swap()
            run.average = None
    return run


def _check_words(**choices: tuple[object, Collection]) -> None:
    """Raise ValueError, listing what is known, unless each word is one of its known ones."""
    for what, (word, known) in choices.items():
        if word not in tuple(known):
            raise ValueError(f"There is no {what} '{word}'. Choose one of: {', '.join(map(str, known))}.")


def _whole(name: str, number: int, least: int) -> int:
    """The number as an int. Raises ValueError unless it is a whole one, from `least` to what a seed may be."""
    most = 2**32 - 1
    if isinstance(number, bool) or not isinstance(number, Integral) or not least <= number <= most:
        raise ValueError(f"{name} is a whole number from {least} to {most}; got {number!r}.")
    return int(number)


def _image_settings(dataset: Dataset, seed: int) -> dict:
    """What a checkpoint keeps of the images: their number and shape, and a CRC-32 of the first one as it is read.

    An augmented image has no such checksum: it looks different each time it is read.
    """
    first = Seeded(dataset, seed, 0)[0].image
    checksum = None if augments(dataset) else zlib.crc32(first.numpy().tobytes())
    return {"images": [len(dataset), *first.shape], "first image": checksum}


def epoch_chunks(dataset: Dataset, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """Return the batches of an epoch, (B,) int64 indices into the data set each, shuffled by seed and epoch only.

    Raises ValueError if nothing is left to train on.
    """
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
    chunks = list(order.split(batch_size)) if len(order) else []
    if chunks and len(chunks[-1]) == 1 and Seeded(dataset, seed, epoch)[0].image.shape[-2:] == (32, 32):
        chunks = [chunk for chunk in chunks if len(chunk) > 1]
    if not chunks:
        raise ValueError(f"A training set of {len(dataset)} images in batches of {batch_size} leaves nothing to train "
                         "on. Add good images (at 32 x 32 pixels, two or more to a batch).")
    return chunks


def _feature_source(run: Run, live: LiveFeatures, cache: bool | str, progress: bool) -> FeatureSource:
    dtype = torch.bfloat16 if live.precision == "bf16" else torch.float32
    kept = run.settings.setdefault("cached", wants_cache(run.model, live.dataset, cache, dtype))
    if not kept or run.epoch >= run.epochs:
        return live
    return CachedFeatures(live, run.settings["batch_size"], progress)


def _train(run: Run, source: FeatureSource, dataset: Dataset, optimizer: torch.optim.Optimizer,
           callbacks: Iterable[Callback], checkpoint: Path | None, every: int, progress: bool) -> None:
    """Train up to the last epoch, or until a callback stops the run, and keep a checkpoint every so many epochs."""
    done = run.step * run.images_per_epoch // run.steps_per_epoch
    with tqdm(total=run.epochs * run.images_per_epoch, initial=done, unit="image", desc="training",
              disable=not progress) as bar:
        while run.epoch < run.epochs and not run.stop:
            chunks = epoch_chunks(dataset, run.settings["batch_size"], run.settings["seed"], run.epoch)
            batches = source.batches(chunks[run.step % run.steps_per_epoch:], run.epoch)
            _train_epoch(run, batches, optimizer, callbacks, bar)
            if not all(value.isfinite().all() for part in run.model.trainable_modules().values()
                       for value in part.state_dict().values()):  # no loss was computed with them yet
                raise _diverged("a weight became NaN or infinite", run.step, run)
            if checkpoint and (run.stop or run.epoch == run.epochs or run.epoch % every == 0):
                write_checkpoint(checkpoint, run, optimizer)


def _train_epoch(run: Run, batches: Iterable[Batch], optimizer: torch.optim.Optimizer, callbacks: Iterable[Callback],
                 bar: tqdm) -> None:
    """Train on the remaining batches of an epoch, or until a callback stops the run."""
    began = time.perf_counter()
    for images, teacher in batches:
        value = _train_step(run, images, teacher, optimizer)
        run.losses.append(value)
        run.seconds += time.perf_counter() - began
        bar.update(len(teacher[0]))
        bar.set_postfix(epoch=f"{run.epoch}/{run.epochs}", loss=f"{value:.4f}", refresh=False)
        for callback in callbacks:
            callback(run)
        if run.stop:
            return
        began = time.perf_counter()


def _train_step(run: Run, images: Tensor | None, teacher: Features, optimizer: torch.optim.Optimizer) -> float:
    """Do one step of the optimizer and return the loss before it."""
    settings = run.settings
    with autocast(settings["precision"], run.model.device):
        student = run.model.student_features(images, teacher)
    pairs = [(as_float(teacher[k - 1]), as_float(student[k - 1])) for k in settings["scales"]]
    loss = LOSSES[settings["loss"]](*zip(*pairs, strict=True))
    value = loss.item()
    if not math.isfinite(value):
        raise _diverged(f"the loss became {value}", run.step + 1, run)
    for group in optimizer.param_groups:
        group["lr"] = settings["lr"] * SCHEDULES[settings["schedule"]](run.step / (run.epochs * run.steps_per_epoch))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if run.average:
        run.average.update()
    return value


def _diverged(what: str, step: int, run: Run) -> FloatingPointError:
    epoch = (step - 1) // run.steps_per_epoch + 1
    return FloatingPointError(
        f"Training has diverged: {what} in step {step} (epoch {epoch}), and this model is lost. Train a new one with a "
        "smaller lr or precision='float32'; a checkpoint, if you keep one, is intact.")
