"""Act during training: the base class of callbacks, early stopping, and a log file."""
from pathlib import Path

import torch
from torch.utils.data import Dataset

from rdlib.datasets.items import Seeded, parts, read_with
from rdlib.detector import eval_mode
from rdlib.detector.scorer import TOLERANCE, accepted_range, checked_images
from rdlib.training.features import LiveFeatures
from rdlib.training.run import Run
from rdlib.utils.errors import checked
from rdlib.utils.files import check_writable, written_atomically
from rdlib.utils.hardware import autocast


class Callback:
    """A callback of `fit`. A subclass overrides what it needs; a plain function of the `Run` is a callback as well."""

    every = 1  # epochs between two calls of `on_epoch`

    def on_start(self, run: Run) -> None:
        """Act before the first step, after a checkpoint was read."""

    def on_epoch(self, run: Run) -> None:
        """Act after an epoch. Set `run.stop = True` to end the run."""

    def on_end(self, run: Run) -> None:
        """Act when training ends, also after an error."""

    def __call__(self, run: Run) -> None:
        """Act after a step: call `on_epoch` if it finished an epoch that is a multiple of `every`."""
        if run.at_epoch_end and run.epoch % self.every == 0:
            self.on_epoch(run)


class EarlyStopping(Callback):
    """Stop when the loss on held-out good images has not fallen for some epochs.

    The loss is that of the run, in eval mode, with averaged weights if the run has them. The model keeps the weights of
    the last epoch. `history` has the loss by epoch; a resumed run goes on with it.

    Args:
        dataset: good images that are not trained on, such as the second part of `data.train.split(0.1)`.
        patience: epochs without a new lowest loss after which the run stops, 1 or more.
        every: epochs between two measurements, 1 or more.

    Raises:
        ValueError: an argument has an invalid value. When training starts: the data set is empty or of another form, or
            its images differ from the training images in size or range.
    """

    @checked
    def __init__(self, dataset: Dataset, patience: int = 10, every: int = 1):
        self.patience, self.every = patience, every
        self.dataset, self.history = dataset, dict[int, float]()

    def on_start(self, run: Run) -> None:
        """Check the held-out images, as `predict` does."""
        dataset = read_with(self.dataset, run.model.config.white)
        self.source = LiveFeatures(run.model, dataset, 0, run.settings["precision"])
        items = Seeded(dataset, 0, lambda found, _: parts(found)[0])
        if not len(items):
            raise ValueError("Early stopping needs held-out good images; got none. Hold out a part of data.train.")
        size, (low, high) = run.model.image_size, accepted_range(run.model.config.value_range)
        tolerance = TOLERANCE if (low, high) == (0, 1) else high - low  # so far known from the first image alone
        for index in range(len(items)):
            checked_images(items[index], size, (low, high), tolerance=tolerance)
        self.chunks = torch.arange(len(items)).split(run.settings["batch_size"])
        self.history = run.kept("held-out loss", dataset)
        self._stop(run)

    def on_epoch(self, run: Run) -> None:
        """Measure the loss and decide."""
        total, model = 0.0, run.model
        with run.averaged(), eval_mode(model, model.device):
            for images in self.source.images((0, chunk) for chunk in self.chunks):
                with autocast(run.settings["precision"], model.device):
                    teacher, student = model(images)
                total += run.loss(teacher, student).item() * len(images)
        self.history[run.epoch] = total / sum(map(len, self.chunks))
        self._stop(run)

    def _stop(self, run: Run) -> None:
        best = min(self.history, key=self.history.__getitem__, default=run.epoch)
        run.stop = run.stop or run.epoch - best >= self.patience


class CSVLog(Callback):
    """Write epoch, mean loss and seconds of training so far to a CSV file, one row an epoch.

    The file is written again after every epoch. A resumed run goes on with the rows of its checkpoint. If a disk fills
    up, training goes on with a warning.

    Args:
        path: the file; an older one is replaced. Its folder is created if it is missing.

    Raises:
        OSError: the file cannot be written.
    """

    @checked
    def __init__(self, path: str | Path):
        self.path = Path(path)
        check_writable(self.path)

    def on_epoch(self, run: Run) -> None:
        """Add a row."""
        rows = run.notes.setdefault("log", {})
        rows[run.epoch] = f"{run.epoch},{run.epoch_losses[-1]},{run.seconds}\n"
        with run.writing(self.path), written_atomically(self.path) as temporary:
            temporary.write_text("epoch,loss,seconds\n" + "".join(rows.values()), encoding="utf-8")
