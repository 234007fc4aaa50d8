"""Choose device, memory format and precision, and measure memory."""
import re
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import RLock, get_ident
from typing import Any

import psutil
import torch
from torch import Tensor

from rdlib.utils.errors import check_choice

CGROUP = Path("/sys/fs/cgroup")  # where Linux tells a container what it may use
LIMITS = (("memory.max", "memory.current", "inactive_file"), ("memory.high", "memory.current", "inactive_file"),
          ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))  # cgroup v2, v1; cached files
CPU_INFO = Path("/proc/cpuinfo")
_USERS: dict[object, tuple[int, Callable[[], object]]] = {}  # see `in_common`
_OWNERS: dict[object, int] = {}  # threads, see `held`
_LOCK = RLock()
IN_USE = ("A model cannot be used in one thread while another one trains it, since its weights and mode change. Use a "
          "copy.deepcopy(model) made before, wait for the other thread, or predict in a callback of fit.")


def best_device() -> torch.device:
    """Return the accelerator if one is available, such as CUDA or Apple's MPS, else the CPU."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


def check_device(name: str) -> None:
    """Raise ValueError unless a device computes here."""
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, TypeError) as error:  # unknown; not in this machine; not in this torch
        reason = str(error).partition("\n")[0]
        raise ValueError(f"The device {name!r:.60} cannot be used ({reason:.120}). Choose another one.") from error


def memory_format(device: torch.device) -> torch.memory_format:
    """Return the memory format in which convolutions are fastest: channels last on CPU and CUDA."""
    return torch.channels_last if device.type in ("cpu", "cuda") else torch.contiguous_format


def has_fused_adam(device: torch.device) -> bool:
    """Return whether Adam is fused, one call for all weights: on CPU and CUDA."""
    return device.type in ("cpu", "cuda")


def float32_mode(device: torch.device) -> str:
    """Tell the precision in which float32 may be computed: "ieee", or fewer bits of the factors, "tf32" or "bf16".

    `torch.set_float32_matmul_precision`, `allow_tf32` and `fp32_precision` change it. On CUDA, convolutions are "tf32"
    unless a program says otherwise.
    """
    backends: Any = torch.backends
    cuda, found = device.type == "cuda", ("ieee", "ieee")
    if cuda and has_fast_bf16(device) or device.type == "cpu":  # others have no TF32
        if hasattr(backends, "fp32_precision"):
            matmul, conv = ((backends.cuda.matmul, backends.cudnn.conv) if cuda else
                            (backends.mkldnn.matmul, backends.mkldnn.conv))
            found = matmul.fp32_precision, conv.fp32_precision
        else:  # torch 2.8
            found = torch.get_float32_matmul_precision(), "tf32" if cuda and backends.cudnn.allow_tf32 else "ieee"
    words = {"none": "ieee", "highest": "ieee", "high": "tf32", "medium": "bf16"}
    return "matrix products {}, convolutions {}".format(*(words.get(word, word) for word in found))


def resolve_precision(precision: str, device: torch.device) -> str:
    """Replace "auto" by the faster of "float32" and "bf16" on `device`. Raises ValueError for an unknown precision."""
    check_choice("precision", precision, ("float32", "bf16", "auto"))
    return "bf16" if precision == "bf16" or precision == "auto" and has_fast_bf16(device) else "float32"


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return a context in which networks run in `precision`, see `resolve_precision`.

    With float32, autocast is off. Weights are not cached, since a cache inside a caller's autocast would outlive the
    step that changes them. Raises ValueError for an unknown precision.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=resolve_precision(precision, device) == "bf16",
                          cache_enabled=False)


@contextmanager
def in_common(key: object, change: Callable[[], Callable[[], object]]) -> Generator[None, None, None]:
    """Run a block with what the threads of this process share, such as a model's mode, changed.

    Of several threads with the same `key`, the first one calls `change`, and the last one calls what that returned.
    Raises RuntimeError if another thread has the key for itself, see `held`.
    """
    with _LOCK:
        if _OWNERS.get(key, get_ident()) != get_ident():
            raise RuntimeError(IN_USE)
        users, restore = _USERS.get(key) or (0, change())
        _USERS[key] = users + 1, restore
    try:
        yield
    finally:
        with _LOCK:
            users, restore = _USERS.pop(key)
            if users == 1:
                restore()
            else:
                _USERS[key] = users - 1, restore


@contextmanager
def held(key: object) -> Generator[None, None, None]:
    """Run a block while no other thread may use `key` with `in_common`. Raises RuntimeError if it is in use."""
    with _LOCK:
        if key in _USERS or key in _OWNERS:
            raise RuntimeError(IN_USE)
        _OWNERS[key] = get_ident()
    try:
        yield
    finally:
        del _OWNERS[key]


@contextmanager
def neutral(device: torch.device = torch.device("cpu")) -> Generator[None, None, None]:  # noqa: B008 - never changes
    """Run a block, or as a decorator a function, with torch's default settings, then restore the caller's settings.

    The settings are autocast on the CPU and on `device`, the default dtype, inference mode and grad mode.
    """
    with (in_common("default dtype", lambda: partial(torch.set_default_dtype, torch.get_default_dtype())),
          torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False),
          torch.autocast(device.type, enabled=False)):
        torch.set_default_dtype(torch.float32)
        yield


def as_float(x: Tensor) -> Tensor:
    """Convert bfloat16 to float32; float32 and float64 are unchanged."""
    return x.float() if x.dtype == torch.bfloat16 else x


def available_memory() -> int:
    """Return the bytes of main memory that this process may still use, within the limits of all its cgroups."""
    return usable_memory()[0]


def usable_memory() -> tuple[int, int]:
    """Return the bytes of main memory that this process may still use, and those that it and others share in all."""
    free, total = psutil.virtual_memory().available, psutil.virtual_memory().total
    for group in _cgroups():
        for limit, usage, cache in LIMITS:
            with suppress(OSError, ValueError):  # no such file, or "max": no limit
                most = int((group / limit).read_text("utf-8"))
                left = most - int((group / usage).read_text("utf-8"))
                counts = (group / "memory.stat").read_text("utf-8") if (group / "memory.stat").exists() else ""
                free = min(free, left + sum(map(int, re.findall(rf"^{cache} (\d+)$", counts, re.M))))
                total = min(total, most)
    return max(free, 0), total


def _cgroups() -> set[Path]:
    """Return the folders of this process's cgroup and of those above it, as far as its container shows them."""
    groups = {CGROUP, CGROUP / "memory"}
    with suppress(OSError):  # only Linux has it
        lines = Path("/proc/self/cgroup").read_text("utf-8")
        for controllers, path in re.findall(r"^\d+:([^:\n]*):(.*)$", lines, re.M):  # cgroup v2 names no controllers
            if not controllers or "memory" in controllers.split(","):
                group = CGROUP / ("memory" if controllers else "") / path.lstrip("/")
                groups |= {group, *group.parents}
    return groups


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether the hardware multiplies bfloat16: NVIDIA from Ampere on, or x86 with AVX512-BF16 or AMX.

    On other hardware, such as a T4, bfloat16 is emulated and slow.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    flags: Mapping[str, bool] = {}
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        flags = torch.cpu.get_capabilities()
    elif device.type == "cpu" and CPU_INFO.exists():  # older versions of torch do not say; Linux does
        flags = dict.fromkeys(CPU_INFO.read_text("utf-8").split(), True)
    return any(flags.get(name) for name in ("avx512_bf16", "amx_bf16"))


def peak_memory_mib(device: torch.device) -> float:
    """Return the peak memory so far in MiB: of torch's tensors on CUDA, else of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 2**20
    import resource  # Windows has none
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
