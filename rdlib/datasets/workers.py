"""Read the batches of a data set, in this process or in worker processes."""
import signal
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from functools import partial
from multiprocessing.resource_tracker import ensure_running
from typing import Any

import torch
from torch.multiprocessing import get_sharing_strategy, set_sharing_strategy
from torch.utils.data import DataLoader, Dataset


def read_batches(dataset: Dataset, batches: int | Iterable[list], collate: Callable[[list], Any], num_workers: int = 0,
                 pinned: bool = False) -> Generator[Any]:
    """Yield the collated items of every batch. Worker processes start once and end with the generator.

    They ignore Ctrl-C, and SIGTERM if a function handles it here: this process decides when to stop.

    Args:
        dataset: data set to read.
        batches: lists of indices into the data set, read a few batches ahead; or a batch size, for all items in order.
        collate: function that makes a batch of a list of items.
        num_workers: number of processes that read, 0 or more; 0 reads in this process.
        pinned: whether the batches are in pinned memory, which CUDA copies without waiting.
    """
    chosen: dict[str, Any] = {"batch_sampler": batches} if isinstance(batches, Iterable) else {"batch_size": batches}
    ignored = [signal.SIGINT] + [signal.SIGTERM] * callable(signal.getsignal(signal.SIGTERM))
    loader = DataLoader(dataset, **chosen, collate_fn=collate, num_workers=num_workers, pin_memory=pinned,
                        worker_init_fn=partial(_ignore, ignored), generator=torch.Generator())  # else the global one
    with ExitStack() as started:
        started.callback(set_sharing_strategy, get_sharing_strategy())
        set_sharing_strategy("file_system")  # the other one opens a file for every tensor of the data set
        if num_workers and hasattr(signal, "pthread_sigmask"):  # not on Windows; from the start, workers inherit it
            ensure_running()  # when it starts, it would unblock Ctrl-C
            started.callback(signal.pthread_sigmask, signal.SIG_SETMASK,
                             signal.pthread_sigmask(signal.SIG_BLOCK, ignored))
        reader = iter(loader)
    try:
        yield from reader
    finally:  # the traceback of an error would keep the workers
        getattr(reader, "_shutdown_workers", lambda: None)()


def _ignore(signals: list[signal.Signals], worker: int) -> None:
    """Leave signals to the main process."""
    for number in signals:
        signal.signal(number, signal.SIG_IGN)
