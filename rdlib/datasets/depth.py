"""Find the value of white in image files with more than 8 bits a channel, once for a data set."""
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from rdlib.images import WHITES, decoded, header, split_alpha
from rdlib.utils.errors import DataError

DARK = 1 / 16  # of white; values below it have lost 4 of their bits


class Depth:
    """The value of white in the deep files of a data set: those with more than 8 bits a channel.

    Args:
        paths: the training images, which are scanned when `white` is first asked for.
        white: value of white if it is known, above 0; None: find it.

    Raises:
        ValueError: `white` is not above 0.
    """

    def __init__(self, paths: Sequence[Path] = (), white: float | None = None):
        if white is not None and not 0 < white < np.inf:
            raise ValueError(f"white is the value of white in the files, such as 4095 for 12 bits; got {white}.")
        self.paths, self.given = list(paths), white and float(white)
        self.known = self.given  # as far as files were read
        self.failed: DataError | None = None

    @property
    def white(self) -> float | None:
        """Return the given white or the smallest usual one that holds all values; None if no file is deep.

        Raises DataError if a file cannot be read, if floats and integers are mixed, or if no usual white holds them.
        """
        if self.known is None and self.paths:
            paths, self.paths = self.paths, []  # a second time would find the same
            try:
                self.known = _find_white(paths)
            except DataError as error:
                self.failed = error
        if self.failed:
            raise self.failed
        return self.known

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"known": self.white, "paths": []}  # a worker process must not scan the files again


def _find_white(paths: list[Path]) -> float | None:
    """Find the white of image files. Only the deep ones are decoded. Warn if it makes most images dark."""
    highest, bulk = dict[str, tuple[float, Path]](), list[float]()
    for path in tqdm(paths, "read the depth of images", unit="image", leave=False, delay=3, disable=None):
        if header(path).deep:
            values = split_alpha(np.asarray(decoded(path)))[0]
            kind = "floats" if values.dtype.kind == "f" else "integers"
            highest[kind] = max(highest.get(kind, (0.0, path)), (float(values.max()), path))
            bulk.append(float(np.percentile(values, 99.9)))
    if len(highest) > 1:
        raise DataError(f"{highest['floats'][1]} holds floats, but {highest['integers'][1]} integers of more than 8 "
                        "bits. Save all images in one way.")
    for kind, (most, path) in highest.items():
        if most > WHITES[-1]:
            raise DataError(f"{path} has values up to {most:g}, above {WHITES[-1]}. Give the value of white, white= "
                            "(--white).")
        if kind == "floats" and 1 < most <= 2:
            raise DataError(f"{path} has values up to {most:g}, a little above 1. Clamp the images to [0, 1], or give "
                            "the value of white, white= (--white).")
        white = float(next(white for white in (1, *WHITES)[kind == "integers":] if most <= white))
        if np.median(bulk) < DARK * white:
            warnings.warn(f"The value of white is {white:g}, since {path} has values up to {most:g}; but at least 99.9 "
                          f"% of most training images of more than 8 bits lie below {DARK * white:g}, so they are "
                          "nearly black. If white is another value, give it: white= (--white).",
                          stacklevel=2)
        return white
    return None
