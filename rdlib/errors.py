"""What can be wrong with what the kit is given. Every message names the file and says what to do next."""


class DataError(ValueError):
    """Images or masks that are missing, unreadable or do not fit together."""


class WeightsError(RuntimeError):
    """Weights that cannot be reached or read, or that belong to another network."""


class CheckpointError(RuntimeError):
    """A training checkpoint that cannot be read or that belongs to another run."""
