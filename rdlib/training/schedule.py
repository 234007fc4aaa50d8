"""How the learning rate changes over a run: not at all, as in the paper, or along half a cosine."""
import math
from collections.abc import Callable

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
}
"""From the share of the run that is done, in [0, 1), to the factor on the learning rate of the next step."""
