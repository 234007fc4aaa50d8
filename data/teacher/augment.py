"""Make training batches from the bank, all in torch: crops, foreign regions with soft masks, colors, light, noise.

Every batch comes from one generator seeded by (seed, step), so a run that goes on after a stop sees what it would have
seen without it.
"""
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's: what rdlib normalizes by
# What may be foreign: nothing, another class, another class in the host's colors, the same image mirrored, brightness,
# blur, a plain color, other colors, another hue of the same brightness.
NONE, OTHER, MATCHED, MIRRORED, BRIGHTNESS, BLURRED, PLAIN, TINTED, HUE = range(9)
# The least share of the foreign pixels in the mixture; the most is 1.
WEAKEST = (0, 0.4, 0.5, 0.6, 1, 0.7, 0.4, 0.5, 0.6)
BLUR_STEPS = 4  # grain is sharp, or blurred up to this many times less one


@dataclass(frozen=True)
class Camera:
    """How `photograph` changes what it sees. Contrast is the deviation of an image's values, of a range of 1."""

    contrast: tuple[float, float]  # drawn between these, whatever the image had ...
    gain: tuple[float, float]  # ... as far as that takes a gain within these
    grey: float  # share of the images without color
    saturation: tuple[float, float] | None  # colors are strengthened by a factor between these
    noise: tuple[float, float]  # the most sensor noise: deviation, and that as a share of the contrast
    shares: tuple[float, ...]  # how often each kind of foreign region is seen


@dataclass(frozen=True)
class Batch:
    """Training images and what is to be said about them."""

    images: Tensor  # (B, 3, S, S) float32, normalized
    own: Tensor  # (B,) int64 class
    other: Tensor  # (B,) int64 class of the foreign region, where it has one of its own
    share: Tensor  # (B, 1, S, S) in [0, 1]: how much of a pixel is of class `other`
    foreign: Tensor  # (B, 1, S, S) in [0, 1]: how far a pixel lies in the foreign region
    visible: Tensor  # (B, 1, S, S) how much the region changed the image, mean over the channels, of a range of 1
    before: Tensor | None = None  # (B, 3, S, S): the images without the foreign region

    def to(self, device: torch.device) -> "Batch":
        """Move the batch to a device."""
        return Batch(*(None if x is None else x.to(device) for x in vars(self).values()))


def uniform(n: int, low: float, high: float, draw: Generator) -> Tensor:
    """Draw (n, 1, 1, 1) numbers, even between `low` and `high`."""
    return low + (high - low) * torch.rand(n, 1, 1, 1, generator=draw)


def crop(stack: Tensor, size: int, zoom: tuple[float, float], draw: Generator, beyond: float = 0.0) -> Tensor:
    """Crop (B, C, M, M) -> (B, C, S, S): a random square of each, turned, mirrored, stretched a little, `zoom` pixels
    to an output pixel. It lies inside the input, or reaches beyond it by up to this share of half a side."""
    n = len(stack)
    scale = zoom[0] * (zoom[1] / zoom[0]) ** torch.rand(n, generator=draw) * size / stack.shape[-1]
    angle = math.pi / 2 * torch.randint(4, (n,), generator=draw) + 0.2 * torch.randn(n, generator=draw)
    stretch = torch.exp(0.1 * torch.randn(n, generator=draw))
    mirror = torch.randint(2, (n,), generator=draw) * 2.0 - 1
    cos, sin = scale * angle.cos(), scale * angle.sin()
    shift = (2 * torch.rand(n, 2, generator=draw) - 1) * ((1 - scale).clamp_min(0) + beyond)[:, None]
    theta = torch.stack([cos * mirror * stretch, -sin / stretch, shift[:, 0], sin * mirror * stretch, cos / stretch,
                         shift[:, 1]], 1).view(n, 2, 3)
    points = F.affine_grid(theta, [n, 1, size, size], align_corners=False)
    return F.grid_sample(stack, points, padding_mode="reflection", align_corners=False)


def blur(x: Tensor) -> Tensor:
    """Blur (B, C, H, W): each pixel becomes the mean of its 3 x 3 neighbors."""
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, stride=1)


