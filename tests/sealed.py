"""Write a model's file as `save` does, with a right SHA-256, from a state dict and a description at will."""
import json

from safetensors.torch import save_file

from rdlib.utils.seal import UNSEALED, seal


def write_model(path, state, about):
    """`about` is a dict, or a text that is written as it is, without a SHA-256."""
    text = about if isinstance(about, str) else json.dumps(UNSEALED | about)
    save_file({key: value.contiguous() for key, value in state.items()}, path, {"rdlib": text})
    if text is not about:
        seal(path)
