"""Average the trained weights (exponential moving average, EMA). The average varies less than the weights.

The paper uses no average. The average starts at the weights after the first step. Every further step changes it to
decay * average + (1 - decay) * weights (torch.optim.swa_utils). BatchNorm's running statistics are averaged as well,
since those of the last step belong to the weights of the last step.
"""
from collections.abc import Mapping

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class MovingAverage:
    """Exponential moving average of a run's trainable modules over its steps.

    Args:
        modules: trainable modules, by name.
        decay: share of the average that each step keeps, in (0, 1); 0.99 averages about the last 100 steps.

    Raises:
        ValueError: `decay` is outside (0, 1).
    """

    def __init__(self, modules: Mapping[str, nn.Module], decay: float):
        if not 0 < decay < 1:
            raise ValueError(f"ema is the decay of the average at each step, between 0 and 1, say 0.99; got {decay}.")
        self.live = nn.ModuleDict(modules)
        self.average = AveragedModel(self.live, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

    def update(self) -> None:
        """Add the current weights to the average."""
        self.average.update_parameters(self.live)

    @torch.no_grad()
    def swap(self) -> None:
        """Swap live and averaged weights in place. Calling it twice restores the original state."""
        live, averaged = self.live.state_dict(), self.average.module.state_dict()
        for key, value in live.items():
            if value.is_floating_point():  # not BatchNorm's counts of batches
                kept = value.clone()
                value.copy_(averaged[key])
                averaged[key].copy_(kept)
