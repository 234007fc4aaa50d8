"""Write and read checkpoints: one file with everything that the next training step depends on.

`torch.load(weights_only=True)` reads them, so a foreign file can hold numbers but no code.
"""
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rdlib.encoder import fingerprint as fingerprint
from rdlib.training.run import Run
from rdlib.utils.errors import CheckpointError, plain, warn
from rdlib.utils.files import written_atomically
from rdlib.utils.seal import UNSEALED, check_seal, seal
from rdlib.weights import check_values, load_strictly

KEPT = ("settings", "losses", "seconds", "notes")  # fields of a `Run`
DEVICES_OWN = {"params", "lr", "fused"}  # of an optimizer; `fit` sets them


def write_checkpoint(path: Path, run: Run, optimizer: torch.optim.Optimizer) -> None:
    """Save trainable modules, their average, optimizer, losses and settings atomically, with the file's SHA-256.

    Of the teacher, only the fingerprint is saved, among the settings.
    """
    run.settings["value_range"] = run.model.config.value_range
    state = {"sha256": json.dumps(UNSEALED)} | {name: getattr(run, name) for name in KEPT} | {  # the first is sealed
        "networks": _networks(run).state_dict(), "optimizer": optimizer.state_dict(), "notes": stored(run.notes)}
    with written_atomically(path) as temporary:
        torch.save(state, temporary)
        seal(temporary)


def stored(notes: Any) -> Any:
    """Convert NumPy's numbers in nested dicts and lists to Python's. Raise TypeError for what no checkpoint holds."""
    if isinstance(notes, dict):
        return {stored(key): stored(value) for key, value in notes.items()}
    if isinstance(notes, list | tuple):
        return [*map(stored, notes)] if isinstance(notes, list) else tuple(map(stored, notes))
    notes = plain(notes)
    if type(notes) in (str, int, float, bool, type(None)) or isinstance(notes, torch.Tensor):
        return notes
    raise TypeError(f"A callback keeps a {type(notes).__name__} in run.notes, which a checkpoint cannot hold. Keep "
                    "numbers, strings, lists and dicts.")


def read_checkpoint(path: Path, run: Run, optimizer: torch.optim.Optimizer) -> None:
    """Restore `run`, its model and `optimizer` from a checkpoint. After an error, all three are unchanged.

    Args:
        path: file that `write_checkpoint` wrote.
        run: new run with the settings asked for; changed in place.
        optimizer: optimizer of the run's model; changed in place.

    Raises:
        CheckpointError: the file is damaged, belongs to other settings, other images or another teacher, or holds more
            epochs than the run.
    """
    try:
        check_seal(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        _check_fields(path, state, run)
        _check_moments(optimizer, state["optimizer"], len(state["losses"]), len(run.settings["scales"]) == 3)
        load_strictly(_networks(run), state["networks"], "'networks'")  # the last check, and the first change
    except CheckpointError:
        raise
    except Exception as error:  # errors about damaged files have no common base
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({type(error).__name__}: {reason:.400}). "
                              "Delete it if it is a damaged checkpoint, else choose another name.") from error
    if run.settings["training images"] is None:
        warn(f"The images are random and do not follow the seed, so they cannot be compared with those of {path}. If "
             "they are others, use another file name.")
    vars(run).update({name: state[name] for name in KEPT})
    load_optimizer(optimizer, state["optimizer"] | {"param_groups": optimizer.state_dict()["param_groups"]})


def _check_fields(path: Path, state: dict, run: Run) -> None:
    """Raise ValueError if the fields are not those of a run, CheckpointError if they are those of another run."""
    settings, losses, seconds, notes = (state[name] for name in KEPT)
    other = [f"{key}: {settings.get(key)} there, {value} here" for key, value in run.settings.items()
             if settings.get(key) != value and (key, value) != ("seed of the weights", None)]  # of a loaded model
    if other:
        raise CheckpointError(f"{path} belongs to another run ({'; '.join(other)}). "
                              "Use the settings it was made with, or another file name.")
    replace(run.model.config, value_range=settings["value_range"])  # checks it
    numbers = all(type(value) is float and -1e-3 < value < math.inf for value in (*losses, seconds))  # 0, with rounding
    steps = state["networks"]["average.n_averaged"] if run.average else len(losses)
    kinds = type(losses), type(notes), type(settings["cached"]), steps
    if not numbers or settings["value_range"] is None or kinds != (list, dict, bool, len(losses)):
        raise ValueError("its losses, seconds, notes, value_range, choice of cache or count of averages are wrong")
    if len(losses) > run.epochs * run.steps_per_epoch:
        raise CheckpointError(f"{path} already holds {len(losses) / run.steps_per_epoch:g} epochs, more than the "
                              f"{run.epochs} asked for. Ask for at least as many, or use another file name.")


def _check_moments(optimizer: torch.optim.Optimizer, state: dict, steps: int, complete: bool) -> None:
    """Raise ValueError or WeightsError unless the state of an Adam fits an optimizer after `steps` steps.

    Unless it is `complete`, some parameters are not trained, since the loss does not depend on them.
    """
    [own], [other], found = optimizer.param_groups, state["param_groups"], state["state"]
    if wrong := [name for name in own.keys() & other.keys() - DEVICES_OWN if own[name] != other[name]]:
        raise ValueError(f"its optimizer has {wrong[0]}={other[wrong[0]]}, this one {own[wrong[0]]}")
    trained = {index: value for index, value in enumerate(own["params"]) if value.requires_grad}
    if found.keys() - trained or len(found) < (len(trained) if complete else 1):
        raise ValueError(f"the optimizer has moments of {len(found)} parameters; {len(trained)} are trained")
    for index, moments in found.items():
        like = trained[index]
        expected = {"step": (1, torch.float32)} | dict.fromkeys(("exp_avg", "exp_avg_sq"), (like.shape, like.dtype))
        shapes = {name: (value.shape or 1, value.dtype) for name, value in moments.items()}
        if shapes != expected or moments["step"] != steps:
            raise ValueError(f"the optimizer's moments of parameter {index} do not fit it, or {steps} steps")
        check_values({f"{index}.{name}": value for name, value in moments.items()}, "optimizer")


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


def _networks(run: Run) -> torch.nn.ModuleDict:
    """Join the networks of a checkpoint: those that training changes, and their average."""
    average = {"average": run.average.average} if run.average else {}
    return torch.nn.ModuleDict(run.model.trainable_modules() | average)
