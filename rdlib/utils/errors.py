"""What can be wrong with what the kit is given. Every message names the file and says what to do next."""
from collections.abc import Sequence


class DataError(ValueError):
    """Images or masks that are missing, unreadable or do not fit together."""


class NotFiniteError(ValueError):
    """Maps or scores that are NaN or infinite: neither normal nor anomalous.

    Args:
        indices: of their images, in the batch or the data set.
        names: of these images, for the message.
    """

    def __init__(self, indices: list[int], names: Sequence[str] = ()):
        super().__init__(indices, names)
        self.indices, self.names = indices, names

    def __str__(self) -> str:
        which = [str(name) for name in self.names or self.indices]
        return (f"The maps or scores of these images are NaN or infinite: {', '.join(which[:5])}"
                f"{', ...' * (len(which) > 5)}. Either the images hold such values, or the model's weights do, since "
                "training has diverged: look at the loss curve, and train again with a smaller lr.")


class WeightsError(RuntimeError):
    """Weights that cannot be reached or read, that are not finite, or that belong to another network."""


class CheckpointError(RuntimeError):
    """A training checkpoint that cannot be read or that belongs to another run."""
