"""Evaluate a model while it is trained."""
from contextlib import nullcontext

import pandas as pd
from torch.utils.data import DataLoader, Dataset

from rdlib.datasets.items import check_dataset, labelled_item, unpacked
from rdlib.evaluation.report import METRICS, evaluate
from rdlib.training.callbacks import Callback
from rdlib.training.run import Run
from rdlib.utils.errors import checked


class EvaluateEvery(Callback):
    """Evaluate the model on a test set every n epochs, with averaged weights if the run has them.

    `history` has the metrics by epoch; a resumed run goes on with it. Do not choose the epoch by them: a choice on the
    test set flatters.

    Args:
        dataset: test images, see `evaluate`.
        every: epochs between two evaluations, 1 or more.
        averaged: whether to use averaged weights where the run has them.

    Raises:
        ValueError: the data set cannot be evaluated, or `every` is not a whole number of 1 or more.
    """

    @checked
    def __init__(self, dataset: Dataset | DataLoader, every: int = 10, averaged: bool = True):
        check_dataset(dataset, labelled_item)
        self.dataset, self.every, self.averaged, self.history = dataset, every, averaged, dict[int, dict[str, float]]()

    def on_start(self, run: Run) -> None:
        """Take over the metrics of a resumed run."""
        images = unpacked(self.dataset)[0] if isinstance(self.dataset, DataLoader) else self.dataset
        self.history = run.kept("metrics", images)

    def on_epoch(self, run: Run) -> None:
        """Evaluate the model."""
        with run.averaged() if self.averaged else nullcontext():
            report = evaluate(run.model, self.dataset, progress=False)
        self.history[run.epoch] = {name: float(getattr(report, name)) for name in METRICS}

    def table(self) -> pd.DataFrame:
        """Return the metrics, in [0, 1], one row an evaluated epoch; NaN for an undefined metric."""
        return pd.DataFrame.from_dict(self.history, orient="index", columns=list(METRICS)).rename_axis("epoch")
