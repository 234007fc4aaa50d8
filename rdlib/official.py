"""Checkpoints of the official RD4AD code, {"bn": ..., "decoder": ...}, under this kit's names."""
from pathlib import Path

import torch
from torch import Tensor

from rdlib.utils.errors import WeightsError
from rdlib.weights import check_state_dict, without_module

# Official names on the left, this kit's on the right. The official decoder counts its layers from the deep end.
OFFICIAL_OCBE = {"conv1.": "mff.reduce1.0.", "bn1.": "mff.reduce1.1.", "conv2.": "mff.reduce1.3.",
                 "bn2.": "mff.reduce1.4.", "conv3.": "mff.reduce2.0.", "bn3.": "mff.reduce2.1.", "bn_layer.": "oce."}
OFFICIAL_UNUSED = ("conv4.", "bn4.")
OFFICIAL_STUDENT = {"layer1.": "stage3.", "layer2.": "stage2.", "layer3.": "stage1."}


def rename_official(state: dict[str, Tensor], prefixes: dict[str, str]) -> dict[str, Tensor]:
    """A state dict of the official OCBE or decoder under this kit's keys; `prefixes` is one of the tables above.

    Left out are the layers that the official code never uses, and keys with "memory", which its test script drops.
    """
    renamed = {}
    for key, value in without_module({key: value for key, value in state.items() if "memory" not in key}).items():
        if key.startswith(OFFICIAL_UNUSED):
            continue
        official = next((prefix for prefix in prefixes if key.startswith(prefix)), "")
        own = prefixes.get(official, "") + key.removeprefix(official)
        renamed[own.replace(".upsample.", ".downsample.")] = value
    return renamed


def read_official(path: Path) -> dict[str, dict[str, Tensor]]:
    """The two state dicts in a checkpoint of the official code, under its own keys. Raises WeightsError."""
    if not path.is_file():
        raise WeightsError(f"There is no checkpoint {path}. Check the path.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises has no common base
        raise WeightsError(f"{path} cannot be read as a checkpoint ({type(error).__name__}). "
                           "It may be truncated: copy it again.") from error
    if not isinstance(checkpoint, dict) or not {"bn", "decoder"} <= checkpoint.keys():
        raise WeightsError(f"{path} is no official checkpoint: it needs the keys 'bn' and 'decoder'. "
                           "For a model saved by this kit use ReverseDistillation.load(path).")
    for part in ("bn", "decoder"):
        check_state_dict(checkpoint[part], f"{path}, '{part}'")
    return checkpoint
