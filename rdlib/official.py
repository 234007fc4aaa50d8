"""Read checkpoints of the official RD4AD code, {"bn": ..., "decoder": ...}, and rename their keys to this kit's."""
from pathlib import Path

from torch import Tensor

from rdlib.utils.errors import WeightsError
from rdlib.weights import check_state_dict, read_file, without_module

# Official names on the left, this kit's on the right. The official decoder counts its layers from the deep end.
OFFICIAL_OCBE = {"conv1.": "mff.reduce1.0.", "bn1.": "mff.reduce1.1.", "conv2.": "mff.reduce1.3.",
                 "bn2.": "mff.reduce1.4.", "conv3.": "mff.reduce2.0.", "bn3.": "mff.reduce2.1.", "bn_layer.": "oce."}
OFFICIAL_UNUSED = ("conv4.", "bn4.")
OFFICIAL_STUDENT = {"layer1.": "stage3.", "layer2.": "stage2.", "layer3.": "stage1."}


def rename_official(state: dict[str, Tensor], prefixes: dict[str, str]) -> dict[str, Tensor]:
    """Rename the keys of the official OCBE's or decoder's state dict.

    Layers that the official code never uses are left out, and so are keys with "memory", which its test script drops.

    Args:
        state: state dict with official keys.
        prefixes: `OFFICIAL_OCBE` or `OFFICIAL_STUDENT`.

    Returns:
        State dict with this kit's keys and the same tensors.
    """
    renamed = {}
    for key, value in without_module({key: value for key, value in state.items() if "memory" not in key}).items():
        official = next((prefix for prefix in prefixes if key.startswith(prefix)), "")
        own = prefixes.get(official, "") + key.removeprefix(official)
        if not key.startswith(OFFICIAL_UNUSED):
            renamed[own.replace(".upsample.", ".downsample.")] = value
    return renamed


def read_official(path: Path) -> dict[str, Tensor]:
    """Read an official checkpoint: this kit's keys after "bn." and "decoder.", and the file's tensors.

    Raises WeightsError if the file is missing, unreadable or of another format.
    """
    checkpoint, renamed = read_file(path), dict[str, Tensor]()
    if not isinstance(checkpoint, dict) or not {"bn", "decoder"} <= checkpoint.keys():
        raise WeightsError(f"{path} is no official checkpoint of 'bn' and 'decoder'. For this kit's, use rdlib.load.")
    for part, prefixes in (("bn", OFFICIAL_OCBE), ("decoder", OFFICIAL_STUDENT)):
        state = rename_official(check_state_dict(checkpoint[part], f"{path}, '{part}'"), prefixes)
        renamed |= {f"{part}.{key}": value for key, value in state.items()}
    return renamed
