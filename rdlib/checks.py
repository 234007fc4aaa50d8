"""Checks with messages that help, for the exercises: what differs, by how much, where, and what to look at."""
import numpy as np
from numpy.typing import ArrayLike

from rdlib.arrays import as_array


def agree(what: str, got: object, expected: ArrayLike, hint: str = "", *, tolerance: float = 1e-5) -> None:
    """Raise AssertionError unless `got` is what it should be: same shape, every number within `tolerance`.

    Args:
        what: its name, with which the message begins.
        got: a number, nested list, array or tensor of any dtype and device; None stands for "not answered yet".
        expected: the same, of numbers.
        hint: ends the message.
        tolerance: absolute, and relative to the expected number.
    """
    end = f" {hint}" if hint else ""
    if got is None or got is NotImplemented:
        raise AssertionError(f"{what} is {got}: nothing was written there yet, or a return is missing.{end}")
    try:
        got = as_array(got, np.float64)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{what} should be numbers, not {type(got).__name__} ({error}).{end}") from error
    expected = as_array(expected, np.float64)
    if got.shape != expected.shape:
        raise AssertionError(f"{what} has the shape {got.shape}, expected {expected.shape}.{end}")
    wrong = ~np.isclose(got, expected, rtol=tolerance, atol=tolerance)
    if not wrong.any():
        return
    if got.ndim == 0:
        raise AssertionError(f"{what} is {got:.9g}, expected {expected:.9g}.{end}")
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    raise AssertionError(f"{what} is wrong in {wrong.sum()} of {wrong.size} numbers, first at {list(place)}: "
                         f"{got[place]:.9g}, expected {expected[place]:.9g}.{end}")
