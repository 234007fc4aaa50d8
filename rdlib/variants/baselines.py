"""Baselines that the paper compares reverse distillation with: a student that runs forward, and a memory of features.

Both see the same teacher, and their maps are smoothed and scored as those of `ReverseDistillation`. The forward student
has a loss of its own, though: it differs from the reverse one in direction and in loss.
"""
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from rdlib.anomaly_map import SCALES
from rdlib.datasets.samples import Seeded, check_dataset
from rdlib.detector import Config, Detector, Distillation, DistillationConfig, Features, eval_mode
from rdlib.encoder import CutResNet
from rdlib.utils.hardware import as_float, autocast, neutral
from rdlib.weights import initialize

CANDIDATES = 10  # patches drawn for each that a coreset keeps
PROJECTED = 128  # dimensions in which a coreset is chosen
ENTRIES = 1 << 24  # of a distance matrix at a time: 64 MB


class ForwardStudent(Distillation):
    """Same-direction distillation (STFPM, Wang et al. 2021): the student is the teacher's twin, given the image.

    It is randomly initialized and learns the teacher's features of good images. Seeing the image, through the same
    architecture, it may learn to follow the teacher on defects too: that is the paper's argument against it.

    Train it with `fit(model, data.train, loss="positional")`: STFPM's loss, half the squared distance of the features
    normalized at every position, is 1 - cos, the positional loss. The optimizer is `fit`'s, not STFPM's.

    Args:
        backbone, weights, scales, sigma, fusion, score, normalize, seed: as in `ReverseDistillation`.

    Raises as `ReverseDistillation`.
    """

    student_sees_images = True

    @neutral()
    def __init__(self, backbone: str = "resnet18", weights: str | Path | None = "embedded", *,
                 scales: Sequence[int] = SCALES, sigma: float = 4.0, fusion: str = "add", score: str = "max",
                 normalize: bool = True, seed: int = 0):
        config = DistillationConfig(backbone=backbone, scales=scales, sigma=sigma, fusion=fusion, score=score,
                                    normalize=normalize)
        super().__init__(config, weights, seed)
        self.student = CutResNet(backbone)
        initialize(self.student, torch.Generator().manual_seed(seed))

    def trainable_modules(self) -> dict[str, nn.Module]:
        """The student."""
        return {"student": self.student}

    def student_features(self, images: Tensor | None, teacher: Features) -> Features:
        """The student's own view of the (B, 3, H, W) images, RGB in [0, 1]: g1, g2, g3, shaped as f1, f2, f3."""
        return self.student(self.prepare(images))


