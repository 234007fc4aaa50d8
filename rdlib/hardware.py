"""Where to run and in which arithmetic: the best device there is, and bfloat16 where the hardware has it."""
from typing import Literal

import torch

Precision = Literal["float32", "bf16"]


def best_device() -> torch.device:
    """CUDA if there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def memory_format(device: torch.device) -> torch.memory_format:
    """The layout of images and weights that the device's convolutions run fastest in: channels last on CPU and CUDA."""
    return torch.channels_last if device.type in ("cpu", "cuda") else torch.contiguous_format


def resolve_precision(precision: str, device: torch.device) -> Precision:
    """ "float32" and "bf16" as they are; "auto" by hardware. Raises ValueError for another word."""
    if precision not in ("float32", "bf16", "auto"):
        raise ValueError(f"There is no precision '{precision}'. Choose float32, bf16 or auto.")
    if precision == "auto":
        return "bf16" if has_fast_bf16(device) else "float32"
    return precision


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware: NVIDIA from Ampere on (a T4 does not), x86 with AVX512-BF16
    or AMX. Elsewhere bfloat16 is emulated and slow."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return bool(cpu_flags().get("avx512_bf16") or cpu_flags().get("amx_bf16"))
    return False


def cpu_flags() -> dict[str, bool]:
    """What the processor can do, by torch's word or, for versions that do not tell, by Linux's."""
    if hasattr(torch.cpu, "get_capabilities"):
        return torch.cpu.get_capabilities()
    try:
        with open("/proc/cpuinfo") as file:
            return dict.fromkeys(file.read().split(), True)
    except OSError:
        return {}
