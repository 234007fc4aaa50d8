"""Execute many runs: in this process, in several processes (joblib), or on a cluster (dask.distributed)."""
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm.auto import tqdm

from rdlib.reproduction.config import RunConfig
from rdlib.reproduction.single import HERE, Machine, execute
from rdlib.reproduction.store import ResultStore

KILLED = ("A worker process was killed, perhaps because the memory was full. Start the same command again, with fewer "
          "jobs if this happens again. Finished runs are kept.")


class Outcome(NamedTuple):
    """The outcomes of several runs.

    Args:
        done: runs that finished.
        failed: runs that failed, each with its error in one line.
        skipped: runs whose results were already stored.
    """

    done: list[RunConfig]
    failed: dict[RunConfig, str]
    skipped: list[RunConfig]


def run_all(configs: Iterable[RunConfig], store: ResultStore, machine: Machine = HERE, *, jobs: int = 1,
            scheduler: str | None = None, progress: bool = True) -> Outcome:
    """Execute every run that has no stored result.

    Each run stores its result when it finishes. After an interruption, the same call executes the missing runs.

    Args:
        configs: settings of the runs; equal settings are executed once.
        store: the folder of the results.
        machine: weights, data and device of the runs.
        jobs: number of runs at a time, each in its own process; 1 uses this process.
        scheduler: address of a dask.distributed scheduler; its workers see the same folders. `jobs` is then ignored.
        progress: show a progress bar, and a line for every finished run.

    Returns:
        The runs that were done, failed or skipped. A failed run leaves KEY.error.txt, and the next call repeats it.

    Raises:
        ImportError: `scheduler` is given, but dask.distributed is not installed.
        ChildProcessError: a worker process was killed; finished runs are kept.
        OSError: the scheduler does not answer, or a result cannot be written.
    """
    configs = list(dict.fromkeys(configs))
    outcome = Outcome([], {}, [config for config in configs if store.has(config)])
    missing = [config for config in configs if config not in outcome.skipped]
    results = (_on_cluster(missing, store, machine, scheduler) if scheduler else
               _on_this_machine(missing, store, machine, jobs))
    bar = tqdm(results, total=len(configs), initial=len(outcome.skipped), unit="run", disable=not progress or None,
               file=sys.stderr)
    for config, failed, message in bar:
        if failed:
            outcome.failed[config] = message
        else:
            outcome.done.append(config)
        bar.set_postfix(done=len(outcome.done), failed=len(outcome.failed))
        if progress:
            bar.write(f"{config.label}: {message}", file=sys.stderr)
    return outcome


def run_and_store(config: RunConfig, store: ResultStore, machine: Machine) -> tuple[RunConfig, bool, str]:
    """Execute one run and store its result or error. Return the run, whether it failed, and a one-line message."""
    try:
        result = execute(config, machine)
    except Exception as error:  # of any kind: the other runs continue
        store.write_error(config, error)
        return config, True, f"{type(error).__name__}: {error}".splitlines()[0]
    store.write(config, result)
    return config, False, f"image AUROC {result['metrics']['image_auroc']:.3f}, {result['seconds']:.0f} s"


def _on_this_machine(configs: list[RunConfig], store: ResultStore, machine: Machine, jobs: int) -> Iterator[tuple]:
    calls = (delayed(run_and_store)(config, store, machine) for config in configs)
    try:
        yield from Parallel(jobs, return_as="generator_unordered", batch_size=1, pre_dispatch="all")(calls)
    except TerminatedWorkerError as error:
        raise ChildProcessError(KILLED) from error


def _on_cluster(configs: list[RunConfig], store: ResultStore, machine: Machine, scheduler: str) -> Iterator[tuple]:
    """Execute the runs with dask directly. Through joblib, a run that dask abandons would never return."""
    try:
        from dask.distributed import Client, KilledWorker, as_completed
    except ImportError as error:
        raise ImportError("A scheduler needs dask.distributed: pip install 'rdlib[cluster]'.") from error
    with Client(scheduler, timeout="30s") as client:
        futures = client.map(run_and_store, configs, store=store, machine=machine, pure=False)
        try:
            for future in as_completed(futures):
                yield future.result()
        except KilledWorker as error:
            raise ChildProcessError(KILLED) from error
