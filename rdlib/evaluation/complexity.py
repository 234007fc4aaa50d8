"""What a model costs (paper §4, complexity): parameters, floating-point operations, memory and speed of inference."""
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rdlib.model import ReverseDistillation
from rdlib.utils.hardware import peak_memory_mib

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Complexity:
    """The costs of a backbone; the last two were measured on this machine, the others hold everywhere."""

    backbone: str
    parameters: dict[str, int]  # of "teacher", "ocbe" and "student"; the teacher's are frozen
    flops: int  # of one image through the three networks; a multiplication and an addition are two
    images_per_second: float  # of `predict`: networks, maps, smoothing and score
    peak_memory_mb: float  # see `rdlib.utils.hardware.peak_memory_mib`


def count_parameters(network: nn.Module) -> int:
    """Weights and biases, frozen or not, without BatchNorm's running statistics."""
    return sum(value.numel() for key, value in network.state_dict().items() if not key.endswith(STATISTICS))


def count_flops(model: nn.Module, size: tuple[int, int]) -> int:
    """Floating-point operations of the networks for one image (H, W), as torch counts them: convolutions alone.

    On torch's meta device, where only shapes are computed, so that it takes no time; `model` stays as it is.
    """
    shadow = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty(1, 3, *size, device="meta"))
    return counter.get_total_flops()


def images_per_second(predict: Callable[[torch.Tensor], object], images: torch.Tensor, seconds: float = 2.0) -> float:
    """Speed of `predict` on a batch (B, 3, H, W), after one call that does not count, repeated for about `seconds`."""
    predict(images)
    _finish(images.device)
    began, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - began < seconds:
        predict(images)
        _finish(images.device)
        calls += 1
    return calls * len(images) / (time.perf_counter() - began)


def measure(backbone: str = "resnet18", size: int = 256, batch_size: int = 8, device: str | torch.device = "cpu",
            precision: str = "float32", seconds: float = 2.0) -> Complexity:
    """The costs of reverse distillation with a backbone, on `size` x `size` images; random weights cost as any others.

    Main memory is the process's, so measure each backbone in a process of its own.
    Raises ValueError for an unknown backbone.
    """
    model = ReverseDistillation(backbone, weights=None).to(device)
    images = torch.rand(batch_size, 3, size, size, device=model.device, generator=torch.Generator(model.device))
    speed = images_per_second(lambda batch: model.predict(batch, batch_size, precision), images, seconds)
    memory = peak_memory_mib(model.device)
    parameters = {name: count_parameters(getattr(model, name)) for name in ("teacher", "ocbe", "student")}
    return Complexity(backbone, parameters, count_flops(model, (size, size)), speed, memory)


def _finish(device: torch.device) -> None:
    """Wait for what a GPU still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
