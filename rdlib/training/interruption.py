"""End a run after its step when it is interrupted, and keep the run of a training that did not finish."""
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from rdlib.training.run import Run

_last: list[Run] = []  # at most one


def last_run() -> Run | None:
    """Return the last run of this process that was interrupted or failed; None before. Later runs do not change it."""
    return _last[0] if _last else None


@contextmanager
def step_finished(run: Run, progress: bool) -> Generator[None]:
    """Let the first Ctrl-C or SIGTERM in a block set `run.interrupted`. The second raises KeyboardInterrupt at once.

    This holds in the main thread, for signals that Python itself would turn into a KeyboardInterrupt. At the end, the
    run is ended, see `Run.end`, before the signals act as before. With `progress`, the first one is told.
    """
    def stop(number: int, frame: object) -> None:
        if run.interrupted:
            raise KeyboardInterrupt("within a step")
        run.interrupted = True
        with suppress(Exception):  # standard error may be closed, or in use by the code that was interrupted
            if progress:
                tqdm.write("Interrupted: the step is being finished. Interrupt again to stop at once.", sys.stderr)

    with ExitStack() as at_end:
        for number in (signal.SIGINT, signal.SIGTERM) * (threading.current_thread() is threading.main_thread()):
            if signal.getsignal(number) is signal.default_int_handler:
                at_end.callback(signal.signal, number, signal.signal(number, stop))
        at_end.callback(run.end)
        yield


@contextmanager
def kept(run: Run, checkpoint: Path | None, on_interrupt: str) -> Generator[None]:
    """Run a block that trains. If it does not finish, the model says so, and the error gets the run as `error.run`.

    An interruption is raised with words or, with on_interrupt="return", ends the block. A second one is always raised.
    An error after a signal is the interruption, unless training has diverged, since the signal may have ended worker
    processes. If no step has begun, the model's settings and threshold are as before.
    """
    config, threshold = replace(run.model.config), run.model.threshold
    run.model.config.unfinished = None
    try:
        try:
            yield
        finally:
            run.end()
        if run.interrupted:
            raise KeyboardInterrupt
    except BaseException as error:
        of_signal = isinstance(error, KeyboardInterrupt)
        at_once = of_signal and run.interrupted and error.args
        stopped = of_signal or run.interrupted and not isinstance(error, FloatingPointError)
        done = f"after {run.epoch} of {run.epochs} epochs ({run.step} step{'s' * (run.step != 1)})"
        complete = (run.epoch >= run.epochs or run.stop) and not isinstance(error, FloatingPointError)
        if not (run.step or run.begun):
            run.model.config, run.model.threshold = config, threshold
        elif not complete:
            run.model.config.unfinished = done if stopped else f"{done}, with {type(error).__name__}"
        run.interrupted, _last[:], error.run = stopped, [run], run  # type: ignore[attr-defined]
        if stopped and on_interrupt == "return" and not at_once:
            return
        if stopped:
            goes_on = checkpoint and checkpoint.exists() and not complete
            more = f" The same call goes on from {checkpoint}." if goes_on else ""
            found: Any = error if of_signal else KeyboardInterrupt()
            found.args = (f"Training was interrupted {done}. rdlib.last_run() returns the run.{more}",)
            found.run = run
            raise found from error.__cause__ if of_signal else error
        raise
