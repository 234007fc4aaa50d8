"""Build the one-class bottleneck embedding, OCBE: a compact code of the teacher's features for the student.

MFF brings the teacher's three feature maps to the coarsest resolution and stacks them. OCE, one more residual stage,
reduces the stack to the embedding phi. Both are trained with the student on good images. The paper argues that the
embedding therefore keeps what good images need, and that little of a defect passes.
"""
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rdlib.encoder import Backbone, Frozen, TeacherEncoder, get_backbone
from rdlib.utils.errors import WeightsError
from rdlib.weights import calibrate_batchnorm, coloured_noise, load_strictly, read_teacher


def _halve(channels: int, out: int) -> list[nn.Module]:
    """Build a 3x3 convolution of stride 2, BatchNorm and ReLU: (B, C, H, W) -> (B, C', H/2, W/2)."""
    return [nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]


class MultiScaleFeatureFusion(nn.Module):
    """MFF: stack three feature maps at the coarsest resolution. t1 is halved twice, and t2 once."""

    def __init__(self, channels: tuple[int, int, int]):
        super().__init__()
        c1, c2, c3 = channels
        self.reduce1 = nn.Sequential(*_halve(c1, c2), *_halve(c2, c3))
        self.reduce2 = nn.Sequential(*_halve(c2, c3))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Fuse t1 (B, 64e, H, W), t2 (B, 128e, H/2, W/2), t3 (B, 256e, H/4, W/4) -> (B, 3 * 256e, H/4, W/4)."""
        t1, t2, t3 = features
        return torch.cat([self.reduce1(t1), self.reduce2(t2), t3], dim=1)


class OneClassEmbedding(nn.Sequential):
    """OCE: a residual stage of the teacher's block type, planes 512, that halves the resolution.

    (B, in_channels, H, W) -> (B, 512e, H/2, W/2). It has two blocks for a ResNet-18 and three otherwise, like layer4.
    """

    def __init__(self, backbone: Backbone, in_channels: int):
        blocks, channels = 2 if backbone.blocks == (2, 2, 2) else 3, 512 * backbone.block.expansion
        width = {"base_width": backbone.base_width}
        shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=2, bias=False), nn.BatchNorm2d(channels))
        first = backbone.block(in_channels, 512, stride=2, downsample=shortcut, **width)
        super().__init__(first, *(backbone.block(channels, 512, **width) for _ in range(blocks - 1)))


class OneClassBottleneckEmbedding(nn.Module):
    """OCBE: MFF, then OCE: the teacher's three feature maps -> the one-class embedding phi.

    The official module also builds a 1x1 convolution and a BatchNorm that its forward never uses
    (resnet.py:412-413). They are left out.

    Args:
        backbone: the teacher's name in `rdlib.encoder.BACKBONES`.

    Raises:
        ValueError: unknown backbone.
    """

    def __init__(self, backbone: str = "resnet18"):
        super().__init__()
        spec = get_backbone(backbone)
        self.mff = MultiScaleFeatureFusion(spec.channels)
        self.oce = OneClassEmbedding(spec, in_channels=3 * spec.channels[2])

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Embed t1 (B, 64e, H, W), t2 (B, 128e, H/2, W/2), t3 (B, 256e, H/4, W/4) as phi (B, 512e, H/8, W/8)."""
        return self.oce(self.mff(features))


BOTTLENECKS = ("pre", "pre_random", "oce", "mff_oce")


class SingleScaleEmbedding(nn.Module):
    """OCE on the coarsest feature map alone: t3 (B, 256e, H, W) -> phi (B, 512e, H/2, W/2).

    Its keys and shapes are those of torchvision's layer4.
    """

    def __init__(self, backbone: str):
        super().__init__()
        spec = get_backbone(backbone)
        self.oce = OneClassEmbedding(spec, in_channels=spec.channels[2])

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Embed t3 of t1, t2, t3, shaped as in `OneClassBottleneckEmbedding`."""
        return self.oce(features[2])


class FrozenEmbedding(Frozen, SingleScaleEmbedding):
    """A `SingleScaleEmbedding` that never changes."""

    def __init__(self, backbone: str):
        super().__init__(backbone)
        self.freeze()


def build_bottleneck(name: str, backbone: str) -> nn.Module:
    """Build a bottleneck, without pre-trained or calibrated weights.

    Args:
        name: one of `BOTTLENECKS`.
        backbone: the teacher's name in `rdlib.encoder.BACKBONES`.

    Returns:
        The network: teacher features t1, t2, t3 -> embedding phi.

    Raises:
        ValueError: unknown backbone.
    """
    return {"mff_oce": OneClassBottleneckEmbedding, "oce": SingleScaleEmbedding}.get(name, FrozenEmbedding)(backbone)


def load_layer4(bottleneck: FrozenEmbedding, backbone: str, weights: str | Path | None) -> None:
    """Load layer4 of the teacher's weights into the bottleneck "pre".

    Args:
        bottleneck: changed in place.
        backbone: the teacher's name in `rdlib.encoder.BACKBONES`.
        weights: the teacher's weights, see `TeacherEncoder`.

    Raises:
        WeightsError: weights that cannot be downloaded or read, contain no layer4, do not fit, or are not finite.
    """
    if weights in (None, "random", "random_calibrated"):
        state, source = dict[str, Tensor](), "a random teacher"
    else:
        state, source = read_teacher(backbone, weights, get_backbone(backbone).imagenet.url)
    layer4 = {key.removeprefix("layer4."): value for key, value in state.items() if key.startswith("layer4.")}
    if not layer4:
        raise WeightsError(f"bottleneck='pre' is the teacher's pre-trained layer4, and {source} contains none. Use "
                           f"weights='imagenet', a state dict with layer4.*, or bottleneck='pre_random'.")
    load_strictly(bottleneck.oce, layer4, f"layer4 of {source}")


def calibrate_frozen(bottleneck: FrozenEmbedding, teacher: TeacherEncoder, generator: torch.Generator) -> None:
    """Calibrate the BatchNorm statistics of the bottleneck "pre_random" on the teacher's features of colored noise.

    A frozen BatchNorm does not learn its statistics. With the default ones, activations grow from block to block. With
    calibrated ones, the embedding has the scale of a trained bottleneck's embedding.

    Args:
        bottleneck: changed in place.
        teacher: the frozen teacher.
        generator: source of the random noise.
    """
    calibrate_batchnorm(bottleneck, teacher(coloured_noise(32, 128, generator)))
