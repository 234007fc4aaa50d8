"""Act during training: the base class of callbacks, early stopping, and a log file."""
from pathlib import Path
from typing import TextIO

import numpy as np
from torch.utils.data import DataLoader, Dataset

from rdlib.datasets.items import Seeded, check_dataset, parts
from rdlib.detector import eval_mode
from rdlib.training.run import Run
from rdlib.utils.arrays import as_array
from rdlib.utils.errors import check_whole
from rdlib.utils.files import written_atomically
from rdlib.utils.hardware import autocast

COLUMNS = "epoch,loss,seconds"


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
            an image in it is defective.
    """

    def __init__(self, dataset: Dataset, patience: int = 10, every: int = 1):
        self.patience, self.every = check_whole("patience", patience, 1), check_whole("every", every, 1)
        self.dataset, self.history = dataset, dict[int, float]()

    def on_start(self, run: Run) -> None:
        """Check all held-out images."""
        self.collate, self.items = check_dataset(self.dataset), Seeded(self.dataset, 0, 0)
        labels = [as_array(parts(self.items.dataset[index])[1]) for index in range(len(self.items))]
        bad = [index for index, label in enumerate(labels) if np.all(label == 1)]
        if bad or not labels:
            raise ValueError(f"Early stopping needs held-out good images; of {len(labels)}, those at {bad[:5]} are "
                             "defective. Hold out a part of data.train.")
        self.history = run.notes.setdefault("held-out loss", {})
        self._stop(run)

    def on_epoch(self, run: Run) -> None:
        """Measure the loss and decide."""
        total, model = 0.0, run.model
        with run.averaged(), eval_mode(model, model.device):
            for item in DataLoader(self.items, run.settings["batch_size"], collate_fn=self.collate):
                with autocast(run.settings["precision"], model.device):
                    teacher, student = model(item.image.to(model.device))
                total += run.loss(teacher, student).item() * len(item.image)
        self.history[run.epoch] = total / len(self.items)
        self._stop(run)

    def _stop(self, run: Run) -> None:
        best = min(self.history, key=self.history.__getitem__, default=run.epoch)
        run.stop = run.stop or run.epoch - best >= self.patience


class CSVLog(Callback):
    """Write epoch, mean loss and seconds of training to a CSV file, one row an epoch.

    A resumed run appends to its file. A new run replaces the log of another one.

    Args:
        path: the file. Its folder is created if it is missing.

    Raises:
        ValueError: when training starts: the file exists and is no such log.
    """

    file: TextIO

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def on_start(self, run: Run) -> None:
        """Open the file, without rows of epochs that are trained again."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else [COLUMNS]
        if lines[:1] != [COLUMNS]:
            raise ValueError(f"{self.path} exists and is no log of training. Choose another path.")
        rows = [row for row in lines[1:] if row.count(",") == 2 and int(row.split(",")[0]) <= run.epoch]
        with written_atomically(self.path) as temporary:
            temporary.write_text("\n".join([COLUMNS, *rows, ""]), encoding="utf-8")
        self.file = self.path.open("a", encoding="utf-8")

    def on_epoch(self, run: Run) -> None:
        """Add a row."""
        print(run.epoch, run.epoch_losses[-1], run.seconds, sep=",", file=self.file, flush=True)

    def on_end(self, run: Run) -> None:
        """Close the file."""
        self.file.close()
