"""A report on this machine in ten lines, with the next step for what is missing."""
import os
import platform
import shutil
import sys
from pathlib import Path

import psutil
import torch
import torchvision

from rdlib.datasets.load import data_root
from rdlib.encoder import BACKBONES
from rdlib.utils.hardware import available_memory, best_device, has_fast_bf16
from rdlib.weights import hub_path, is_reachable

OK, MISSING = "ok  ", "--  "


def device_line(device: torch.device) -> str:
    """The device's name, its memory, and the precision it gains from."""
    precision = "bf16 gains here: precision='auto'" if has_fast_bf16(device) else "float32 is the choice here"
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{OK}device       {properties.name}, {properties.total_memory / 2**30:.0f} GiB; {precision}"
    if device.type == "mps":
        return f"{OK}device       Apple GPU (mps), which has no float64; {precision}"
    return f"{OK}device       CPU only: the notebooks are sized for it, the paper's tables want a GPU; {precision}"


def weights_line() -> str:
    """Whether ImageNet weights are on disk, or could be fetched."""
    here = [name for name, spec in BACKBONES.items() if hub_path(spec.imagenet.url).exists()]
    if here:
        return f"{OK}weights      ImageNet on disk for {', '.join(here)}"
    url = BACKBONES["resnet18"].imagenet.url
    if is_reachable(url):
        return f"{OK}weights      ImageNet will be downloaded when first used"
    return (f"{MISSING}weights      no ImageNet weights, and {url.split('/')[2]} is out of reach: put torchvision's "
            f"files into {tilde(hub_path(url).parent)}; weights='embedded' needs nothing")


def mvtec_line() -> str:
    """Whether MVTec AD lies where `load_dataset` looks for it."""
    root = data_root() / "mvtec"
    found = len(list(root.glob("*/train/good"))) if root.is_dir() else 0
    if found:
        return f"{OK}MVTec AD     {found} categories in {tilde(root)}"
    return (f"{MISSING}MVTec AD     not in {tilde(root)}: see data/README.md; "
            "the synthetic categories need nothing")


def tilde(path: Path) -> str:
    """A path as a person writes it, with ~ for home."""
    return str(path).replace(str(Path.home()), "~", 1)


def report_lines() -> list[str]:
    """The ten lines."""
    memory, free, disk = psutil.virtual_memory(), available_memory(), shutil.disk_usage(Path.cwd())
    in_venv = sys.prefix != sys.base_prefix
    python_ok = sys.version_info >= (3, 11)
    cores = psutil.cpu_count(logical=False) or os.cpu_count()
    roomy = free > 4 * 2**30
    return [
        f"{OK if python_ok else MISSING}python       {platform.python_version()} on {platform.system()} "
        f"{platform.machine()}" + ("" if python_ok else ": the kit needs 3.11 or later"),
        f"{OK if in_venv else MISSING}environment  " + ("a virtual environment of its own" if in_venv else
                                                        "no virtual environment: `make setup` makes one"),
        f"{OK}torch        {torch.__version__}, torchvision {torchvision.__version__}",
        device_line(best_device()),
        f"{OK}processor    {cores} cores, torch uses {torch.get_num_threads()} threads",
        f"{OK if roomy else MISSING}memory       {free / 2**30:.0f} of {memory.total / 2**30:.0f} GiB free"
        + ("" if roomy else ": close something, or use cache=False and a small batch_size"),
        f"{OK if disk.free > 2 * 2**30 else MISSING}disk         {disk.free / 2**30:.0f} GiB free here",
        f"{OK}data         downloads go to {tilde(data_root())} (set RDLIB_DATA to move it)",
        mvtec_line(),
        weights_line(),
    ]
