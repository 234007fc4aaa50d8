"""Define the learning-rate schedules: constant, as in the paper, or half a cosine."""
import math
from collections.abc import Callable

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
}
"""Map the finished share of the run, in [0, 1), to the factor on the learning rate of the next step."""
