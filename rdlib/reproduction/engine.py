"""Execute many runs, in this process or in several. Each run stores its result when it finishes.

Several machines can share one folder of results: start the same command on each with another `--category`.
"""
import sys
from collections.abc import Iterable
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
            progress: bool = True) -> Outcome:
    """Execute every run that has no stored result.

    Each run stores its result when it finishes. After an interruption, the same call executes the missing runs.

    Args:
        configs: settings of the runs; equal settings are executed once.
        store: the folder of the results.
        machine: weights, data and device of the runs.
        jobs: number of runs at a time, each in its own process; 1 uses this process.
        progress: show a progress bar, and a line for every finished run.

    Returns:
        The runs that were done, failed or skipped. A failed run leaves KEY.error.txt, and the next call repeats it.

    Raises:
        ChildProcessError: a worker process was killed; finished runs are kept.
        OSError: a result cannot be written.
    """
    configs = list(dict.fromkeys(configs))
    outcome = Outcome([], {}, [config for config in configs if store.read(config)])
    missing = [config for config in configs if config not in outcome.skipped]
    calls = (delayed(run_and_store)(config, store, machine) for config in missing)
    results = Parallel(jobs, return_as="generator_unordered", batch_size=1, pre_dispatch="all")(calls)
    bar = tqdm(results, total=len(configs), initial=len(outcome.skipped), unit="run", disable=not progress or None,
               file=sys.stderr)
    try:
        for config, failed, message in bar:
            if failed:
                outcome.failed[config] = message
            else:
                outcome.done.append(config)
            bar.set_postfix(done=len(outcome.done), failed=len(outcome.failed))
            if progress:
                bar.write(f"{config.label}: {message}", file=sys.stderr)
    except TerminatedWorkerError as error:
        raise ChildProcessError(KILLED) from error
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
