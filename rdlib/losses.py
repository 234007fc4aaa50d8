"""The distillation loss, twice: as the paper writes it, and as the official code computes it. They are not the same.

With t and s the teacher's and the student's feature maps, (B, C, H, W) each:

- the paper's eq. 1-2 takes one cosine per position, over the C channels, and averages the distances over positions;
- the official code (main.py:41-42) takes one cosine per image, over the C*H*W numbers of the flattened map.

In the flattened form a position weighs as much as its features are long, and strong positions may make up for weak
ones. Readers who trained the printed formula got far lower scores (official issue 22; anomalib's port, PR 1389), so the
flattened form is the default here too.
"""
from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn.functional import cosine_similarity

Loss = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]


def flattened_cosine_loss(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """Sum over scales of the batch mean of 1 - cos(flattened t, flattened s): the official training loss.

    Args:
        teacher, student: S feature maps each, the k-th pair of one shape (B, C_k, H_k, W_k), one floating dtype.

    Returns:
        A scalar tensor in [0, 2S] with the gradient of `student`.

    Raises:
        ValueError: another number of scales, or shapes that differ.
    """
    _check_pairs(teacher, student)
    return sum((1 - cosine_similarity(t.flatten(1), s.flatten(1), dim=1)).mean()
               for t, s in zip(teacher, student, strict=True))


def positional_cosine_loss(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """Sum over scales of the mean over images and positions of 1 - cos over channels: the paper's eq. 2.

    Arguments, result and errors as in `flattened_cosine_loss`.
    """
    _check_pairs(teacher, student)
    return sum((1 - cosine_similarity(t, s, dim=1)).mean() for t, s in zip(teacher, student, strict=True))


def _check_pairs(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> None:
    shapes = [tuple(t.shape) for t in teacher], [tuple(s.shape) for s in student]
    if shapes[0] != shapes[1]:
        raise ValueError(f"Teacher and student must agree in shape at every scale: {shapes[0]} against {shapes[1]}.")


LOSSES: dict[str, Loss] = {"flattened": flattened_cosine_loss, "positional": positional_cosine_loss}
