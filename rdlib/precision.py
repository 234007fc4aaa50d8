"""Which arithmetic to train in: float32, or bfloat16 under autocast where the hardware has it."""
from typing import Literal

import torch

Precision = Literal["float32", "bf16"]


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
        flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else _cpuinfo_flags()
        return bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))
    return False


def _cpuinfo_flags() -> dict[str, bool]:
    """Linux's own list, for torch versions that do not tell."""
    try:
        with open("/proc/cpuinfo") as file:
            return dict.fromkeys(file.read().split(), True)
    except OSError:
        return {}
