"""The teacher E (paper §3.1): a frozen ResNet, cut after its third stage, that describes an image at three scales.

The stages are torchvision's own residual blocks under torchvision's own keys, so its weights load as they are. What
the paper does not use, layer4 and the classifier, is never built.
"""
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import (
    ResNet18_Weights,
    ResNet34_Weights,
    ResNet50_Weights,
    WeightsEnum,
    Wide_ResNet50_2_Weights,
)
from torchvision.models.resnet import BasicBlock, Bottleneck

from rdlib.utils.errors import WeightsError
from rdlib.weights import (
    calibrate_batchnorm,
    coloured_noise,
    download_state_dict,
    embedded_teacher,
    initialize,
    load_strictly,
    read_state_dict,
)


@dataclass(frozen=True)
class Backbone:
    """A row of the backbone table: which residual blocks, how many, how wide, and torchvision's weights for them."""

    block: type[nn.Module]  # BasicBlock or Bottleneck
    blocks: tuple[int, int, int]  # residual blocks in layer1, layer2, layer3
    imagenet: WeightsEnum
    base_width: int = 64  # 128 in a wide ResNet: the bottlenecks' 3x3 convolutions have twice the channels

    @property
    def channels(self) -> tuple[int, int, int]:
        """Channels of the three feature maps, fine to coarse: (64e, 128e, 256e), e = the block's expansion."""
        e = self.block.expansion
        return 64 * e, 128 * e, 256 * e


# The weights are torchvision's first ImageNet recipe, the one the paper was run with.
BACKBONES = {
    "resnet18": Backbone(BasicBlock, (2, 2, 2), ResNet18_Weights.IMAGENET1K_V1),
    "resnet34": Backbone(BasicBlock, (3, 4, 6), ResNet34_Weights.IMAGENET1K_V1),
    "resnet50": Backbone(Bottleneck, (3, 4, 6), ResNet50_Weights.IMAGENET1K_V1),
    "wide_resnet50_2": Backbone(Bottleneck, (3, 4, 6), Wide_ResNet50_2_Weights.IMAGENET1K_V1, base_width=128),
}


TEACHER_STREAM = 1_000_003  # added to the seed, so that a random teacher and a student of one seed are not alike


def get_backbone(name: str) -> Backbone:
    """The row of `BACKBONES` called `name`. Raises ValueError, listing the names there are."""
    if name not in BACKBONES:
        raise ValueError(f"There is no backbone '{name}'. Choose one of: {', '.join(BACKBONES)}.")
    return BACKBONES[name]


def residual_stage(backbone: Backbone, in_channels: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    """One stage of a ResNet: `blocks` residual blocks, of which the first changes resolution and width.

    (B, in_channels, H, W) -> (B, planes * e, H / stride, W / stride). The teacher is made of three, the one-class
    embedding is a fourth.
    """
    out_channels = planes * backbone.block.expansion
    shortcut = None
    if stride != 1 or in_channels != out_channels:
        shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                                 nn.BatchNorm2d(out_channels))
    width = {"base_width": backbone.base_width}
    first = backbone.block(in_channels, planes, stride, shortcut, **width)
    return nn.Sequential(first, *(backbone.block(out_channels, planes, **width) for _ in range(blocks - 1)))


class CutResNet(nn.Module):
    """A torchvision ResNet without layer4 and classifier: three feature maps of an image. Built without values.

    The teacher is one, frozen; the student of the forward baseline is one that learns.
    """

    def __init__(self, backbone: str):
        super().__init__()
        spec = get_backbone(backbone)
        c1, c2, _ = spec.channels
        with torch.device("meta"):  # no memory yet, and nothing drawn from torch's global generator
            self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.relu = nn.ReLU(inplace=True)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
            self.layer1 = residual_stage(spec, 64, 64, spec.blocks[0], stride=1)
            self.layer2 = residual_stage(spec, c1, 128, spec.blocks[1], stride=2)
            self.layer3 = residual_stage(spec, c2, 256, spec.blocks[2], stride=2)
        self.channels = spec.channels
        self.to_empty(device="cpu")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) normalized images, sides multiples of 32 -> f1 (B, 64e, H/4, W/4), f2 (B, 128e, H/8, W/8),
        f3 (B, 256e, H/16, W/16), as the images' dtype."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))  # (B, 64, H/4, W/4)
        f1 = self.layer1(x)
        f2 = self.layer2(f1)
        f3 = self.layer3(f2)
        return f1, f2, f3


class TeacherEncoder(CutResNet):
    """E: three feature maps f1, f2, f3 of an image, from a network that never changes.

    Frozen for good: the weights are buffers, not parameters, so they move and are saved with the model but no optimizer
    can find them; `train()` leaves the BatchNorms in eval mode; `forward` records no gradient.

    Args:
        backbone: a name in `BACKBONES`.
        weights: "embedded" (ships with the kit, ResNet-18 only, trained on procedural images: works offline),
            "imagenet" (torchvision's, downloaded by torchvision), "random_calibrated" (random, with BatchNorm
            statistics measured on coloured noise: a baseline), a path to a .safetensors, .pth or .pt state
            dict with torchvision's keys (layer4, fc and a prefix "module." are ignored), or None (random).
        seed: of the random weights.

    Raises:
        ValueError: an unknown backbone.
        WeightsError: weights that cannot be reached, read or fitted, or are not finite; the message says what to do.
    """

    def __init__(self, backbone: str = "resnet18", weights: str | Path | None = "embedded", *, seed: int = 0):
        super().__init__(backbone)
        generator = torch.Generator().manual_seed(TEACHER_STREAM + seed)
        initialize(self, generator)
        if weights == "random_calibrated":
            calibrate_batchnorm(self, coloured_noise(64, 128, generator))
        elif weights is not None:
            load_strictly(self, *read_teacher(backbone, weights))
        parameters_to_buffers(self)
        self.eval()

    def train(self, mode: bool = True) -> "TeacherEncoder":
        """Does nothing but return self: a teacher whose BatchNorm statistics drift is no longer the teacher."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images -> f1, f2, f3, see `CutResNet`, without gradient."""
        return super().forward(images)


def read_teacher(backbone: str, weights: str | Path) -> tuple[dict[str, Tensor], str]:
    """The state dict that "embedded", "imagenet" or a path stands for, whole, and its name for messages.

    Raises WeightsError where it cannot be reached or read, or is not of this backbone.
    """
    if weights == "imagenet":
        url = get_backbone(backbone).imagenet.url
        return download_state_dict(url), url
    if weights == "embedded":
        if backbone != "resnet18":
            raise WeightsError(f"The embedded teacher is a ResNet-18. For {backbone} use weights='imagenet', the "
                               "path of a state dict, or 'random_calibrated'.")
        return read_state_dict(embedded_teacher()), "the embedded teacher"
    return read_state_dict(Path(weights)), str(weights)


def parameters_to_buffers(module: nn.Module) -> None:
    """Freeze a network for good: what was a parameter moves and is saved as before, but no optimizer can find it."""
    for child in module.modules():
        for name, parameter in list(child.named_parameters(recurse=False)):
            delattr(child, name)
            child.register_buffer(name, parameter.detach())
