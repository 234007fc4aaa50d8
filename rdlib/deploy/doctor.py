"""Report in ten lines what this machine has, with the next step for anything missing."""
import os
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
from rdlib.utils.hardware import best_device, float32_mode, has_fast_bf16, usable_memory
from rdlib.weights import hub_path


def report_lines() -> list[str]:
    """Return the ten lines. A line begins with "ok", or with "--" and ends with advice if something is missing."""
    try:
        root, downloads = data_root(), f"downloads go to {data_root()} (RDLIB_DATA sets another folder)"
    except OSError:
        root, downloads = Path(), "no home folder was found"
    (free, memory), disk, mvtec = usable_memory(), shutil.disk_usage(Path.cwd()).free, root / "mvtec"
    categories = len(list(mvtec.glob("*/train/good")))
    on_disk = [name for name, spec in BACKBONES.items() if hub_path(spec.imagenet.url).exists()]
    conda = Path(sys.prefix, "conda-meta").is_dir()
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    server = BACKBONES["resnet18"].imagenet.url
    found = [  # name, what this machine has, whether that is enough, and what to do if not
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", True, ""),
        ("environment", f"{sys.prefix}{' (conda)' * conda}", conda or sys.prefix != sys.base_prefix,
         "`make setup` creates a virtual one"),
        ("torch", f"{torch.__version__}, torchvision {torchvision.__version__}", True, ""),
        ("device", _device(best_device()), True, ""),
        ("processor", f"{psutil.cpu_count(logical=False) or psutil.cpu_count()} cores, torch uses "
                      f"{torch.get_num_threads()} threads", True, ""),
        ("memory", f"{free / 2**30:.0f} of {memory / 2**30:.0f} GiB free", free > 4 * 2**30,
         "close other programs, or use cache=False and a small batch_size"),
        ("disk", f"{disk / 2**30:.0f} GiB free here", disk > 2 * 2**30, "free at least 2 GiB"),
        ("data", downloads, root != Path() and existing.is_dir() and os.access(existing, os.W_OK),
         "you cannot write there; set RDLIB_DATA"),
        ("MVTec AD", f"{categories} categories in {mvtec}", categories,
         "see data/README.md; the synthetic categories need no download"),
        ("weights", f"ImageNet weights on disk: {', '.join(on_disk) or 'none'}", on_disk or is_reachable(server),
         f"the server cannot be reached; copy torchvision's files to {hub_path(server).parent}, or use "
         "weights='embedded'")]
    return [f"{'ok' if enough else '--'}  {name:12} {has}{'' if enough else f': {advice}'}"
            for name, has, enough, advice in found]


def _device(device: torch.device) -> str:
    """Describe the device and the precision that runs fastest on it."""
    precision = "bfloat16 is fast here: precision='auto'" if has_fast_bf16(device) else "use float32"
    kinds = {"mps": "Apple GPU (mps)", "cpu": "CPU; enough for the notebooks, too slow for MVTec AD"}
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else kinds.get(device.type, device.type)
    return f"{kind}; {precision}; float32: {float32_mode(device)}"
