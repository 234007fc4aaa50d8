"""Find the images of a set that differ most from the others, such as a defective one among the good ones."""
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from rdlib.datasets.samples import Sample
from rdlib.images import as_images
from rdlib.model import ReverseDistillation
from rdlib.utils.hardware import best_device, neutral

SIDE, GRID = 128, 8  # an image is resized to SIDE x SIDE pixels and cut into GRID x GRID parts
REFERENCES = 20  # images that all others are compared with, so that the time is linear


@neutral()
def outliers(samples: Sequence[Sample], n: int) -> list[int]:
    """Find the images whose strangest part is farthest from the parts of the other images.

    A part is described by the embedded teacher's features at all three scales, normalized and averaged over the part.
    Its distance is that to the nearest part of up to `REFERENCES` other images, spread evenly over the set. A planted
    defective image is found more often than by the distances of thumbnails, and far from always: rarely where objects
    lie at any angle. The images found may be fine.

    Args:
        samples: two or more images.
        n: number of images to find.

    Returns:
        Up to `n` indices, the farthest image first.

    Raises:
        DataError: an image is unreadable.
    """
    model = ReverseDistillation("resnet18", "embedded").to(best_device())
    chosen = torch.linspace(0, len(samples) - 1, min(REFERENCES, len(samples))).round().long()
    references = torch.stack([_parts(model, samples[i]) for i in chosen.tolist()])
    far = [torch.cdist(_parts(model, sample), references[chosen != i]).amin((0, 2)).max().item() for i, sample in
           enumerate(tqdm(samples, "look for unusual images", leave=False, delay=3, disable=None))]
    return np.argsort(far)[::-1][:n].tolist()


def _parts(model: ReverseDistillation, sample: Sample) -> Tensor:
    """Describe the parts of an image: (GRID * GRID, channels)."""
    features = model.extract_features(as_images(sample.load((SIDE, SIDE))[0]).to(model.device))
    return torch.cat([F.adaptive_avg_pool2d(F.normalize(t, dim=1), GRID) for t in features], 1)[0].flatten(1).T
