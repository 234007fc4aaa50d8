"""Define the kit's exceptions, and check the arguments of public functions before any work.

Every message says what is wrong, in which file or argument, and what to do next.
"""
import re
import sys
import warnings
from argparse import ArgumentTypeError
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import fields
from difflib import get_close_matches
from functools import wraps
from inspect import signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ParamSpec, TypeVar, get_args, get_origin

P = ParamSpec("P")
R = TypeVar("R")
ONE_OR_MORE = ("batch_size", "blocks", "checkpoint_every", "columns", "curve_every", "epochs", "every", "jobs", "n",
               "n_resamples", "n_thresholds", "n_train", "patience", "size", "threads")  # others: 0 or more
INTERVALS = dict.fromkeys(("confidence", "decay", "ema", "fraction", "level", "rate"), "(0, 1)") | {
    "fpr_limit": "(0, 1]", "recall": "(0, 1]", "strength": "(0, 1]", "betas": "[0, 1)", "lr": "[0, inf)",
    "tolerance": "[0, inf)", "sigma": "[0, 256]", "white": "(0, inf)"}  # others: any finite number
OURS = r"(builtins|collections|pathlib|rdlib)\b|torch$"  # modules of the types that are checked here


def shown(names: Iterable, n: int = 2) -> str:
    """Return the first `n` names, for a message."""
    names = [*map(str, names)]
    return ", ".join(names[:n] + ["..."] * (len(names) > n))


def warn(message: str) -> None:
    """Warn, and point to the line outside this kit that called it."""
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("rdlib", "contextlib", "torch"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


class DataError(ValueError):
    """Images or masks are missing, unreadable, or do not belong together."""


class NotFiniteError(ValueError):
    """Anomaly maps or scores are NaN or infinite, so that the image is neither normal nor anomalous.

    Args:
        indices: positions of these images in the batch or data set.
        names: names of these images for the message; without names, the message gives the indices.
    """

    def __init__(self, indices: list[int], names: Sequence[str] = ()):
        super().__init__(indices, names)
        self.indices, self.names = indices, names

    def __str__(self) -> str:
        return ("The maps or scores of these images are NaN or infinite: "
                f"{shown(self.names or self.indices, 5)}. Check the images for such values. "
                "If they have none, training has diverged: train again with a smaller lr.")


class WeightsError(RuntimeError):
    """Weights cannot be downloaded or read, are not finite, or belong to another network."""


class CheckpointError(RuntimeError):
    """A training checkpoint cannot be read or belongs to another run."""


def check_choice(kind: str, value: object, choices: Iterable) -> None:
    """Raise ValueError, with the choices, unless `value` is one of them. `kind` is their name in the message."""
    choices = list(choices)
    if not isinstance(value, Hashable) or value not in dict.fromkeys(choices):  # a tensor equals nothing by its hash
        raise ValueError(f"There is no {kind} '{value!s:.60}'. Choose one of: {', '.join(map(str, choices))}."
                         f"{nearest(value, choices)}")


def nearest(value: object, choices: Iterable) -> str:
    """Return the question whether the choice that is spelled most like `value` is meant; "" if none is similar."""
    names = {str(choice).lower(): choice for choice in choices}
    near = get_close_matches(str(value).lower(), names, 1)
    return f" Did you mean '{names[near[0]]}'?" if near else ""


def plain(number: Any) -> Any:
    """Convert a scalar of NumPy or torch to a number of Python, which no comparison rounds. Others are unchanged."""
    return number.item() if getattr(number, "shape", None) == () else number


def check_whole(name: str, number: int, least: int) -> int:
    """Return an integer as `int`. Raise ValueError unless it lies between `least` and the largest seed."""
    most, value = 2**32 - 1, plain(number)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}; got {number!r:.60}.")
    return int(value)


def check_number(name: str, number: float, interval: str) -> float:
    """Return a real number as `float`. Raise ValueError unless it lies in `interval`, such as "(0, 1]"."""
    least, most = map(float, interval[1:-1].split(","))
    most = min(most, sys.float_info.max)  # larger integers have no float
    value = plain(number)
    if (isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most
            or (interval[0] == "(" and value == least) or (interval[-1] == ")" and value == most)):
        raise ValueError(f"{name} must be a number in {interval}; got {number!r:.60}.")
    return float(value)


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function: before it runs, its arguments are checked and converted by `check_argument`."""
    known = signature(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = known.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            bound.arguments[name] = check_argument(name, value, known.parameters[name].annotation)
        return function(*bound.args, **bound.kwargs)
    return call


def check_fields(settings: Any) -> None:
    """Check and convert the fields of a dataclass by `check_argument`."""
    for each in fields(settings):
        object.__setattr__(settings, each.name, check_argument(each.name, getattr(settings, each.name), each.type))


def check_argument(name: str, value: Any, annotation: Any) -> Any:
    """Return an argument, NumPy's numbers as Python's. Raise ValueError, with what is allowed, for another value.

    Functions themselves check arrays, data sets and other types that are not of Python or of this kit.
    """
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    types = [get_origin(kind) or kind for kind in kinds]
    ours = all(isinstance(kind, type) and re.match(OURS, kind.__module__) for kind in types)
    if value is None and NoneType in types or not ours:
        return value
    wanted = [kind for kind in types if kind is not NoneType]
    if wanted == [int]:
        return check_whole(name, value, int(name in ONE_OR_MORE))
    if wanted == [float]:
        return check_number(name, value, INTERVALS.get(name, "(-inf, inf)"))
    if isinstance(value, str) and not value and Path in wanted and Sequence not in wanted:
        raise ValueError(f"{name} is an empty path. Name a file or folder; '.' is the current folder.")
    many = [Iterable if kind in (Sequence, tuple) else kind for kind in wanted]
    inside = get_args(kinds[0]) if many == [Iterable] else ()
    value = plain(value) if (numbers := {int, float} & {*wanted}) else value
    odd: Any = bool if numbers else str if many == [Iterable] else ()
    fits = isinstance(value, tuple(many)) and not isinstance(value, odd)
    if fits and inside:
        value = value if isinstance(value, Sequence) else list(value)
        entries = [check_argument(name, each, inside[0]) for each in value]
        value = tuple(entries) if types[0] is tuple else value
        fits = types[0] is not tuple or len(value) == len(inside) or Ellipsis in inside
    if not fits:
        kind = "a " + " or ".join(kind.__name__ for kind in wanted)
        kind = f"{len(inside)} numbers" if types[0] is tuple and inside and Ellipsis not in inside else kind
        raise ValueError(f"{name} must be {kind}; got {value!r:.60}.")
    return value


def given_path(text: str) -> Path:
    """Return the path that an argument of a command names. Raise ArgumentTypeError if it is empty."""
    if not text:
        raise ArgumentTypeError("This path is empty. Name a file or folder; '.' is the current folder.")
    return Path(text)
