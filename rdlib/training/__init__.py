"""Train the student: the loop, its checkpoints, and the teacher's features, cached or live."""
from rdlib.training.averaging import MovingAverage
from rdlib.training.checkpoint import fingerprint, load_optimizer
from rdlib.training.loop import Callback, epoch_chunks, fit
from rdlib.training.run import Run
from rdlib.training.schedule import SCHEDULES

__all__ = ["SCHEDULES", "Callback", "MovingAverage", "Run", "epoch_chunks", "fingerprint", "fit", "load_optimizer"]
