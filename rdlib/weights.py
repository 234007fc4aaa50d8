"""Initialize, calibrate, download, read and check network weights before use."""
import math
import os
import socket
from collections.abc import Callable
from hashlib import file_digest
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from rdlib.utils.errors import WeightsError
from rdlib.utils.files import shipped, written_atomically
from rdlib.utils.hardware import neutral

EMBEDDED = "resnet18_procedural.safetensors"
EMBEDDED_SHA256 = "71b924b8a1967814de2834d533bcc1a7ef0ece5cc01329d6e28ed3891641d56b"  # of the file
FAULTS: dict[str, Callable[[str, Tensor, torch.dtype], Any]] = {  # of a tensor, by key, value and dtype to load it as
    "is nested": lambda key, value, dtype: value.is_nested,
    "is sparse": lambda key, value, dtype: value.layout != torch.strided,
    "is quantized": lambda key, value, dtype: value.is_quantized,
    "is a meta tensor, without data": lambda key, value, dtype: value.is_meta,
    "has the dtype {}, which does not fit {}": lambda key, value, dtype: (
        value.is_complex() or value.is_floating_point() != dtype.is_floating_point),
    "holds NaN or infinity": lambda key, value, dtype: not value.to(dtype).isfinite().all(),  # 1e40: inf as float32
    "is a variance but holds negative values": lambda key, value, dtype: (
        key.endswith(("running_var", "exp_avg_sq")) and (value < 0).any()),
}


def initialize(module: nn.Module, generator: torch.Generator) -> None:
    """Initialize a network as the official code does.

    Conv2d: Kaiming normal, fan_out. ConvTranspose2d: torch's default, as in the official decoder (de_resnet.py:203).
    BatchNorm: weight 1, bias 0, mean 0, variance 1.

    Args:
        module: the network, without bias in its convolutions; changed in place.
        generator: the only source of random numbers.
    """
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(child, nn.ConvTranspose2d):
            nn.init.kaiming_uniform_(child.weight, a=math.sqrt(5), generator=generator)
        elif isinstance(child, nn.BatchNorm2d):
            child.reset_parameters()


