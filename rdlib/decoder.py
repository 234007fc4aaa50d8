"""Build the student D: a ResNet run backwards, from the embedding to the teacher's three feature maps.

The student sees an image only through the embedding, and it starts at the deep end: this is the "reverse" in reverse
distillation. Its blocks are the teacher's, with an up-sampling convolution in place of the down-sampling one.
"""
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from rdlib.encoder import Backbone, get_backbone


def _double(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    """Build a transposed 2x2 convolution of stride 2: (B, C, H, W) -> (B, C', 2H, 2W); outputs do not overlap."""
    return nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2, bias=False)


def decoder_stage(backbone: Backbone, in_channels: int, planes: int, blocks: int) -> nn.Sequential:
    """Build a residual stage that doubles the resolution: (B, in_channels, H, W) -> (B, planes * e, 2H, 2W).

    In its first block, a transposed convolution replaces the convolution that has a stride in an encoder. This is the
    first one of a basic block and the middle one of a bottleneck block. The shortcut's convolution is transposed too.

    Args:
        backbone: the row of the teacher in the backbone table.
        in_channels: channels of the stage's input.
        planes: base width of the blocks; the output has `planes` times e channels, e = the block's expansion.
        blocks: number of residual blocks, 1 or more.

    Returns:
        The stage, with torch's default weights.
    """
    out_channels = planes * backbone.block.expansion
    width = {"base_width": backbone.base_width}
    shortcut = nn.Sequential(_double(in_channels, out_channels), nn.BatchNorm2d(out_channels))
    first = backbone.block(in_channels, planes, downsample=shortcut, **width)
    name = "conv1" if backbone.block is BasicBlock else "conv2"
    replaced = getattr(first, name)
    setattr(first, name, _double(replaced.in_channels, replaced.out_channels))
    return nn.Sequential(first, *(backbone.block(out_channels, planes, **width) for _ in range(blocks - 1)))


class StudentDecoder(nn.Module):
    """The student D: reconstruct the teacher's feature maps from the embedding.

    A stage has the number of the teacher's stage that it reconstructs, so data flows stage3 -> stage2 -> stage1. Block
    counts are (2, 2, 2) for a ResNet-18. Otherwise they are (3, 4, 6) from deep to shallow, as in the official code
    (de_resnet.py:192-196). This is not the encoder's mirror image.

    Args:
        backbone: the teacher's name in `rdlib.encoder.BACKBONES`.

    Raises:
        ValueError: unknown backbone.
    """

    def __init__(self, backbone: str = "resnet18"):
        super().__init__()
        spec = get_backbone(backbone)
        e = spec.block.expansion
        deep, middle, shallow = spec.blocks
        self.stage3 = decoder_stage(spec, 512 * e, 256, deep)
        self.stage2 = decoder_stage(spec, 256 * e, 128, middle)
        self.stage1 = decoder_stage(spec, 128 * e, 64, shallow)

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruct s1 (B, 64e, 8H, 8W), s2 (B, 128e, 4H, 4W), s3 (B, 256e, 2H, 2W) from phi (B, 512e, H, W)."""
        s3 = self.stage3(embedding)
        s2 = self.stage2(s3)
        s1 = self.stage1(s2)
        return s1, s2, s3
