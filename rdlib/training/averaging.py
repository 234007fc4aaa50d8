"""An exponential moving average of the networks that learn: steadier than the last step, at almost no cost.

Not part of the paper. The average starts at the weights after the first step, and becomes decay * average +
(1 - decay) * weights after every further one (torch.optim.swa_utils). BatchNorm's running statistics are averaged
along: those of the last step belong to other weights.
"""
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class MovingAverage:
    """The average of some networks over the steps of a run.

    Args:
        networks: the networks, by name.
        decay: what is kept of the average at each step, between 0 and 1; 0.99 looks back about 100 steps.

    Raises ValueError for another decay.
    """

    def __init__(self, networks: Mapping[str, nn.Module], decay: float):
        if not 0 < decay < 1:
            raise ValueError(f"ema is the decay of the average at each step, between 0 and 1, say 0.99; got {decay}.")
        self.live = nn.ModuleDict(networks)
        self.average = AveragedModel(self.live, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

    def update(self) -> None:
        """Take the networks as they are now into the average."""
        self.average.update_parameters(self.live)

    @torch.no_grad()
    def swap(self) -> None:
        """Put the average into the networks, and what they held into the average's place; twice is nothing at all."""
        for live, average in zip(self._values(self.live), self._values(self.average.module), strict=True):
            kept = live.clone()
            live.copy_(average)
            average.copy_(kept)

    @staticmethod
    def _values(networks: nn.Module) -> Iterator[Tensor]:
        return (value for value in networks.state_dict().values() if value.is_floating_point())  # no batch counts

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The networks are the average inside the block, and themselves again after it."""
        self.swap()
        try:
            yield
        finally:
            self.swap()