@neutral()
def coloured_noise(n: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw images of colored noise, with a spectrum like that of natural images.

    The amplitude falls as 1 / frequency^a, with a random a from 0.5 to 2 for each image.

    Args:
        n: number of images.
        size: side of the images, in pixels.
        generator: source of random numbers.

    Returns:
        (n, 3, size, size) float32, with mean 0 and standard deviation 1 in each channel.
    """
    fx, fy = torch.fft.rfftfreq(size), torch.fft.fftfreq(size)[:, None]
    frequency = torch.sqrt(fx**2 + fy**2).clamp_min(1 / size)
    slope = 0.5 + 1.5 * torch.rand(n, 1, 1, 1, generator=generator)
    white = torch.randn(n, 3, size, size, generator=generator)
    noise = torch.fft.irfft2(torch.fft.rfft2(white) / frequency**slope, s=(size, size))
    return (noise - noise.mean((2, 3), keepdim=True)) / noise.std((2, 3), keepdim=True)


@torch.no_grad()
def calibrate_batchnorm(module: nn.Module, images: Tensor) -> None:
    """Set the running mean and variance of every BatchNorm to those of one batch.

    With BatchNorm's default statistics (mean 0, variance 1), activations of random convolutions grow from layer to
    layer. Calibrated statistics keep every layer near unit variance.

    Args:
        module: an initialized network; changed in place.
        images: the network's input, such as normalized images (B, 3, H, W).
    """
    norms = [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)]
    for norm in norms:
        norm.train().momentum = 1.0  # the batch's own statistics, without a share of earlier ones
    module(images)
    for norm in norms:
        norm.eval().momentum = 0.1  # torch's default


def embedded_teacher() -> Path:
    """Find the weights that ship with the kit: a ResNet-18 trained on procedural images, see data/teacher/README.md.

    Raises WeightsError if neither the checkout nor the installed library contains them, or if they are damaged.
    """
    try:
        path = shipped("teacher", EMBEDDED)
    except FileNotFoundError as error:
        raise WeightsError(f"This installation lacks its teacher: {error} Until then, use "
                           "weights='random_calibrated'.") from error
    check_sha256(path, EMBEDDED_SHA256, "Reinstall the kit, or restore the file with git.")
    return path


def check_sha256(path: Path, start: str, advice: str) -> None:
    """Raise WeightsError, with `advice`, unless a file's SHA-256 in hexadecimal begins with `start`."""
    with path.open("rb") as file:
        found = file_digest(file, "sha256").hexdigest()
    if not found.startswith(start):
        raise WeightsError(f"{path} is damaged: its SHA-256 is {found} and does not begin with {start}. {advice}")


def hub_path(url: str) -> Path:
    """Return the path where torch.hub keeps the file of `url`, downloaded or not; empty variables count as unset."""
    given = [os.environ.get(name) for name in ("TORCH_HOME", "XDG_CACHE_HOME")]
    home, cache = (value if value and value.strip() else None for value in given)
    folder = os.path.expanduser(os.path.join(home or os.path.join(cache or "~/.cache", "torch"), "hub"))
    return Path(torch.hub.get_dir() if given == [home, cache] else folder, "checkpoints", Path(urlparse(url).path).name)


def download_state_dict(url: str) -> dict[str, Tensor]:
    """Download a state dict into torch's hub folder ($TORCH_HOME), check its hash, and read it.

    A file that is already there is not downloaded again. As in torchvision, a file's name ends in the first digits of
    its SHA-256. Raises WeightsError if the download fails or the file is damaged.
    """
    path = hub_path(url)
    prefix = path.stem.rpartition("-")[2]
    if not path.exists():
        timeout = socket.getdefaulttimeout()
        try:
            socket.setdefaulttimeout(30)  # torch.hub sets none: behind a firewall that drops packets it would hang
            with written_atomically(path) as temporary:
                torch.hub.download_url_to_file(url, str(temporary), hash_prefix=prefix)
        except (OSError, HTTPException, RuntimeError) as error:  # unreachable, not HTTP, wrong hash
            raise WeightsError(f"The file {url} could not be downloaded ({error}). Get it on another machine and "
                               f"copy it to {path}, or use weights='embedded' or a file's path.") from error
        finally:
            socket.setdefaulttimeout(timeout)
    check_sha256(path, prefix, "Delete it and try again.")
    return read_state_dict(path)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors, .pth or .pt file, without the prefix "module.", see `without_module`.

    Raises WeightsError if the file is missing, unreadable or not a plain dict of tensors.
    """
    return check_state_dict(read_file(path), str(path))


def read_file(path: Path) -> Any:
    """Read the content of a .safetensors, .pth or .pt file. No code in the file can run (weights_only=True).

    Raises WeightsError if the file is missing or unreadable.
    """
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}. Check the path. A teacher's weights may also be one of "
                           "the words 'auto', 'embedded', 'imagenet', 'random' and 'random_calibrated'.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises errors without a common base: Safetensor, Unpickling, Zip, EOF
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path} cannot be read as weights ({reason[:120]}). It may be truncated or of another "
                           "format: get it again, as .safetensors or as a .pth state dict.") from error


def resolve_weights(backbone: str, weights: str | Path | None) -> str | Path:
    """Replace "auto" and None by the words that they stand for.

    Args:
        backbone: the teacher's name in `rdlib.encoder.BACKBONES`.
        weights: a word, the path of a file, or None.

    Returns:
        "embedded" (ResNet-18) or "imagenet" for "auto", "random" for None, else `weights`.
    """
    if weights == "auto":
        return "embedded" if backbone == "resnet18" else "imagenet"
    return "random" if weights is None else weights


def read_teacher(backbone: str, weights: str | Path, url: str) -> tuple[dict[str, Tensor], str]:
    """Read the state dict of a teacher that is not random.

    Args:
        backbone: the teacher's name in `rdlib.encoder.BACKBONES`.
        weights: "auto", "embedded", "imagenet" or the path of a file.
        url: address of the weights for "imagenet".

    Returns:
        The state dict, and its name for messages.

    Raises:
        WeightsError: weights that cannot be downloaded or read, or "embedded" for another backbone than a ResNet-18.
    """
    weights = resolve_weights(backbone, weights)
    if weights == "imagenet":
        return download_state_dict(url), url
    if weights == "embedded":
        if backbone != "resnet18":
            raise WeightsError(f"The embedded teacher is a ResNet-18, not a {backbone}. Use weights='auto', "
                               "'imagenet', 'random_calibrated' or the path of a state dict.")
        return read_state_dict(embedded_teacher()), "the embedded teacher"
    return read_state_dict(Path(weights)), str(weights)


def without_module(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes "module." of DataParallel and "_orig_mod." of torch.compile, if all keys have them."""
    for prefix in ("_orig_mod.", "module.", "_orig_mod."):  # one wrapper may hold the other
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def load_strictly(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load a state dict into a network. After an error, the network is unchanged.

    Keys under layer4 and fc are ignored, so a whole ResNet's state dict is accepted. `num_batches_tracked` may be
    missing, as in old files.

    Args:
        module: the network; changed in place.
        state: state dict with the network's keys and shapes, and dense, finite values of its kind.
        source: name of the state dict for messages.

    Raises:
        WeightsError: a key is missing or unknown, a shape differs, or values are refused by `check_values`.
    """
    own = module.state_dict()
    problems = [f" has no '{key}'" for key in own if key not in state and not key.endswith("num_batches_tracked")]
    problems += [f": '{key}' has shape {tuple(state[key].shape)}, this network needs {tuple(value.shape)}"
                 for key, value in own.items() if key in state and state[key].shape != value.shape]
    problems += [f": '{key}' is no part of this network" for key in state
                 if key not in own and not key.startswith(("layer4.", "fc."))]
    if problems:
        raise WeightsError(f"{source}{problems[0]}. These weights belong to another network: choose the backbone that "
                           "they were trained with.")
    loaded = {key: state[key] for key in own if key in state}
    check_values(loaded, source, own)
    module.load_state_dict(loaded, strict=False)


def check_values(state: dict[str, Tensor], source: str, own: dict[str, Tensor] | None = None) -> None:
    """Check that all tensors of a state dict are dense and finite, and that no variance is negative.

    Args:
        state: the state dict.
        source: its name for messages.
        own: state dict of the network that is to load it, for its dtypes; None for `state` itself.

    Raises:
        WeightsError: a tensor is sparse, quantized, complex or without data, is integer where the network's is floating
            point, contains NaN or infinity, or is a negative variance.
    """
    for key, value in state.items():
        dtype = (own or state)[key].dtype
        if fault := next((words for words, applies in FAULTS.items() if applies(key, value, dtype)), None):
            raise WeightsError(f"{source}: '{key}' {fault.format(value.dtype, dtype)}. If training has diverged, train "
                               "again with a smaller lr. If the file is damaged or converted, get the original.")


def check_state_dict(state: object, source: str) -> dict[str, Tensor]:
    """Check that an object is a state dict, a plain dict from names to tensors. Return it, see `without_module`.

    Args:
        state: any object.
        source: name of the object for messages.

    Raises:
        WeightsError: the object is no state dict.
    """
    if not isinstance(state, dict) or not all(isinstance(key, str) and isinstance(value, Tensor)
                                              for key, value in state.items()):
        raise WeightsError(f"{source} does not hold a plain state dict (key -> tensor). "
                           "Save one with torch.save(model.state_dict(), path).")
    return without_module(state)
