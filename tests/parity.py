"""Read the official networks' numbers on filled weights, and the rule that fills them (tests/fixtures/README.md)."""
import json
import math
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch

FIXTURES = Path(__file__).parent / "fixtures"


def filled(component: str, key: str, shape: list[int]) -> np.ndarray:
    """Compute the values of one entry of an official state dict, float32, by rule: no weights need to be stored."""
    draw = np.random.default_rng(zlib.crc32(f"{component}.{key}".encode()))
    if len(shape) == 4:
        values = draw.normal(0, math.sqrt(2 / (shape[1] * shape[2] * shape[3])), shape)
    elif key.endswith("running_var"):
        values = draw.uniform(0.5, 1.5, shape)
    elif key.endswith(("running_mean", "bias")):
        values = draw.normal(0, 0.1, shape)
    elif len(shape) == 2:
        values = draw.normal(0, 0.01, shape)
    else:
        values = draw.uniform(0.5, 1.5, shape)
    return values.astype(np.float32)


@cache
def official_state(backbone: str, component: str) -> dict[str, torch.Tensor]:
    """Build the filled official state dict of "encoder", "bn" or "decoder", under the official keys."""
    keys = json.loads((FIXTURES / f"parity_{backbone}_keys.json").read_text(encoding="utf-8"))[component]
    return {key: torch.tensor(0) if key.endswith("num_batches_tracked") else torch.from_numpy(filled(component, key, s))
            for key, s in keys}


@cache
def official_outputs(backbone: str) -> dict[str, np.ndarray]:
    """Read the official networks' outputs on the filled weights."""
    with np.load(FIXTURES / f"parity_{backbone}.npz") as file:
        return dict(file)


def batch(i: int) -> torch.Tensor:
    """Return the i-th training batch of the ten recorded losses: (4, 3, 64, 64) float32."""
    return torch.from_numpy(np.random.default_rng(100 + i).normal(size=(4, 3, 64, 64)).astype(np.float32))


def assert_close(ours, official: np.ndarray, tolerance: float = 1e-4) -> None:
    """Assert max|a - b| <= tolerance * max|b|, over the whole array: single values near zero differ more."""
    ours = np.asarray(ours)
    assert ours.shape == official.shape
    worst = np.abs(ours.astype(np.float64) - official).max()
    assert worst <= tolerance * np.abs(official).max(), f"differs by {worst:.3g}"