def foreign_pixels(x: Tensor, kind: Tensor, draw: Generator) -> Tensor:
    """Make the content of the foreign regions of images (B, 3, S, S), by kind (B,)."""
    partner = x.roll(1, 0)
    source = torch.where((kind == OTHER).view(-1, 1, 1, 1), partner, x)
    i = (kind == MATCHED).nonzero()[:, 0]
    std, mean = torch.std_mean(x, (2, 3), keepdim=True)
    relative = (partner - mean.roll(1, 0)) / (std.roll(1, 0) + 0.01)
    source[i] = relative[i] * (std[i] + 0.01) + mean[i]
    i = (kind == MIRRORED).nonzero()[:, 0]
    source[i] = x[i].flip(-1).roll((5, 9), (-2, -1))
    i = (kind == BRIGHTNESS).nonzero()[:, 0]
    sign = torch.randint(2, (len(i), 1, 1, 1), generator=draw) * 2 - 1
    source[i] = x[i] * uniform(len(i), 0.6, 1.2, draw) + sign * 0.04 * 10 ** uniform(len(i), 0, 1, draw)
    i = (kind == BLURRED).nonzero()[:, 0]
    source[i] = blur(blur(blur(x[i])))
    i = (kind == PLAIN).nonzero()[:, 0]
    tint = uniform(len(i), -0.4, 0.4, draw) + 0.1 * torch.randn(len(i), 3, 1, 1, generator=draw)
    source[i] = x[i].mean((2, 3), keepdim=True) + tint + 0.02 * torch.randn(x[i].shape, generator=draw)
    i = (kind == TINTED).nonzero()[:, 0]
    mixing = torch.eye(3) + 0.35 * torch.randn(len(i), 3, 3, generator=draw)
    turned = torch.bmm(mixing, (x[i] - mean[i]).flatten(2)).view_as(x[i])
    source[i] = turned + mean[i] + 0.15 * torch.randn(len(i), 3, 1, 1, generator=draw)
    i = (kind == HUE).nonzero()[:, 0]
    hue = torch.randn(len(i), 3, 1, 1, generator=draw)
    source[i] = x[i] + 0.15 * (hue - hue.mean(1, keepdim=True))
    return source.clamp(0, 1)


def faint_grain(n: int, size: int, draw: Generator) -> Tensor:
    """Draw (n, 3, S, S) noise of a standard deviation of 0.003 to 0.03, sharp or blurred, nine in ten gray.

    With more color in it, the features learn to ignore color.
    """
    noise = torch.randn(n, 3, size, size, generator=draw)
    noise = torch.where(torch.rand(n, 1, 1, 1, generator=draw) < 0.9, noise[:, :1], noise)
    level, stack = torch.randint(BLUR_STEPS, (n,), generator=draw), [noise]
    for _ in range(BLUR_STEPS - 1):
        stack.append(blur(blur(stack[-1])))
    chosen = torch.stack(stack)[level, torch.arange(n)]
    return 0.003 * 10 ** uniform(n, 0, 1, draw) * chosen / chosen.std((1, 2, 3), keepdim=True)


