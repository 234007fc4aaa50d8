"""What a model costs: parameters, floating-point operations, and memory and speed of inference."""
import copy
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rdlib.model import ReverseDistillation
from rdlib.utils.hardware import peak_memory_mib

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def count_parameters(network: nn.Module) -> int:
    """Count weights and biases, frozen or not, without BatchNorm's running statistics."""
    return sum(value.numel() for key, value in network.state_dict().items() if not key.endswith(STATISTICS))


def count_flops(model: nn.Module, size: tuple[int, int]) -> int:
    """Count the floating-point operations of a model's convolutions for one image.

    A copy of the model runs on torch's meta device, which computes shapes only, so this takes little time.

    Args:
        model: takes (B, 3, H, W) images; unchanged.
        size: (H, W) of the image in pixels.

    Returns:
        Number of operations; a multiplication and an addition count as two.
    """
    shadow = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty(1, 3, *size, device="meta"))
    return counter.get_total_flops()


def images_per_second(predict: Callable[[torch.Tensor], object], images: torch.Tensor, seconds: float = 2.0) -> float:
    """Measure the speed of a function, after one call to warm up.

    Args:
        predict: function of a batch of images.
        images: batch (B, 3, H, W).
        seconds: time to repeat the call for, at least once.

    Returns:
        Images per second.
    """
    predict(images)
    _synchronize(images.device)
    began, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - began < seconds:
        predict(images)
        _synchronize(images.device)
        calls += 1
    return calls * len(images) / (time.perf_counter() - began)


def measure(backbone: str = "resnet18", size: int = 256, batch_size: int = 8, device: str | torch.device = "cpu",
            precision: str = "float32", seconds: float = 2.0) -> dict:
    """Measure the costs of `ReverseDistillation` with random weights.

    Main memory is that of the whole process, so measure each backbone in its own process.

    Args:
        backbone: name in `rdlib.encoder.BACKBONES`.
        size: side of the images in pixels, a multiple of 32.
        batch_size: images at a time.
        device: where to run.
        precision: "float32", "bf16" or "auto".
        seconds: time to measure the speed for.

    Returns:
        backbone; parameters, of "teacher" (frozen), "ocbe" and "student"; flops, for one image in the three networks;
        images_per_second, of `predict`; peak_memory_mb, in MiB. Only the last two depend on the machine.

    Raises:
        ValueError: unknown backbone or precision.
    """
    model = ReverseDistillation(backbone, weights=None).to(device)
    images = torch.rand(batch_size, 3, size, size, device=model.device, generator=torch.Generator(model.device))
    speed = images_per_second(lambda batch: model.predict(batch, batch_size, precision), images, seconds)
    memory = peak_memory_mib(model.device)
    parameters = {name: count_parameters(getattr(model, name)) for name in ("teacher", "ocbe", "student")}
    return {"backbone": backbone, "parameters": parameters, "flops": count_flops(model, (size, size)),
            "images_per_second": speed, "peak_memory_mb": memory}


def _synchronize(device: torch.device) -> None:
    """Wait until the accelerator has finished; the CPU has none to wait for."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
