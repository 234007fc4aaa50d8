"""Fold each BatchNorm into the convolution before it: the same model with about a third fewer layers.

In eval mode, a BatchNorm multiplies each channel by a constant and adds another one. The convolution's weight and bias
can do the same. A folded model cannot be trained.
"""
import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rdlib.detector import Detector


def fold_batchnorm(model: Detector) -> Detector:
    """Copy a trained model with its BatchNorms folded, in eval mode: faster, with equal results up to rounding.

    A BatchNorm2d is folded if it is registered right after a convolution, plain or transposed, with as many channels.
    This holds for all of them in ResNets and in the student.
    """
    folded = copy.deepcopy(model).eval()
    for module in list(folded.modules()):
        before = None
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d) and before and before[1].out_channels == child.num_features:
                transposed = isinstance(before[1], nn.ConvTranspose2d)
                setattr(module, before[0], fuse_conv_bn_eval(before[1], child, transposed))
                setattr(module, name, nn.Identity())
            before = (name, child) if isinstance(child, nn.Conv2d | nn.ConvTranspose2d) else None
    return folded.requires_grad_(False)
