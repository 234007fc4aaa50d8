"""Read the batches of a data set, in this process or in worker processes."""
import signal
from collections.abc import Callable, Generator, Iterable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset


def read_batches(dataset: Dataset, batches: Iterable[list], collate: Callable[[list], Any], num_workers: int = 0,
                 device: torch.device = torch.device("cpu")) -> Generator[Any]:  # noqa: B008 - never changes
    """Yield the collated items of each batch of indices, in order. Workers start once and end with the generator.

    Args:
        dataset: data set that the worker processes read.
        batches: indices of each batch; read a few batches ahead.
        collate: function that makes one object of a list of items.
        num_workers: number of processes that read, 0 or more; 0 reads in this process.
        device: device that the batches go to; for CUDA they are in pinned memory.
    """
    loader = DataLoader(dataset, batch_sampler=batches, num_workers=num_workers, collate_fn=collate,
                        pin_memory=device.type == "cuda", worker_init_fn=_ignore_interrupts,
                        generator=torch.Generator())  # else torch draws from its global one
    yield from loader


def _ignore_interrupts(worker: int) -> None:
    """Leave Ctrl-C to the main process, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
