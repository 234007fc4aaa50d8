"""Report in ten lines what this machine has, with the next step for anything missing."""
import platform
import shutil
import sys
from pathlib import Path

import psutil
import torch
import torchvision

from rdlib.datasets import data_root
from rdlib.encoder import BACKBONES
from rdlib.utils.files import is_reachable
from rdlib.utils.hardware import available_memory, best_device, has_fast_bf16
from rdlib.weights import hub_path


def report_lines() -> list[str]:
    """Return the ten lines. A line begins with "ok", or with "--" and ends with advice if something is missing."""
    memory, free, disk = psutil.virtual_memory().total, available_memory(), shutil.disk_usage(Path.cwd()).free
    cores, mvtec = psutil.cpu_count(logical=False) or psutil.cpu_count(), data_root() / "mvtec"
    categories = len(list(mvtec.glob("*/train/good")))
    on_disk = [name for name, spec in BACKBONES.items() if hub_path(spec.imagenet.url).exists()]
    server = BACKBONES["resnet18"].imagenet.url
    return [
        _line("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        _line("environment", sys.prefix, "" if sys.prefix != sys.base_prefix else "`make setup` creates a virtual one"),
        _line("torch", f"{torch.__version__}, torchvision {torchvision.__version__}"),
        _line("device", _device(best_device())),
        _line("processor", f"{cores} cores, torch uses {torch.get_num_threads()} threads"),
        _line("memory", f"{free / 2**30:.0f} of {memory / 2**30:.0f} GiB free",
              "" if free > 4 * 2**30 else "close other programs, or use cache=False and a small batch_size"),
        _line("disk", f"{disk / 2**30:.0f} GiB free here", "" if disk > 2 * 2**30 else "free at least 2 GiB"),
        _line("data", f"downloads go to {data_root()} (RDLIB_DATA sets another folder)"),
        _line("MVTec AD", f"{categories} categories in {mvtec}", "" if categories else
              "see data/README.md; the synthetic categories need no download"),
        _line("weights", f"ImageNet weights on disk: {', '.join(on_disk) or 'none'}",
              "" if on_disk or is_reachable(server) else f"the server cannot be reached; copy torchvision's files to "
              f"{hub_path(server).parent}, or use weights='embedded'"),
    ]


def _line(name: str, found: str, advice: str = "") -> str:
    return f"--  {name:12} {found}: {advice}" if advice else f"ok  {name:12} {found}"


def _device(device: torch.device) -> str:
    """Describe the device and the precision that runs fastest on it."""
    precision = "bfloat16 is fast here: precision='auto'" if has_fast_bf16(device) else "use float32"
    kinds = {"mps": "Apple GPU (mps)", "cpu": "CPU; enough for the notebooks, too slow for MVTec AD"}
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else kinds.get(device.type, device.type)
    return f"{kind}; {precision}"
