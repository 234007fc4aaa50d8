"""Compute the distillation loss in two forms: as the paper prints it, and as the official code computes it.

The feature maps of teacher and student at scale k are t_k and s_k, (B, C_k, H_k, W_k) each.

- The paper's eq. 1 and 2 take one cosine per position, over the channels. The distances are averaged over positions.
- The official code (main.py:41-42) takes one cosine per image, over all C_k * H_k * W_k numbers of the flattened map.

In the flattened form, positions with long feature vectors weigh more. Users who trained with the printed formula
reported far lower scores (official issue 22; anomalib's port, PR 1389). The flattened form is therefore the default.
"""
from collections.abc import Callable, Sequence
from functools import reduce
from operator import add

from torch import Tensor
from torch.nn.functional import cosine_similarity

Loss = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]


def flattened_cosine_loss(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """Compute the official training loss: the sum over scales of 1 - cos(flattened t, flattened s), mean over images.

    Args:
        teacher: S feature maps, the k-th (B, C_k, H_k, W_k), floating point.
        student: S feature maps of the same shapes and dtype.

    Returns:
        Scalar tensor in [0, 2S], differentiable with respect to `student`.

    Raises:
        ValueError: the numbers of scales or the shapes differ.
    """
    return _summed_distances(teacher, student, flat=True)


def positional_cosine_loss(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """Compute the paper's eq. 2: the sum over scales of 1 - cos over channels, mean over images and positions.

    Args:
        teacher: S feature maps, the k-th (B, C_k, H_k, W_k), floating point.
        student: S feature maps of the same shapes and dtype.

    Returns:
        Scalar tensor in [0, 2S], differentiable with respect to `student`.

    Raises:
        ValueError: the numbers of scales or the shapes differ.
    """
    return _summed_distances(teacher, student)


def _summed_distances(teacher: Sequence[Tensor], student: Sequence[Tensor], flat: bool = False) -> Tensor:
    """Sum the mean distances of all scales; cosines are taken along dimension 1, of the flattened maps if `flat`."""
    shapes = [tuple(t.shape) for t in teacher], [tuple(s.shape) for s in student]
    if shapes[0] != shapes[1]:
        raise ValueError(f"Teacher and student features must have the same shapes at every scale, got {shapes[0]} and "
                         f"{shapes[1]}. Compare features of the same images and the same scales.")
    pairs = [(t.flatten(1), s.flatten(1)) if flat else (t, s) for t, s in zip(teacher, student, strict=True)]
    return reduce(add, [(1 - cosine_similarity(*pair, dim=1)).mean() for pair in pairs])


LOSSES: dict[str, Loss] = {"flattened": flattened_cosine_loss, "positional": positional_cosine_loss}
