"""Train the student: a plain loop over batches, with the official protocol as default.

The protocol is Adam at a constant rate, no augmentation, and one model per category. The last epoch is reported, so
nothing is chosen on test data. The order of the images depends on seed and epoch only. A run can therefore stop after
any step and resume later with the same result.
"""
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from rdlib.anomaly_map import SCALES, checked_scales
from rdlib.datasets.fingerprint import images_digest
from rdlib.datasets.items import Seeded, white_of
from rdlib.detector import Distillation, Features
from rdlib.losses import LOSSES
from rdlib.training.checkpoint import fingerprint, read_checkpoint, write_checkpoint
from rdlib.training.features import CachedFeatures, LiveFeatures, wants_cache, warn_of_defects, widened
from rdlib.training.interruption import kept, step_finished
from rdlib.training.run import MovingAverage, Run
from rdlib.utils.errors import check_choice, checked, warn
from rdlib.utils.files import check_writable
from rdlib.utils.hardware import autocast, float32_mode, has_fused_adam, held, memory_format, neutral, resolve_precision

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
}
"""Map the finished share of the run, in [0, 1), to the factor on the learning rate of the next step."""


@checked
def fit(model: "Distillation", dataset: Dataset, epochs: int = 200, *, batch_size: int = 16, lr: float = 0.005,
        betas: tuple[float, float] = (0.5, 0.999), loss: str = "flattened", scales: Sequence[int] = SCALES,
        schedule: str = "constant", ema: float | None = None, seed: int = 0,
        cache: bool | Literal["auto"] = "auto", precision: str = "float32", num_workers: int = 0,
        callbacks: Iterable[Callable[[Run], None]] = (), checkpoint: str | Path | None = None,
        checkpoint_every: int = 10, on_interrupt: Literal["raise", "return"] = "raise", progress: bool = True) -> Run:
    """Train the trainable modules of a model on good images, with the official protocol as default.

    On one CPU and with the same number of threads, equal arguments give equal weights bit for bit, also after an
    interruption. The caller's autocast, grad mode and default dtype have no effect.

    Args:
        model: `ReverseDistillation` or `ForwardStudent`; changed in place. Afterwards it is in eval mode, has no
            threshold, and knows the size of the images, the range of their values, and the white of their files.
        dataset: good images (3, H, W), float32 RGB in [0, 1] or uint8: an `AnomalyDataset` or another map-style data
            set, such as a `Subset`, `ConcatDataset`, `TensorDataset` or list of tensors; no `DataLoader`. Random
            augmentation with torch's, NumPy's or Python's global generator follows `seed` and epoch.
        epochs: total number of epochs, 1 or more; a resumed run continues up to this number.
        batch_size: images per step, 1 or more. The last batch of an epoch may be smaller. A last batch of one 32 x 32
            image is dropped, since BatchNorm cannot train on a single value per channel.
        lr: learning rate of Adam, at least 0, without weight decay.
        betas: Adam's coefficients of the running averages, in [0, 1).
        loss: "flattened" (official code) or "positional" (the paper's eq. 2).
        scales: scales whose losses are summed, some of 1, 2, 3; a warning if the model's map reads others.
        schedule: "constant" (paper), or "cosine", from `lr` down to 0 over all `epochs`.
        ema: decay per step of a moving average of the weights, in (0, 1), such as 0.99; None for no average (paper).
            With an average, the model holds the averaged weights afterwards, see `MovingAverage`.
        seed: seed of the order of the images and of random augmentation, 0 or more.
        cache: whether to keep the teacher's features in memory. "auto" keeps them without augmentation, if memory
            allows.
        precision: "float32", "bf16" (autocast) or "auto" (bf16 on hardware where it is fast).
        num_workers: number of processes that read images, 0 or more; 0 reads in this process.
        callbacks: functions called with the `Run` after every step; one may set `run.stop`. Methods `on_start` and
            `on_end` are called as well, see `rdlib.training.callbacks.Callback`.
        checkpoint: file written every `checkpoint_every` epochs and at the end. If it exists, the run resumes from it.
        checkpoint_every: epochs between two checkpoints, 1 or more.
        on_interrupt: what Ctrl-C does after the step: "raise" KeyboardInterrupt, whose `run` is the run, or "return"
            the run. The checkpoint is written first. A second Ctrl-C raises at once. SIGTERM does the same where its
            handler is Python's `signal.default_int_handler`, as in `rdlib train`.
        progress: show a progress bar with loss and images per second.

    Returns:
        The `Run`. Cached and recomputed features may differ by rounding, so a resumed run ignores `cache` and keeps its
        first choice, `run.settings["cached"]`.

    Raises:
        DataError: an image cannot be read, or the files have no common value of white.
        ValueError: the data set is empty or of another form, the model cannot be trained, or an argument has an invalid
            value.
        WeightsError: layers of the model were changed after it was built, such as by folding BatchNorm.
        FloatingPointError: the loss or a weight became NaN or infinite.
        CheckpointError: the checkpoint is damaged, belongs to another run, or holds more than `epochs` epochs.
        OSError: the checkpoint's place cannot be written. If it fails later, training goes on with a warning.
        RuntimeError: another thread uses the model.
        KeyboardInterrupt: training was interrupted. Here and after other errors, `rdlib.last_run()` returns the run.
    """
    for name, value, choices in (("loss", loss, LOSSES), ("schedule", schedule, SCHEDULES),
                                 ("cache", cache, (True, False, "auto")),
                                 ("on_interrupt", on_interrupt, ("raise", "return"))):
        check_choice(name, value, choices)
    scales, callbacks = _check_model(model, dataset, scales, callbacks), tuple(callbacks)
    precision, file = resolve_precision(precision, model.device), Path(checkpoint) if checkpoint else None
    if file:
        check_writable(file)
    with held(model), neutral(model.device):
        live = LiveFeatures(model, dataset, seed, precision, num_workers)
        model.to(memory_format=memory_format(model.device))
        chunks, first = epoch_chunks(dataset, batch_size, seed, 0), Seeded(dataset, seed)[0].image
        settings = {**model.signature(), "teacher": fingerprint(model.teacher), "batch_size": batch_size, "lr": lr,
                    "betas": betas, "loss": loss, "scales": scales, "schedule": schedule, "ema": ema, "seed": seed,
                    "decay_epochs": None if schedule == "constant" else epochs, "precision": precision,
                    "images": [len(Seeded(dataset, seed)), *first.shape],
                    "training images": images_digest(dataset) if file else None}
        settings = json.loads(json.dumps(settings, default=lambda value: value.tolist()))  # a checkpoint takes no NumPy
        optimizer = torch.optim.Adam(model.parameters(), lr, betas, fused=has_fused_adam(model.device))
        average = None if ema is None else MovingAverage(model.trainable_modules(), ema)
        run = Run(model, epochs, len(chunks), sum(map(len, chunks)), settings, average=average)
        if file and file.exists():
            read_checkpoint(file, run, optimizer)
        with kept(run, file, on_interrupt), ExitStack() as at_end:
            model.set_trained(first.shape[1:], widened(run.settings.get("value_range"), first), white_of(dataset))
            for callback in callbacks:
                getattr(callback, "on_start", lambda run: None)(run)
                at_end.callback(getattr(callback, "on_end", lambda run: None), run)
            at_end.callback(model.eval)
            run.settings["float32"] = float32_mode(model.device)  # a checkpoint may have another one
            cached = run.settings.setdefault("cached", wants_cache(live, cache))
            source = CachedFeatures(live, batch_size, progress) if cached and run.epoch < epochs else live
            _train(run, source, dataset, optimizer, callbacks, file, checkpoint_every, progress)
    return run


