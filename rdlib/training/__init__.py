"""Train the student: the loop, its checkpoints, and the teacher's features, cached or live."""
from rdlib.training.callbacks import Callback, CSVLog, EarlyStopping
from rdlib.training.checkpoint import fingerprint, load_optimizer
from rdlib.training.interruption import last_run
from rdlib.training.loop import SCHEDULES, epoch_chunks, fit
from rdlib.training.run import MovingAverage, Run

__all__ = ["SCHEDULES", "CSVLog", "Callback", "EarlyStopping", "MovingAverage", "Run", "epoch_chunks", "fingerprint",
           "fit", "last_run", "load_optimizer"]
