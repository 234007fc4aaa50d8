"""Write and read checkpoints: one file with everything that the next training step depends on.

`torch.load(weights_only=True)` reads them, so a foreign file can hold numbers but no code.
"""
from pathlib import Path

import torch

from rdlib.encoder import fingerprint as fingerprint
from rdlib.training.run import Run
from rdlib.utils.errors import CheckpointError
from rdlib.utils.files import written_atomically

KEPT = ("settings", "losses", "seconds", "notes")  # fields of a `Run`


def write_checkpoint(path: Path, run: Run, optimizer: torch.optim.Optimizer) -> None:
    """Save trainable modules, their average, optimizer, losses and settings atomically.

    Of the teacher, only the fingerprint is saved, among the settings.
    """
    run.settings["value_range"] = run.model.config.value_range
    parts = {name: part.state_dict() for name, part in _parts(run, optimizer).items()}
    with written_atomically(path) as temporary:
        torch.save({name: getattr(run, name) for name in KEPT} | parts, temporary)


def read_checkpoint(path: Path, run: Run, optimizer: torch.optim.Optimizer) -> None:
    """Restore `run`, its model and `optimizer` from a checkpoint.

    Args:
        path: file that `write_checkpoint` wrote.
        run: new run with the settings asked for; changed in place.
        optimizer: optimizer of the run's model; changed in place.

    Raises:
        CheckpointError: the file is damaged, belongs to other settings, other images or another teacher, or holds more
            epochs than the run.
    """
    try:
        state = torch.load(path, map_location=run.model.device, weights_only=True)
        kept = {name: state[name] for name in KEPT}
        settings, losses = kept["settings"], kept["losses"]
    except Exception as error:  # errors about damaged files have no common base
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({type(error).__name__}). "
                              "Delete it to train from the start.") from error
    other = [f"{key}: {settings.get(key)} there, {value} here" for key, value in run.settings.items()
             if settings.get(key) != value]
    parts = _parts(run, optimizer)
    other += [f"it has no {name}" for name in parts if name not in state]
    if other:
        raise CheckpointError(f"{path} belongs to another run ({'; '.join(other)}). "
                              "Use the settings it was made with, or another file name.")
    if len(losses) > run.epochs * run.steps_per_epoch:
        raise CheckpointError(f"{path} already holds {len(losses) / run.steps_per_epoch:g} epochs, more than the "
                              f"{run.epochs} asked for. Ask for at least as many, or use another file name.")
    vars(run).update(kept)
    for name, part in parts.items():
        load_optimizer(part, state[name]) if part is optimizer else part.load_state_dict(state[name])


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Load an optimizer's state, with each moment in the memory layout of its parameter.

    The state may come from a device with another layout. Fused kernels read parameter and moments as flat memory and
    would pair the wrong numbers.

    Args:
        optimizer: the optimizer; changed in place.
        state: state dict of an optimizer with the same parameters.
    """
    optimizer.load_state_dict(state)
    for parameter, moments in optimizer.state.items():
        for name, value in moments.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _parts(run: Run, optimizer: torch.optim.Optimizer) -> dict[str, torch.nn.Module | torch.optim.Optimizer]:
    """Name the parts of a checkpoint that have a state dict."""
    average = {"average": run.average.average} if run.average else {}
    return {**run.model.trainable_modules(), "optimizer": optimizer, **average}
