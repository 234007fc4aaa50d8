"""Build the baselines that the paper compares reverse distillation with: a forward student and a memory bank.

Both use the same teacher, and their maps are smoothed and scored like those of `ReverseDistillation`. The forward
student is trained with the positional loss, so it differs from the reverse student in direction and in loss.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from rdlib.anomaly_map import SCALES
from rdlib.datasets.items import Seeded, check_dataset, white_of
from rdlib.datasets.workers import read_batches
from rdlib.detector import Config, Detector, Distillation, DistillationConfig, Features, eval_mode
from rdlib.encoder import CutResNet
from rdlib.training.features import warn_of_defects, widened
from rdlib.utils.errors import checked
from rdlib.utils.hardware import as_float, autocast, neutral
from rdlib.weights import initialize

CANDIDATES = 10  # patches that are sampled for each patch of a coreset
PROJECTED = 128  # dimensions of the random projection in which a coreset is chosen
DISTANCES = 1 << 24  # entries of a distance matrix that are computed at a time: 64 MB


@dataclass(kw_only=True)
class ForwardConfig(DistillationConfig):
    """The settings of a `ForwardStudent`: those of `DistillationConfig`, and the student's depth."""

    blocks: tuple[int, int, int] | None = None


class ForwardStudent(Distillation):
    """Same-direction distillation (STFPM, Wang et al. 2021): the student has the teacher's input and architecture.

    The student is randomly initialized and learns to predict the teacher's features of good images. It sees the image
    through the same layers (or more or fewer of them, see `blocks`), so it may follow the teacher on defects too. This
    is the paper's argument against it.

    Train it with `fit(model, data.train, loss="positional")`. STFPM's loss is half the squared distance of features
    that are normalized at every position. This equals 1 - cos, the positional loss. The optimizer is `fit`'s.

    Args:
        backbone: architecture of teacher and student, a name in `rdlib.encoder.BACKBONES`.
        weights: the teacher's weights, see `TeacherEncoder`.
        scales: scales that the map is made of, some of 1 (fine), 2 and 3 (coarse).
        sigma: standard deviation of the smoothing in pixels of the input, at least 0.
        fusion: "add" or "multiply" the scales' maps.
        score: "max" or "sum" of the map.
        normalize: whether to normalize images with ImageNet's mean and standard deviation.
        blocks: residual blocks of the student's three stages, each 1 or more; None: the teacher's. With (2, 5, 12), the
            student of a ResNet-18 has about as many weights as the reverse student with OCBE. This is a control for
            size.
        seed: seed of the student's random weights, and of the teacher's if they are random.

    Raises:
        ValueError: unknown backbone, scale, fusion or score, a negative sigma, or other blocks than three from 1 on.
        WeightsError: weights that cannot be downloaded or read, do not fit, or are not finite.
    """

    settings = ForwardConfig
    config: ForwardConfig
    student_sees_images = True

    @neutral()
    def __init__(self, backbone: str = "resnet18", weights: str | Path | None = "auto", *,
                 scales: Sequence[int] = SCALES, sigma: float = 4.0, fusion: str = "add", score: str = "max",
                 normalize: bool = True, blocks: tuple[int, int, int] | None = None, seed: int = 0):
        self._build(ForwardConfig(backbone=backbone, scales=scales, sigma=sigma, fusion=fusion, score=score,
                                  normalize=normalize, blocks=blocks), weights, seed)

    def _add_networks(self, generator: torch.Generator) -> None:
        """Add the student."""
        self.student = CutResNet(self.config.backbone, self.config.blocks)
        initialize(self.student, generator)

    def trainable_modules(self) -> dict[str, nn.Module]:
        """Return the student."""
        return {"student": self.student}

    def signature(self) -> dict:
        """Return the settings in which a training run and its checkpoint must agree, see `Distillation`."""
        return super().signature() | {"blocks": self.config.blocks}

    def student_features(self, images: Tensor | None, teacher: Features) -> Features:
        """Extract the student's features s1, s2, s3 of (B, 3, H, W) images, RGB in [0, 1], shaped as t1, t2, t3."""
        assert images is not None, "`student_sees_images` promises them"
        return self.student(self.prepare(images))


@dataclass(kw_only=True)
class BankConfig(Config):
    """The settings of a `MemoryBank`: those of `Config`, and how the patches are chosen."""

    size: int = 2000
    coreset: bool = True
    seed: int = 0


