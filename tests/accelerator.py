"""A stand-in for an accelerator: tensors that are computed on the CPU, but call their device "mps".

As on the device, they cannot become NumPy arrays, mix with tensors of the CPU, or be float64. So a test finds where the
kit relies on the CPU, on a machine that has nothing else.
"""
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("mps")
COPIES = ("copy_", "set_", "_has_compatible_shallow_copy_type", "__set__")  # may mix devices


class Remote(Tensor):
    """A tensor on the stand-in device."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {})

    def __reduce_ex__(self, protocol):
        return self.cpu().__reduce_ex__(protocol)


class Device(TorchFunctionMode):
    """The context in which `device="mps"` means the stand-in."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {})


def plainly(func, *args, **kwargs):
    with torch._C.DisableTorchFunctionSubclass():
        return func(*args, **kwargs)


def remote(x):
    if not isinstance(x, Tensor) or isinstance(x, Remote):
        return x
    if x.dtype == torch.float64:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")
    return plainly(x.as_subclass, Remote)


def kind(x):
    """Return the type of the device that an argument of `Tensor.to` names, or None."""
    if isinstance(x, Tensor):
        return "mps" if isinstance(x, Remote) else "cpu"
    return torch.device(x).type if isinstance(x, str | torch.device) else None


def moved(tensor, *args, **kwargs):
    target = next((found for x in (*args, *kwargs.values()) if (found := kind(x))), kind(tensor))
    args, kwargs = tree_map(lambda x: "cpu" if kind(x) == "mps" and not isinstance(x, Tensor) else x, (args, kwargs))
    result = plainly(tensor.to, *args, **kwargs)
    if target == kind(tensor):
        return remote(result) if target == "mps" else result
    result = plainly(result.clone)
    return remote(result) if target == "mps" else plainly(result.as_subclass, Tensor)


def computed(func, args, kwargs):
    name, leaves = func.__name__, tree_leaves((args, kwargs))
    ours = [x for x in leaves if isinstance(x, Remote)]
    if name in ("to", "cpu") and isinstance(args[0], Tensor):
        return moved(*args, **kwargs) if name == "to" else moved(args[0], "cpu")
    if kind(kwargs.get("device")) == "mps":
        return tree_map(remote, plainly(func, *args, **kwargs | {"device": "cpu"}))
    if not ours:
        return plainly(func, *args, **kwargs)
    if name == "__get__":
        what = func.__self__.__name__
        result = DEVICE if what == "device" else what == "is_mps" if what in ("is_cpu", "is_cuda", "is_mps") else \
            plainly(func, *args)
        return remote(result)
    if name in ("numpy", "__array__"):
        raise TypeError("can't convert mps:0 device type tensor to numpy. Use Tensor.cpu() first.")
    if name == "__deepcopy__":
        copied = remote(plainly(args[0].detach().clone)).requires_grad_(args[0].requires_grad)
        copied._is_param = getattr(args[0], "_is_param", False)
        return args[1].setdefault(id(args[0]), copied)
    others = [x for x in leaves if isinstance(x, Tensor) and not isinstance(x, Remote) and x.ndim]
    if others and name not in COPIES and not (name in ("__getitem__", "__setitem__") and isinstance(args[0], Remote)):
        raise RuntimeError(f"Expected all tensors to be on the same device, but found mps:0 and cpu in {name}.")
    return tree_map(remote, plainly(func, *args, **kwargs))


@contextmanager
def accelerator(monkeypatch):
    """Run a block with the stand-in, and return its device."""
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, map_location=None, **options: tree_map(
        remote if kind(map_location) == "mps" else lambda x: x, load(*args, map_location="cpu", **options)))
    monkeypatch.setattr("rdlib.detector.saving.Saved.check_layers", lambda model, use: None)  # Remote is no Tensor
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with Device():
            yield DEVICE
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
