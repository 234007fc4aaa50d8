"""Define the kit's exceptions. Every message says what is wrong, in which file, and what to do next."""
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from numbers import Integral


def shown(names: Iterable, n: int = 2) -> str:
    """Return the first `n` names, for a message."""
    names = [*map(str, names)]
    return ", ".join(names[:n] + ["..."] * (len(names) > n))


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
    if value not in (choices := list(choices)):
        raise ValueError(f"There is no {kind} '{value}'. Choose one of: {', '.join(map(str, choices))}."
                         f"{nearest(value, choices)}")


def nearest(value: object, choices: Iterable) -> str:
    """Return the question whether the choice that is spelled most like `value` is meant; "" if none is similar."""
    names = {str(choice).lower(): choice for choice in choices}
    near = get_close_matches(str(value).lower(), names, 1)
    return f" Did you mean '{names[near[0]]}'?" if near else ""


def check_whole(name: str, number: int, least: int) -> int:
    """Return an integer as `int`. Raise ValueError unless it lies between `least` and the largest seed."""
    most = 2**32 - 1
    if isinstance(number, bool) or not isinstance(number, Integral) or not least <= number <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}; got {number!r}.")
    return int(number)
