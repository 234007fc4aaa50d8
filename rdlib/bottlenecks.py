"""The bottleneck ablation: what takes the OCBE's place, to see what each of its parts is worth.

All four give an embedding of one shape, (B, 512e, H/32, W/32), so the student behind them is the same.

- `pre`: the teacher's own frozen, pre-trained layer4;
- `pre_random`: the same network, on the coarsest features alone, random and frozen;
- `oce`: the same network, trained: the one-class embedding without the fusion of scales;
- `mff_oce`: the full OCBE.
"""
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rdlib.encoder import TeacherEncoder, get_backbone, parameters_to_buffers, read_teacher
from rdlib.errors import WeightsError
from rdlib.ocbe import OneClassBottleneckEmbedding, OneClassEmbedding
from rdlib.weights import calibrate_batchnorm, coloured_noise, load_strictly

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
