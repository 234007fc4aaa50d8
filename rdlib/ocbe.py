"""The one-class bottleneck embedding, OCBE (paper §3.3): what the student is allowed to know of an image.

Two parts. MFF aligns the teacher's three feature maps at the coarsest resolution and stacks them; OCE, one more
residual stage, squeezes the stack into an embedding. Trained with the student on good images, it keeps what these need;
little of a defect passes.
"""
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rdlib.encoder import Backbone, TeacherEncoder, get_backbone, parameters_to_buffers, read_teacher, residual_stage
from rdlib.utils.errors import WeightsError
from rdlib.weights import calibrate_batchnorm, coloured_noise, load_strictly


def _halve(in_channels: int, out_channels: int) -> list[nn.Module]:
    """3x3 convolution of stride 2, BatchNorm, ReLU: (B, C, H, W) -> (B, C', H/2, W/2)."""
    return [nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True)]


class MultiScaleFeatureFusion(nn.Module):
    """MFF: three scales in, one stack of the coarsest resolution out. f1 is halved twice, f2 once, f3 not at all."""

    def __init__(self, channels: tuple[int, int, int]):
        super().__init__()
        c1, c2, c3 = channels
        self.reduce1 = nn.Sequential(*_halve(c1, c2), *_halve(c2, c3))
        self.reduce2 = nn.Sequential(*_halve(c2, c3))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """f1 (B, 64e, H, W), f2 (B, 128e, H/2, W/2), f3 (B, 256e, H/4, W/4) -> (B, 3 * 256e, H/4, W/4)."""
        f1, f2, f3 = features
        return torch.cat([self.reduce1(f1), self.reduce2(f2), f3], dim=1)


class OneClassEmbedding(nn.Sequential):
    """OCE: a residual stage of the teacher's own kind, planes 512, that halves the resolution once more.

    (B, in_channels, H, W) -> (B, 512e, H/2, W/2). Two blocks behind a ResNet-18, three otherwise.
    """

    def __init__(self, backbone: Backbone, in_channels: int):
        blocks = 2 if backbone.blocks == (2, 2, 2) else 3
        super().__init__(*residual_stage(backbone, in_channels, planes=512, blocks=blocks, stride=2))


class OneClassBottleneckEmbedding(nn.Module):
    """OCBE = OCE after MFF: the teacher's three feature maps -> the one-class embedding phi.

    The official module also builds a 1x1 convolution and a BatchNorm that its forward never uses
    (resnet.py:412-413); they are left out here.

    Args:
        backbone: the teacher's name in `rdlib.encoder.BACKBONES`.
    """

    def __init__(self, backbone: str = "resnet18"):
        super().__init__()
        spec = get_backbone(backbone)
        self.mff = MultiScaleFeatureFusion(spec.channels)
        self.oce = OneClassEmbedding(spec, in_channels=3 * spec.channels[2])

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """f1 (B, 64e, H, W), f2 (B, 128e, H/2, W/2), f3 (B, 256e, H/4, W/4) -> phi (B, 512e, H/8, W/8)."""
        return self.oce(self.mff(features))


BOTTLENECKS = ("pre", "pre_random", "oce", "mff_oce")


class SingleScaleEmbedding(nn.Module):
    """OCE on the coarsest feature map alone: f3 (B, 256e, H, W) of the three -> (B, 512e, H/2, W/2).

    Its shape is that of torchvision's layer4: two blocks in a ResNet-18, three otherwise.
    """

    def __init__(self, backbone: str):
        super().__init__()
        spec = get_backbone(backbone)
        self.oce = OneClassEmbedding(spec, in_channels=spec.channels[2])

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """f1, f2, f3 as in `OneClassBottleneckEmbedding`, of which f3 alone is looked at."""
        return self.oce(features[2])


class FrozenEmbedding(SingleScaleEmbedding):
    """A `SingleScaleEmbedding` that never changes: no parameters, no gradient, always in eval mode, as the teacher."""

    def __init__(self, backbone: str):
        super().__init__(backbone)
        parameters_to_buffers(self)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenEmbedding":
        """Does nothing but return self."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """See `SingleScaleEmbedding`."""
        return super().forward(features)


def build_bottleneck(name: str, backbone: str) -> nn.Module:
    """The bottleneck of that name in `BOTTLENECKS`, without values."""
    networks = {"mff_oce": OneClassBottleneckEmbedding, "oce": SingleScaleEmbedding}
    return networks.get(name, FrozenEmbedding)(backbone)


def load_layer4(bottleneck: FrozenEmbedding, backbone: str, weights: str | Path | None) -> None:
    """Give `pre` the layer4 that belongs to the teacher's weights. Raises WeightsError where they carry none."""
    if weights is None or weights == "random_calibrated":
        raise WeightsError("bottleneck='pre' is the teacher's own pre-trained layer4, and a random teacher has none. "
                           "Use bottleneck='pre_random', or weights='imagenet'.")
    state, source = read_teacher(backbone, weights)
    layer4 = {key.removeprefix("layer4."): value for key, value in state.items() if key.startswith("layer4.")}
    if not layer4:
        raise WeightsError(f"bottleneck='pre' is the teacher's own pre-trained layer4, and {source} carries none. Use "
                           "weights='imagenet' or a state dict with layer4.*, or another bottleneck: "
                           f"{', '.join(BOTTLENECKS[1:])}.")
    load_strictly(bottleneck.oce, layer4, f"layer4 of {source}")


def calibrate_frozen(bottleneck: FrozenEmbedding, teacher: TeacherEncoder, generator: torch.Generator) -> None:
    """Set the BatchNorm statistics of `pre_random` to those of the teacher's features of coloured noise.

    A frozen BatchNorm never sees a batch to learn from. With its default statistics the embedding would grow with the
    teacher's features and from block to block; calibrated, it has the scale that a trained bottleneck's has.
    """
    calibrate_batchnorm(bottleneck, teacher(coloured_noise(32, 128, generator)))
