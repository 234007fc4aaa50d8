"""Where to run and in which arithmetic: the best device there is, and bfloat16 where the hardware has it."""
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import psutil
import torch
from torch import Tensor

CGROUP = Path("/sys/fs/cgroup")  # where Linux tells a container what it may use
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


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which networks run in `precision`, "auto" resolved; with float32, autocast is off.

    Nothing is cached: inside a caller's autocast the cache would outlive the step that changes the weights.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=resolve_precision(precision, device) == "bf16",
                          cache_enabled=False)


@contextmanager
def neutral(device: torch.device = torch.device("cpu")) -> Iterator[None]:  # noqa: B008 - never changes
    """Undo the caller's switches in a block, or, as a decorator, in a function: autocast on the CPU and on `device`,
    the default dtype, inference mode and grad mode are as in a fresh process. They come back afterwards."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with (torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False),
              torch.autocast(device.type, enabled=False)):
            yield
    finally:
        torch.set_default_dtype(dtype)


def as_float(x: Tensor) -> Tensor:
    """bfloat16 as float32, so that what follows is exact; float32 and float64 as they are."""
    return x.float() if x.dtype == torch.bfloat16 else x


def available_memory() -> int:
    """Bytes of main memory that this process may still take: what is free, and what its container leaves it."""
    free = psutil.virtual_memory().available
    for limit, usage in (("memory.max", "memory.current"),
                         ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):  # cgroup v2 and v1
        try:
            free = min(free, int((CGROUP / limit).read_text()) - int((CGROUP / usage).read_text()))
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
    return max(free, 0)


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware: NVIDIA from Ampere on, x86 with AVX512-BF16 or AMX.

    Elsewhere bfloat16 is emulated and slow. That includes the T4; float16 with loss scaling, which would suit it, is
    not offered.
    """
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


def peak_memory_mb(device: torch.device) -> float:
    """The most memory taken so far, in MiB: on CUDA by torch's tensors there, else by this process as a whole."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    process = psutil.Process().memory_info()
    if hasattr(process, "peak_wset"):  # Windows
        return process.peak_wset / 2**20
    import resource  # everywhere else

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
