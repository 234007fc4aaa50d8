"""Build the network in training: torchvision's ResNet-18 up to layer3 and 1x1 heads, discarded afterwards."""
import json
from pathlib import Path

import torch
from augment import Batch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from rdlib.utils.files import written_atomically

VISIBLE = 0.012  # a foreign region that changes a location less than this, of a range of 1, is not asked for


class Trainee(nn.Module):
    """ResNet-18 without layer4, and a linear head for every question asked of it.

    Which class where: layer2 and layer3. Which class in all: the mean of layer3. Where is something foreign: layer1,
    layer2 and layer3, each at its own resolution.
    """

    def __init__(self, classes: int, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            trunk = resnet18()
            del trunk.layer4, trunk.avgpool, trunk.fc
            self.trunk = trunk
            self.where = nn.ModuleList(nn.Conv2d(c, classes, 1) for c in (128, 256))
            self.which = nn.Linear(256, classes)
            self.foreign = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in (64, 128, 256))

    def features(self, x: Tensor) -> list[Tensor]:
        """Extract (B, 3, S, S) normalized -> layer1 (B, 64, S/4, S/4), layer2 (B, 128, S/8, S/8) and layer3
        (B, 256, S/16, S/16)."""
        t = self.trunk
        f1 = t.layer1(t.maxpool(t.relu(t.bn1(t.conv1(x)))))
        f2 = t.layer2(f1)
        return [f1, f2, t.layer3(f2)]

    def losses(self, batch: Batch, more: Tensor | None = None, pairs: Tensor | None = None,
               floor: float = 0.01) -> dict[str, Tensor]:
        """Compute the loss of every question, scalars: class2, class3, pooled, foreign1, foreign2, foreign3.

        With `augment.twins`, `more` (E, 3, S, S) and `pairs` (P, 2), also grain1, grain2, grain3; and the questions are
        then put to features of one length, of which only the direction counts, as for the student's loss; also spread1,
        spread2, spread3. With the batch's images as they were before, also ratio1, ratio2, ratio3, with this `floor`.
        """
        n, losses = len(batch.images), {}
        every_other = slice(1, None, 2)
        before = [] if batch.before is None else [batch.before[every_other]]
        f = self.features(torch.cat([batch.images, *([] if more is None else [more]), *before]))
        if more is not None:
            distances = [pair_distance(x.float(), pairs) for x in f]
            losses = {f"grain{i}": distance.mean() for i, distance in enumerate(distances, 1)}
            for i, (feature, grain) in enumerate(zip(f, distances, strict=True), 1):
                if before:
                    changed, former = feature[:n][every_other].float(), feature[-len(before[0]):].float()
                    losses[f"ratio{i}"] = log_ratio(grain, changed, former, batch.foreign[every_other],
                                                    batch.visible[every_other], floor)
                losses[f"spread{i}"] = concentration(feature[:n].float())
            f = [F.normalize(x[:n].float(), dim=1) * x.shape[1] ** 0.5 for x in f]
        answers = {"class2": self.where[0](f[1][:, :, 1::2, 1::2]),  # every other location: they are many
                   "class3": self.where[1](f[2]), "pooled": self.which(f[2].mean((2, 3)))[..., None, None]}
        losses |= {name: mixed_cross_entropy(logits.float(), batch) for name, logits in answers.items()}
        for i, (head, feature) in enumerate(zip(self.foreign, f, strict=True), 1):
            losses[f"foreign{i}"] = foreign_loss(head(feature).float(), batch)
        return losses


def mixed_cross_entropy(logits: Tensor, batch: Batch, smoothing: float = 0.05) -> Tensor:
    """Compute the cross-entropy of logits (B, K, h, w) with each location's mixture of two classes, smoothed."""
    share = F.adaptive_avg_pool2d(batch.share, logits.shape[-2:])[:, 0]
    log_p, rows = logits.log_softmax(1), torch.arange(len(logits), device=logits.device)
    right = (1 - share) * log_p[rows, batch.own] + share * log_p[rows, batch.other]
    return -((1 - smoothing) * right + smoothing * log_p.mean(1)).mean()


def foreign_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Compute the binary cross-entropy of logits (B, 1, h, w) with each location's foreign share, both sides with
    equal weight. Locations that are in the region but look the same do not count."""
    target, change = (F.adaptive_avg_pool2d(x, logits.shape[-2:]) for x in (batch.foreign, batch.visible))
    counts = ((target < 0.05) | (change > VISIBLE * target)).float()
    inside, outside = counts * target, counts * (1 - target)
    return 0.5 * ((inside * F.softplus(-logits)).sum() / inside.sum().clamp_min(1)
                  + (outside * F.softplus(logits)).sum() / outside.sum().clamp_min(1))


def pair_distance(feature: Tensor, pairs: Tensor) -> Tensor:
    """Compute the cosine distance between features (N, C, h, w) of pairs (P, 2) of images: (P,), mean over places."""
    return (1 - F.cosine_similarity(feature[pairs[:, 0]], feature[pairs[:, 1]], dim=1)).mean((1, 2))


def log_ratio(grain: Tensor, changed: Tensor, former: Tensor, foreign: Tensor, visible: Tensor,
              floor: float = 0.01) -> Tensor:
    """Compute the log ratio of grain's changes, (P,) distances, over those of a visible foreign region, per place.

    Of features (M, C, h, w) with and without the region; a foreign place counts by its share. The logarithm gives
    faint changes as much weight as plain ones, and leaves the scale of distances free. Grain that changes much less
    than `floor` has changed nothing.
    """
    share, change = (F.adaptive_avg_pool2d(x, changed.shape[-2:])[:, 0] for x in (foreign, visible))
    weight = share * ((share > 0.15) & (change > VISIBLE * share))
    distance = 1 - F.cosine_similarity(changed, former, dim=1)
    answer = (weight * torch.log(distance + 0.02)).sum() / weight.sum().clamp_min(1)
    return torch.log(grain + floor).mean() - answer


def concentration(feature: Tensor) -> Tensor:
    """Measure how few directions the features (B, C, h, w) vary in over all places: from 0, one, to -log C, all.

    Lengths do not count. The logarithm of the sum of the covariance's squared eigenvalues over its squared trace.
    """
    v = F.normalize(feature, dim=1).transpose(0, 1).flatten(1)  # (C, B h w)
    v = v - v.mean(1, keepdim=True)
    covariance = v @ v.T / v.shape[1]
    return torch.log(covariance.square().sum() / covariance.trace().square())


def export(trunk: dict[str, Tensor], path: Path, about: dict) -> None:
    """Write a trunk's state dict in half precision under torchvision's keys, whole or not at all.

    `about` becomes JSON under the one metadata key "about": of several keys, safetensors would shuffle the order.
    """
    half = {key: value.half().contiguous() for key, value in trunk.items() if not key.endswith("num_batches_tracked")}
    if not all(value.isfinite().all() for value in half.values()):
        raise ValueError("A weight does not fit into half precision: the training has diverged.")
    with written_atomically(path) as temporary:
        save_file(half, temporary, metadata={"about": json.dumps(about)})