class MemoryBank(Detector):
    """A memory of good patches (PatchCore, Roth et al. 2022): a patch is as anomalous as its nearest one is far.

    A patch is the teacher's features of the chosen scales, each averaged over 3 x 3 positions, brought to the finest
    of their grids and stacked. The distance is Euclidean. Not taken over from PatchCore: the re-weighting of the image
    score, and the crop of the images.

    Args:
        backbone, weights, sigma, score, normalize: as in `ReverseDistillation`.
        scales: that make a patch; PatchCore's are the middle and the coarse one.
        size: patches that the memory keeps, at most: (size, C) float32, C = 384 for a ResNet-18.
        coreset: choose them far from each other (greedy k-centre, on a random projection, among 10 times as many drawn
            at random); else at random.
        seed: of what is drawn.

    Raises:
        ValueError: an unknown backbone, scale or score, a negative sigma, a size below 1.
        WeightsError: see `TeacherEncoder`.
    """

    @neutral()
    def __init__(self, backbone: str = "resnet18", weights: str | Path | None = "embedded", *,
                 scales: Sequence[int] = (2, 3), size: int = 2000, coreset: bool = True, sigma: float = 4.0,
                 score: str = "max", normalize: bool = True, seed: int = 0):
        config = Config(backbone=backbone, scales=scales, sigma=sigma, score=score, normalize=normalize)
        super().__init__(config, weights, seed)
        if size < 1:
            raise ValueError(f"size is the number of patches to keep, 1 or more; got {size}.")
        self.size, self.coreset, self.seed = size, coreset, seed
        self.register_buffer("memory", torch.empty(0, 0))

    def patches(self, images: Tensor, precision: str = "float32") -> Tensor:
        """(B, 3, H, W) images, RGB in [0, 1] -> (B, C, H/s, W/s) float32, s the stride of the finest chosen scale."""
        with eval_mode(self, self.device), autocast(precision, self.device):
            features = self.extract_features(images.to(self.device))
        chosen = [avg_pool2d(as_float(features[k - 1]), 3, stride=1, padding=1) for k in self.config.scales]
        return torch.cat([interpolate(f, chosen[0].shape[-2:], mode="bilinear") for f in chosen], dim=1)

    def fit(self, dataset: Dataset, batch_size: int = 32, precision: str = "float32",
            progress: bool = True) -> "MemoryBank":
        """Fill the memory from good images (items with an `.image`), in one pass; returns self.

        Equal arguments give an equal memory. Only what is drawn is held in main memory, not the features of all images.
        Raises ValueError for an empty data set, and for what is none, see `check_dataset`.
        """
        generator = torch.Generator().manual_seed(self.seed)
        with neutral(self.device):  # the data set is read in it, too
            collate = check_dataset(dataset)
            if not len(dataset):
                raise ValueError("There are no images to remember. Add good training images.")
            loader = DataLoader(Seeded(dataset, self.seed, 0), batch_size, collate_fn=collate,
                                generator=torch.Generator())
            drawn = self._draw(loader, precision, progress, generator)
            if self.coreset and len(drawn) > self.size:
                direction = torch.randn(drawn.shape[1], PROJECTED, generator=generator).to(drawn.device)
                drawn = drawn[greedy_coreset(drawn @ direction / PROJECTED**0.5, self.size)]
        self.memory, self.threshold = drawn, None  # what was chosen before belongs to another memory
        return self

    def _draw(self, loader: DataLoader, precision: str, progress: bool, generator: torch.Generator) -> Tensor:
        """(M, C) patches at random over all images and positions, every one as likely as the others."""
        wanted = self.size * (CANDIDATES if self.coreset else 1)
        kept, first, chosen = [], 0, None
        for item in tqdm(loader, desc="remembering", unit="batch", disable=not progress, leave=False):
            patches = self.patches(item.image, precision)
            if chosen is None:
                total = len(loader.dataset) * patches[0, 0].numel()
                chosen = torch.randperm(total, generator=generator)[:wanted].sort().values
            flat = patches.permute(0, 2, 3, 1).flatten(0, 2)
            here = chosen[(chosen >= first) & (chosen < first + len(flat))] - first
            kept.append(flat[here.to(flat.device)])
            first += len(flat)
        return torch.cat(kept)

    def anomaly_maps(self, images: Tensor, precision: str = "float32") -> Tensor:
        """Each patch's distance to its nearest in the memory, brought to the images' size: (B, 3, H, W) -> (B, H, W).

        Raises RuntimeError before `fit`."""
        if not len(self.memory):
            raise RuntimeError("The memory is empty. Call fit(data.train) first.")
        patches = self.patches(images, precision)
        flat = patches.permute(0, 2, 3, 1).flatten(0, 2)
        distances = torch.cat([torch.cdist(part, self.memory).amin(1)
                               for part in flat.split(max(1, ENTRIES // len(self.memory)))])
        grid = distances.view(len(patches), 1, *patches.shape[-2:])
        return interpolate(grid, images.shape[-2:], mode="bilinear", align_corners=True)[:, 0]


def greedy_coreset(points: Tensor, size: int) -> Tensor:
    """The places (size,) of points (M, C) chosen one by one, each the farthest from those before; from the first on."""
    chosen = torch.zeros(size, dtype=torch.int64, device=points.device)
    nearest = torch.full((len(points),), torch.inf, device=points.device)
    squares = points.square().sum(1)
    for i in range(1, size):
        last = points[chosen[i - 1]]
        nearest = torch.minimum(nearest, squares - 2 * (points @ last) + last.square().sum())
        nearest[chosen[i - 1]] = -torch.inf  # rounding must not choose a point twice
        chosen[i] = nearest.argmax()
    return chosen
