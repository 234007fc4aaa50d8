"""Checkpoints: everything that the next training step depends on, in one file.

They are read with `torch.load(weights_only=True)`, so a foreign file can hold numbers but no code.
"""
import zlib
from pathlib import Path

import torch

from rdlib.encoder import TeacherEncoder
from rdlib.training.run import Run
from rdlib.utils.errors import CheckpointError
from rdlib.utils.files import written_atomically

# Defaults for checkpoints written before these settings existed.
FORMER_SETTINGS = {"model": "ReverseDistillation", "bottleneck": "mff_oce", "scales": [1, 2, 3], "schedule": "constant",
                   "decay_epochs": None, "ema": None}


def write_checkpoint(path: Path, run: Run, optimizer: torch.optim.Optimizer) -> None:
    """Save OCBE, student, their average, optimizer, losses and settings to `path`, completely or not at all.

    The teacher is not saved.
    """
    parts = {name: part.state_dict() for name, part in _parts(run, optimizer).items()}
    state = {"settings": run.settings, "teacher": fingerprint(run.model.teacher), "losses": run.losses,
             "seconds": run.seconds, **parts}
    with written_atomically(path) as temporary:
        torch.save(state, temporary)


def read_checkpoint(path: Path, run: Run, optimizer: torch.optim.Optimizer) -> None:
    """Restore `run`, its model and `optimizer` to the state that `write_checkpoint` saved.

    Raises CheckpointError if the file is damaged, belongs to a run with other settings, images or another teacher, or
    is further than `run.epochs`.
    """
    try:
        state = torch.load(path, map_location=run.model.device, weights_only=True)
        found, teacher, losses, seconds = (state[key] for key in ("settings", "teacher", "losses", "seconds"))
        found = FORMER_SETTINGS | found
    except Exception as error:  # what a damaged file raises has no common base
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({type(error).__name__}). "
                              "Delete it to train from the start.") from error
    other = [f"{key}: {found.get(key)} there, {value} here" for key, value in run.settings.items()
             if found.get(key) != value and (key, value) != ("first image", None)]  # None: it may look otherwise now
    if teacher != fingerprint(run.model.teacher):
        other.append("the teacher's weights")
    if other:
        raise CheckpointError(f"{path} belongs to another run ({'; '.join(other)}). "
                              "Use the settings it was made with, or another file name.")
    if len(losses) > run.epochs * run.steps_per_epoch:
        raise CheckpointError(f"{path} has gone further, {len(losses) / run.steps_per_epoch:g} epochs, than the "
                              f"{run.epochs} asked for. Ask for at least as many, or use another file name.")
    parts = _parts(run, optimizer)
    if missing := parts.keys() - state.keys():
        raise CheckpointError(f"{path} lacks {', '.join(sorted(missing))}. Delete it to train from the start.")
    run.settings, run.losses, run.seconds = found, losses, seconds
    for name, part in parts.items():
        load_optimizer(part, state[name]) if part is optimizer else part.load_state_dict(state[name])


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Load an optimizer's state and give each moment the memory layout of its parameter.

    A file may come from a device with another layout. Fused kernels read parameter and moments as flat memory and
    would pair the wrong numbers.
    """
    optimizer.load_state_dict(state)
    for parameter, moments in optimizer.state.items():
        for name, value in moments.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _parts(run: Run, optimizer: torch.optim.Optimizer) -> dict[str, torch.nn.Module | torch.optim.Optimizer]:
    """Return the parts of a checkpoint that have a state of their own, by name."""
    average = {"average": run.average.average} if run.average else {}
    return {**run.model.trainable_modules(), "optimizer": optimizer, **average}


def fingerprint(teacher: TeacherEncoder) -> int:
    """Return a CRC-32 of the teacher's weights: runs with equal ones learn from the same teacher."""
    value = 0
    for tensor in teacher.state_dict().values():
        value = zlib.crc32(tensor.detach().cpu().contiguous().numpy().tobytes(), value)
    return value