def _check_model(model: Distillation, dataset: Dataset, scales: Sequence[int], callbacks: Iterable) -> list[int]:
    """Return the scales of the loss. Warn if the map reads others. Raise ValueError if nothing can be trained so.

    Warn as well of images that are labelled defective.
    """
    if not isinstance(model, Distillation) or not any(weight.requires_grad for weight in model.parameters()):
        raise ValueError(f"This {type(model).__name__} has no trainable parameters. Fill a MemoryBank with "
                         "model.fit(data.train). Instead of a folded or frozen model, train a new one.")
    if classes := [each.__name__ for each in callbacks if isinstance(each, type)]:
        raise ValueError(f"callbacks must be objects, such as CSVLog(path); got the class {classes[0]}.")
    model.check_layers("trained")
    warn_of_defects(dataset)
    chosen = checked_scales(scales)
    if scales is not SCALES and chosen != tuple(model.config.scales):  # by default, all scales are trained
        warn(f"The loss sums the scales {chosen}, but the map reads {tuple(model.config.scales)}. Pass the same scales "
             "to fit and to the model, unless that is your experiment.")
    return list(chosen)


@checked
def epoch_chunks(dataset: Dataset, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """Shuffle the images of an epoch into batches, by seed and epoch only.

    Args:
        dataset: data set of N items with an `.image`.
        batch_size: largest number of images in a batch, 1 or more.
        seed: seed of the run, 0 or more.
        epoch: number of the epoch, from 0.

    Returns:
        A list with one (B,) int64 tensor per batch: indices into the data set, in [0, N).

    Raises:
        ValueError: no batch is left to train on.
    """
    images = Seeded(dataset, seed)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
    least = 2 if len(order) and images[0].image.shape[-2:] == (32, 32) else 1
    chunks = [chunk for chunk in order.split(batch_size) if len(chunk) >= least]
    if not chunks:
        raise ValueError(f"A training set of {len(images)} images in batches of {batch_size} leaves nothing to train "
                         "on. Add good images (at 32 x 32 pixels, two or more to a batch).")
    return chunks


def _train(run: Run, source: LiveFeatures | CachedFeatures, dataset: Dataset, optimizer: torch.optim.Optimizer,
           callbacks: Iterable[Callable[[Run], None]], checkpoint: Path | None, every: int, progress: bool) -> None:
    """Train up to the last epoch, or until a callback or an interruption stops the run, and write checkpoints."""
    run.model.train()
    done = run.step * run.images_per_epoch // run.steps_per_epoch
    with (step_finished(run, progress), closing(source.batches(_schedule(run, dataset))) as batches,
          tqdm(total=run.epochs * run.images_per_epoch, initial=done, unit="image", desc="training",
               disable=not progress or None) as bar):
        began = time.perf_counter()
        for images, teacher in batches:
            value = _train_step(run, images, teacher, optimizer)
            run.losses.append(value)
            run.seconds += time.perf_counter() - began
            bar.update(len(teacher[0]))
            bar.set_postfix(epoch=f"{run.epoch}/{run.epochs}", loss=f"{value:.4f}", refresh=False)
            for callback in callbacks:
                callback(run)
            last = run.stop or run.interrupted or run.epoch == run.epochs
            if last or run.at_epoch_end:
                if not all(value.isfinite().all() for part in run.model.trainable_modules().values()
                           for value in part.state_dict().values()):  # no loss has been computed with them
                    raise _diverged("a weight became NaN or infinite", run.step, run)
                if checkpoint and (last or run.epoch % every == 0):
                    with run.writing(checkpoint):
                        write_checkpoint(checkpoint, run, optimizer)
            if last:
                break
            began = time.perf_counter()


def _schedule(run: Run, dataset: Dataset) -> Iterator[tuple[int, Tensor]]:
    """Yield epoch and chunk of every step that is left."""
    first, done = divmod(run.step, run.steps_per_epoch)
    for epoch in range(first, 0 if run.stop else run.epochs):
        chunks = epoch_chunks(dataset, run.settings["batch_size"], run.settings["seed"], epoch)
        yield from ((epoch, chunk) for chunk in chunks[done * (epoch == first):])


def _train_step(run: Run, images: Tensor | None, teacher: Features, optimizer: torch.optim.Optimizer) -> float:
    """Make one step of the optimizer and return the loss before it."""
    settings, run.begun = run.settings, True
    with autocast(settings["precision"], run.model.device):
        student = run.model.student_features(images, teacher)
    loss = run.loss(teacher, student)
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
    return FloatingPointError(f"Training has diverged: {what} in step {step} (epoch {epoch}). Train a new model with a "
                              "smaller lr or precision='float32'. A checkpoint file is intact.")