class MemoryBank(Detector):
    """A memory bank of good patches (PatchCore, Roth et al. 2022). The map is the distance to the nearest patch.

    A patch stacks the teacher's features of the chosen scales at one position. Each scale is averaged over 3 x 3
    positions and resized to the finest grid. The distance is Euclidean. PatchCore's re-weighting of the image score and
    its crop of the images are left out.

    Args:
        backbone: the teacher's architecture, a name in `rdlib.encoder.BACKBONES`.
        weights: the teacher's weights, see `TeacherEncoder`.
        scales: scales that make a patch, some of 1 (fine), 2 and 3 (coarse); PatchCore uses 2 and 3.
        size: largest number of patches in the bank, 1 or more.
        coreset: True chooses patches far from each other: greedy k-center on a random projection, among 10 times as
            many random patches. False chooses random patches.
        sigma: standard deviation of the smoothing in pixels of the input, at least 0.
        score: "max" or "sum" of the map.
        normalize: whether to normalize images with ImageNet's mean and standard deviation.
        seed: seed of the random choices.

    Raises:
        ValueError: unknown backbone, scale or score, a negative sigma, or a size below 1.
        WeightsError: weights that cannot be downloaded or read, do not fit, or are not finite.
    """

    settings = BankConfig
    config: BankConfig
    resized = ("roi", "bank")
    bank: Tensor  # (size, C) float32 patches; C = 384 for a ResNet-18 and scales 2 and 3

    @neutral()
    def __init__(self, backbone: str = "resnet18", weights: str | Path | None = "auto", *,
                 scales: Sequence[int] = (2, 3), size: int = 2000, coreset: bool = True, sigma: float = 4.0,
                 score: str = "max", normalize: bool = True, seed: int = 0):
        self._build(BankConfig(backbone=backbone, scales=scales, sigma=sigma, score=score, normalize=normalize,
                               size=size, coreset=coreset, seed=seed), weights, seed)

    def _add_networks(self, generator: torch.Generator) -> None:
        """Add the empty bank."""
        self.bank = nn.Buffer(torch.empty(0, 0))

    def patches(self, images: Tensor, precision: str = "float32") -> Tensor:
        """Extract the patches of images.

        Args:
            images: (B, 3, H, W) float32 RGB in [0, 1], sides multiples of 32.
            precision: precision of the teacher, "float32", "bf16" or "auto".

        Returns:
            (B, C, H / s, W / s) float32, where s is the stride of the finest chosen scale.

        Raises:
            ValueError: images of another shape or dtype, or an unknown precision.
        """
        with eval_mode(self, self.device), autocast(precision, self.device):
            features = self.extract_features(images.to(self.device))
        chosen = [avg_pool2d(as_float(features[k - 1]), 3, stride=1, padding=1) for k in self.config.scales]
        return torch.cat([interpolate(f, chosen[0].shape[-2:], mode="bilinear") for f in chosen], dim=1)

    @checked
    def fit(self, dataset: Dataset, batch_size: int = 32, precision: str = "float32",
            progress: bool = True) -> "MemoryBank":
        """Fill the bank from good images in one pass. Equal arguments give an equal bank.

        Only the sampled patches are kept in memory, not the features of all images.

        Args:
            dataset: good images, see `rdlib.fit`.
            batch_size: number of images at a time, 1 or more.
            precision: precision of the teacher, "float32", "bf16" or "auto".
            progress: show a progress bar.

        Returns:
            The model itself, without a threshold.

        Raises:
            ValueError: the data set is empty or of another form, or the precision is unknown.
            WeightsError: layers of the model were changed after it was built, such as by folding BatchNorm.
        """
        self.check_layers("trained")
        warn_of_defects(dataset)
        generator = torch.Generator().manual_seed(self.config.seed)
        with neutral(self.device):  # reading the images, too, must not depend on the caller's default dtype
            collate, images = check_dataset(dataset), Seeded(dataset, self.config.seed)
            if not len(images):
                raise ValueError("There are no images to fill the memory bank from. Add good training images.")
            n_patches = len(images) * self.patches(images[0].image[None], precision)[0, 0].numel()
            wanted = self.config.size * (CANDIDATES if self.config.coreset else 1)
            chosen = torch.randperm(n_patches, generator=generator)[:wanted].sort().values
            kept, first, value_range = [], 0, widened(None, images[0].image)
            for item in tqdm(read_batches(images, batch_size, collate), "memory bank", -(-len(images) // batch_size),
                             unit="batch", disable=not progress or None, leave=False):
                value_range = widened(value_range, item.image, item.index)
                flat = self.patches(item.image, precision).permute(0, 2, 3, 1).flatten(0, 2)
                here = chosen[(chosen >= first) & (chosen < first + len(flat))] - first
                kept.append(flat[here.to(flat.device)])
                first += len(flat)
            patches = torch.cat(kept)
            if len(patches) > self.config.size:
                direction = torch.randn(patches.shape[1], PROJECTED, generator=generator).to(patches.device)
                patches = patches[greedy_coreset(patches @ direction / PROJECTED**0.5, self.config.size)]
        self.bank = patches
        self.set_trained(images[0].image.shape[1:], value_range, white_of(dataset))
        return self

    def anomaly_maps(self, images: Tensor, precision: str = "float32") -> Tensor:
        """Compute each patch's distance to the nearest patch of the bank: images (B, 3, H, W) -> (B, H, W).

        Raises RuntimeError before `fit`.
        """
        if not len(self.bank):
            raise RuntimeError("The memory bank is empty. Call fit(data.train) first.")
        patches = self.patches(images, precision)
        flat = patches.permute(0, 2, 3, 1).flatten(0, 2)
        distances = torch.cat([torch.cdist(part, self.bank).amin(1)
                               for part in flat.split(max(1, DISTANCES // len(self.bank)))])
        grid = distances.view(len(patches), 1, *patches.shape[-2:])
        return interpolate(grid, images.shape[-2:], mode="bilinear", align_corners=True)[:, 0]


def greedy_coreset(points: Tensor, size: int) -> Tensor:
    """Choose points one by one, each the farthest from those already chosen, starting with the first.

    Args:
        points: (M, C) float32.
        size: number of points to choose, 1 to M.

    Returns:
        (size,) int64 indices of the chosen points.
    """
    chosen = torch.zeros(size, dtype=torch.int64, device=points.device)
    nearest = torch.full((len(points),), torch.inf, device=points.device)
    squares = points.square().sum(1)
    for i in range(1, size):
        last = points[chosen[i - 1]]
        nearest = torch.minimum(nearest, squares - 2 * (points @ last) + last.square().sum())
        nearest[chosen[i - 1]] = -torch.inf  # rounding must not choose a point twice
        chosen[i] = nearest.argmax()
    return chosen
