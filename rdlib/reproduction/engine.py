"""Doing many runs: in this process, in several, or on a cluster. joblib does the work; here is what is kept of it."""
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

from joblib import Parallel, delayed, effective_n_jobs, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm.auto import tqdm

from rdlib.reproduction.config import RunConfig
from rdlib.reproduction.single import Machine, execute
from rdlib.reproduction.store import ResultStore

STARTS = 3  # of a run; whose worker was killed so often, it fails


@dataclass
class Outcome:
    """What came of a set of runs."""

    done: list[RunConfig] = field(default_factory=list)
    failed: dict[RunConfig, str] = field(default_factory=dict)  # with the last line of the error
    there: list[RunConfig] = field(default_factory=list)  # already on record, not run again

    @property
    def complete(self) -> bool:
        """Whether every run has its result."""
        return not self.failed


def run_and_file(config: RunConfig, store: ResultStore, machine: Machine,
                 session: str) -> tuple[RunConfig, dict | str]:
    """Do one run and write its result, or its error; the result's metrics, or the error in a line."""
    try:
        if store.note_start(config, session) >= STARTS:  # counted here, since joblib waits forever where dask gives up
            raise ChildProcessError(f"its worker was killed {STARTS} times: is the memory too small?")
        result = execute(config, machine)
    except Exception as error:  # whatever it is, the other runs go on
        store.write_error(config, error)
        return config, f"{type(error).__name__}: {error}"
    store.write(config, result)
    return config, {**result["metrics"], "seconds": result["seconds"]}


def run_all(configs: Iterable[RunConfig], store: ResultStore, machine: Machine = Machine(), *, jobs: int = 1,
            scheduler: str | None = None, progress: bool = True) -> Outcome:
    """Do every run that has no result yet; each writes its own file, so that a kill loses no more than runs under way.

    Args:
        configs: the runs; equal ones are done once.
        store: where results are looked for and written.
        machine: where the runs find weights, data and device.
        jobs: runs at a time, each in a process of its own; 1 runs in this process.
        scheduler: address of a dask.distributed scheduler whose workers see the same folders; `jobs` is then theirs.
        progress: a bar over the whole set and a line for every run that ends.

    Returns:
        What was done, what failed and what had been there. Failed runs leave KEY.error.txt, and are tried again next
        time. A run fails that raises, or whose worker was killed three times.

    Raises:
        ImportError: `scheduler` without dask.distributed.
    """
    configs, session = list(dict.fromkeys(configs)), uuid4().hex
    outcome = Outcome(there=[config for config in configs if store.has(config)])
    missing = [config for config in configs if config not in set(outcome.there)]
    with tqdm(total=len(configs), initial=len(outcome.there), unit="run", disable=not progress,
              file=sys.stderr) as bar, _backend(jobs, scheduler):
        for _ in range(STARTS * len(missing) + 1):
            # A kill ends all processes of a pool. What had begun is then done alone, so that each counts its own kills.
            for part in [[config] for config in missing if store.has_begun(config, session)] or [missing]:
                try:
                    left, at_once = len(part), _workers(jobs, scheduler)
                    bar.set_postfix(_counts(outcome, left, at_once))
                    for config, found in _results(part, store, machine, session):
                        left -= 1
                        _note(outcome, config, found, bar)
                        bar.set_postfix(_counts(outcome, left, at_once))
                except TerminatedWorkerError:  # killed, perhaps for memory: what it did not file is missing
                    bar.write("A worker process was killed; its runs are handed out again.", file=sys.stderr)
            missing = [config for config in missing if not store.has(config) and config not in outcome.failed]
            outcome.done += [c for c in configs if store.has(c) and c not in {*outcome.done, *outcome.there}]
            if not missing:
                break
    outcome.failed |= dict.fromkeys(missing, "workers are killed before they begin: is the memory too small?")
    return outcome


def _results(configs: list[RunConfig], store: ResultStore, machine: Machine, session: str) -> Iterator[tuple]:
    return Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="all")(
        delayed(run_and_file)(config, store, machine, session) for config in configs)


@contextmanager
def _backend(jobs: int, scheduler: str | None) -> Iterator[None]:
    if scheduler is None:
        with parallel_config("sequential" if jobs == 1 else "loky", n_jobs=jobs):
            yield
        return
    try:
        from dask.distributed import Client
    except ImportError as error:
        raise ImportError("A scheduler needs dask.distributed: pip install 'rdlib[cluster]'.") from error
    with Client(scheduler, timeout="30s") as client, parallel_config("dask", client=client):
        yield


def _workers(jobs: int, scheduler: str | None) -> int:
    """How many runs may be under way at a time."""
    return effective_n_jobs(-1 if scheduler else jobs)


def _counts(outcome: Outcome, left: int, at_once: int) -> dict[str, int]:
    """What the bar says besides the time left."""
    return {"done": len(outcome.done), "running": min(left, at_once), "failed": len(outcome.failed)}


def _note(outcome: Outcome, config: RunConfig, found: dict | str, bar: tqdm) -> None:
    bar.update()
    stamp = time.strftime("%H:%M:%S")
    if isinstance(found, str):
        outcome.failed[config] = found.splitlines()[0]
        bar.write(f"{stamp} FAILED {config.label}: {outcome.failed[config]}", file=sys.stderr)
    else:
        outcome.done.append(config)
        shown = ", ".join(f"{name} {found[key]:.3f}" for key, name in
                          (("image_auroc", "image AUROC"), ("pixel_auroc", "pixel AUROC"), ("aupro", "AUPRO"))
                          if found[key] == found[key])
        bar.write(f"{stamp} {config.label}: {shown}, {found['seconds']:.0f} s", file=sys.stderr)
