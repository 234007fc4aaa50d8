"""Build the teacher E: a frozen ResNet, cut after its third stage, that extracts features at three scales.

It is torchvision's ResNet with torchvision's keys, so its weights load unchanged. The paper does not use layer4 and
the classifier; they are removed.
"""
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from rdlib.utils.arrays import digest
from rdlib.utils.errors import check_choice
from rdlib.weights import calibrate_batchnorm, coloured_noise, initialize, load_strictly, read_teacher, resolve_weights


@dataclass(frozen=True)
class Backbone:
    """A row of the backbone table: kind, number and width of the residual blocks, and torchvision's weights."""

    block: type[BasicBlock] | type[Bottleneck]
    blocks: tuple[int, int, int]  # residual blocks in layer1, layer2, layer3
    imagenet: models.WeightsEnum
    base_width: int = 64  # 128 in a wide ResNet: the 3x3 convolutions have twice the channels

    @property
    def channels(self) -> tuple[int, int, int]:
        """Return the channels of the feature maps, fine to coarse: (64e, 128e, 256e), e = the block's expansion."""
        e = self.block.expansion
        return 64 * e, 128 * e, 256 * e


# IMAGENET1K_V1 is torchvision's first ImageNet recipe, which the paper used.
BACKBONES = {
    "resnet18": Backbone(BasicBlock, (2, 2, 2), models.ResNet18_Weights.IMAGENET1K_V1),
    "resnet34": Backbone(BasicBlock, (3, 4, 6), models.ResNet34_Weights.IMAGENET1K_V1),
    "resnet50": Backbone(Bottleneck, (3, 4, 6), models.ResNet50_Weights.IMAGENET1K_V1),
    "wide_resnet50_2": Backbone(Bottleneck, (3, 4, 6), models.Wide_ResNet50_2_Weights.IMAGENET1K_V1, base_width=128),
}
TEACHER_STREAM = 1_000_003  # added to the seed: a random teacher and a student of one seed must differ


def get_backbone(name: str) -> Backbone:
    """Return the row of `BACKBONES` called `name`. Raises ValueError, with the known names, for others."""
    check_choice("backbone", name, BACKBONES)
    return BACKBONES[name]


class CutResNet(ResNet):
    """A torchvision ResNet without layer4 and classifier, built with uninitialized weights.

    The teacher is a frozen `CutResNet`. The forward baseline's student is a trainable one. `blocks` are the residual
    blocks of its three stages; None: those of `backbone`.
    """

    def __init__(self, backbone: str, blocks: tuple[int, int, int] | None = None):
        spec = get_backbone(backbone)
        with torch.device("meta"):  # no memory yet, and nothing drawn from torch's global generator
            super().__init__(spec.block, [*(blocks or spec.blocks), 1], width_per_group=spec.base_width)
        del self.layer4, self.avgpool, self.fc
        self.channels = spec.channels
        self.to_empty(device="cpu")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Extract features of normalized images (B, 3, H, W), sides multiples of 32, in the images' dtype.

        Returns t1 (B, 64e, H/4, W/4), t2 (B, 128e, H/8, W/8) and t3 (B, 256e, H/16, W/16).
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))  # (B, 64, H/4, W/4)
        t1 = self.layer1(x)
        t2 = self.layer2(t1)
        t3 = self.layer3(t2)
        return t1, t2, t3


class Frozen(nn.Module):
    """A mixin for networks that never change: no parameters, always in eval mode, no gradient."""

    def freeze(self) -> None:
        """Turn all parameters into buffers: they move and are saved as before, but no optimizer can find them."""
        for child in self.modules():
            for name, parameter in list(child.named_parameters(recurse=False)):
                delattr(child, name)
                child.register_buffer(name, parameter.detach())
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode and return self: in train mode, BatchNorm's statistics would change the features."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, x: Any) -> Any:
        """Run the network without gradient. Input and output are those of the class that uses this mixin."""
        return super().forward(x)


class TeacherEncoder(Frozen, CutResNet):
    """The teacher E: a `CutResNet` that never changes.

    The attribute `weights` names the weights in use: one of the words below, never "auto", or the name of a file.

    Args:
        backbone: a name in `BACKBONES`.
        weights: a word, or the path of a .safetensors, .pth or .pt state dict with torchvision's keys. Its layer4, fc
            and prefix "module." are ignored. "auto" means "embedded" for a ResNet-18, else "imagenet". "embedded" ships
            with the kit, for a ResNet-18 only. It was trained on procedural images. "imagenet" is torchvision's file,
            downloaded. "random_calibrated" is a baseline: random, with BatchNorm statistics measured on colored noise.
            "random", or None, is random without calibration.
        seed: seed of the random weights, 0 or more.

    Raises:
        ValueError: unknown backbone.
        WeightsError: weights that cannot be downloaded or read, do not fit, or are not finite.
    """

    def __init__(self, backbone: str = "resnet18", weights: str | Path | None = "auto", *, seed: int = 0):
        super().__init__(backbone)
        weights = resolve_weights(backbone, weights)
        self.weights = Path(weights).name
        generator = torch.Generator().manual_seed(TEACHER_STREAM + seed)
        initialize(self, generator)
        if weights == "random_calibrated":
            calibrate_batchnorm(self, coloured_noise(64, 128, generator))
        elif weights != "random":
            load_strictly(self, *read_teacher(backbone, weights, BACKBONES[backbone].imagenet.url))
        self.freeze()


def fingerprint(network: nn.Module) -> str:
    """Compute the SHA-256, in hexadecimal, of a network's weights, as float32. See `digest`."""
    return digest({name: tensor.float() if tensor.is_floating_point() else tensor
                   for name, tensor in network.state_dict().items()})