def twins(x: Tensor, draw: Generator) -> tuple[Tensor, Tensor]:
    """Draw images that differ from others by faint grain alone: for images (B, 3, S, S), normalized, more images
    (E, 3, S, S) and the pairs (P, 2), int64, numbered through both. An eighth of the pairs are plain colors."""
    first = x[::2]
    n, plain = len(first), first[: len(first) // 4].mean((2, 3), keepdim=True).expand(-1, -1, *x.shape[2:])
    grain = faint_grain(n, x.shape[-1], draw) / torch.tensor(STD).view(1, 3, 1, 1)
    more = torch.cat([first + grain, plain, plain + grain[: len(plain)]])
    own, last = torch.arange(n), len(x) + n + torch.arange(len(plain))
    pairs = torch.cat([torch.stack([2 * own, len(x) + own], 1), torch.stack([last, last + len(plain)], 1)])
    return more, pairs


def photograph(views: Tensor, camera: Camera, draw: Generator) -> tuple[Tensor, Tensor]:
    """Photograph images (B, V, 3, S, S) in [0, 1] with another camera, the same for the V views of a thing.

    It changes color, gray, contrast, inversion, gamma, light, focus, noise. Also returns by how much contrast grew,
    (B, 1, 1, 1). The first view sets the exposure.

    Each image gets a new random contrast: faint classes must be learned too, and strong ones are seen faint.
    """
    n, size = len(views), views.shape[-1]

    def draws(low: float, high: float) -> Tensor:
        return uniform(n, low, high, draw)[:, None]

    def sometimes(share: float) -> Tensor:
        return torch.rand(n, 1, 1, 1, 1, generator=draw) < share

    def each(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return function(x.flatten(0, 1)).view_as(x)
    mixing = torch.eye(3) + 0.2 * torch.randn(n, 3, 3, generator=draw) * sometimes(0.4)[..., 0, 0]
    grey = sometimes(camera.grey)[..., 0, 0]
    mixing = torch.where(grey, mixing.mean(1, keepdim=True), mixing)  # every channel the same weights
    across_views = views.transpose(1, 2)
    x = torch.bmm(mixing, across_views.flatten(2)).view_as(across_views).transpose(1, 2)
    if camera.saturation:
        low, high = camera.saturation
        tone = x.mean(2, keepdim=True)
        x = tone + low * (high / low) ** draws(0, 1) * (x - tone)
    mean = x[:, :1].mean((1, 2, 3, 4), keepdim=True)
    low, high = camera.contrast
    gain = (low * (high / low) ** draws(0, 1) / x[:, :1].std((1, 2, 3, 4), keepdim=True)).clamp(*camera.gain)
    x = (mean + draws(-0.2, 0.2)).clamp(0.15, 0.85) + gain * (1 - 2 * sometimes(0.15).float()) * (x - mean)
    x = x.clamp(0, 1) ** torch.exp(draws(-0.5, 0.5))
    line = torch.linspace(-0.5, 0.5, size)
    across, down = draws(-0.3, 0.3), draws(-0.3, 0.3)
    x = x * (1 + across * line.view(1, 1, 1, 1, -1) + down * line.view(1, 1, 1, -1, 1))
    x = x + draws(-0.5, 1) * sometimes(0.5) * (each(blur, x) - x)
    most, share = camera.noise
    noise = sometimes(0.5) * (draws(0, most) + draws(0, share) * x[:, :1].std((1, 2, 3, 4), keepdim=True))
    return (x + noise * torch.randn(n, 1, 3, size, size, generator=draw)).clamp(0, 1), gain[:, 0]


def make_batch(images: Tensor, masks: Tensor, classes: Tensor, size: int, camera: Camera, draw: Generator,
               both: bool = False) -> Batch:
    """Cut crops of `size` out of images (B, 3, M, M) uint8 of these classes (B,), most with a region by masks
    (B, 1, M, M) uint8; `both`: also as they were before."""
    n = len(images)
    x = crop(images.float() / 255, size, (0.55, min(1.6, images.shape[-1] / size)), draw)
    kind = torch.multinomial(torch.tensor(camera.shares), n, replacement=True, generator=draw)
    whole = images.shape[-1] / size
    mask = crop(masks.float() / 255, size, (0.6 * whole, 1.2 * whole), draw, beyond=0.35)  # not in the middle alone
    mask = mask * (kind != NONE).view(-1, 1, 1, 1)
    weakest = torch.tensor(WEAKEST)[kind].view(-1, 1, 1, 1)
    blend = mask * (weakest + (1 - weakest) * torch.rand(n, 1, 1, 1, generator=draw))
    changed = x + blend * (foreign_pixels(x, kind, draw) - x)
    seen, gain = photograph(torch.stack([changed, x][:1 + both], 1), camera, draw)
    visible = gain * (changed - x).abs().mean(1, keepdim=True)
    share = blend * ((kind == OTHER) | (kind == MATCHED)).view(-1, 1, 1, 1)
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    images, *before = ((view - mean) / std for view in seen.unbind(1))
    return Batch(images, classes, classes.roll(1, 0), share, mask, visible, *before)
