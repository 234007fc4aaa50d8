"""Count what a model costs on every machine: parameters and floating-point operations."""
import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def count_parameters(network: nn.Module) -> int:
    """Count weights and biases, frozen or not, without BatchNorm's running statistics."""
    return sum(value.numel() for key, value in network.state_dict().items() if not key.endswith(STATISTICS))


def count_flops(model: nn.Module, size: tuple[int, int]) -> int:
    """Count the floating-point operations of a model's convolutions for one image.

    A copy of the model runs on torch's meta device, which computes only shapes. This takes little time.

    Args:
        model: takes (B, 3, H, W) images; it is not changed.
        size: (H, W) of the image in pixels; for a `Detector`, multiples of 32.

    Returns:
        Number of operations; a multiplication and an addition count as two.

    Raises:
        ValueError: a `Detector` cannot take images of this `size`.
    """
    shadow = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty(1, 3, *size, device="meta"))
    return counter.get_total_flops()
