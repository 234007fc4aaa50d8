"""The training monitor: live loss and test metrics while `fit` runs, and a stop that leaves a usable model."""
import signal
import threading
import time
from io import BytesIO

import ipywidgets as widgets
import pandas as pd
from matplotlib.figure import Figure

from rdlib.datasets.samples import AnomalyDataset
from rdlib.evaluation.report import evaluate
from rdlib.figures.operating import training_progress
from rdlib.training.run import Run

PAUSE = 1.0  # seconds between two pictures, at least; and at least ten times as long as one takes
METRICS = ("image_auroc", "pixel_auroc", "aupro")


class TrainingMonitor:
    """A callback for `fit` that draws while it runs. Static twin: `figures.training_progress(run, monitor.history)`.

        monitor = TrainingMonitor(data.test, every=5)
        monitor.show()
        run = fit(model, data.train, epochs=50, callbacks=[monitor])

    To stop, press its button, or the notebook's own "interrupt": `fit` ends after the step it is in and returns as
    usual, with the model as it is then. The button needs a kernel that answers while it is busy (ipykernel 7 in
    JupyterLab 4.4, Notebook 7.4 or later); the interrupt works everywhere. The test metrics are there to be watched:
    who stops when they look best has chosen on test data.

    Args:
        test: images to evaluate on the way; None for the loss alone. It takes as long as `evaluate` does.
        every: epochs from one evaluation to the next.

    Attributes:
        history: DataFrame, one line an evaluation: epoch, image_auroc, pixel_auroc, aupro (NaN where they have no
            meaning).
    """

    def __init__(self, test: AnomalyDataset | None = None, every: int = 1):
        if every < 1:
            raise ValueError(f"every is a number of epochs, 1 or more; got {every}.")
        self.test, self.every = test, every
        self.history = pd.DataFrame(columns=["epoch", *METRICS])
        self._run: Run | None = None
        self._asked = threading.Event()  # the button's callback may come from another thread
        self._former = None  # what an interrupt did before
        self._next = 0.0
        self.button = widgets.Button(description="stop", icon="stop", disabled=True, tooltip="End after this step.")
        self.button.on_click(lambda button: self.stop())
        self.words = widgets.HTML("Waiting for the first step.")
        self.picture = widgets.Image(format="png", layout=widgets.Layout(max_width="98%", height="auto"))
        self.widget = widgets.VBox([widgets.HBox([self.button, self.words]), self.picture])

    def __call__(self, run: Run) -> None:
        """What `fit` calls after every step."""
        if run is not self._run:
            self._begin(run)
        if self.test is not None and run.at_epoch_end and (run.epoch % self.every == 0 or run.epoch == run.epochs):
            self._evaluate(run)
        if self._asked.is_set():
            run.stop = True
        if run.stop or run.epoch >= run.epochs or time.perf_counter() >= self._next:
            self._draw(run)

    def on_end(self, run: Run) -> None:
        """Give the interrupt back and say how the run ended; `fit` calls this also after an error."""
        self._release()
        if run is not self._run:
            return
        self.button.disabled = True
        how = "Finished" if run.epoch >= run.epochs else "Stopped"
        epochs = run.step / run.steps_per_epoch
        self.words.value = f"{how} after {run.step} steps, {epochs:.1f} epochs. {self.words.value}"

    def stop(self) -> None:
        """End the run after the step it is in."""
        self._asked.set()
        self.button.disabled = True
        self.words.value = "Stopping after this step."

    def show(self) -> None:
        """Display the monitor here; it fills while `fit` runs."""
        from IPython.display import display
        display(self.widget)

    def _ipython_display_(self) -> None:
        self.show()

    def figure(self) -> Figure:
        """The run so far as a static figure. Raises ValueError before its first step."""
        if self._run is None:
            raise ValueError("Nothing has run yet: fit(model, data.train, epochs, callbacks=[monitor]).")
        return training_progress(self._run, self.history)

    def _begin(self, run: Run) -> None:
        self._run, self._next = run, 0.0
        self._asked.clear()
        self.history = self.history.iloc[:0]
        self.button.disabled = False
        # Whatever the button says reaches a busy kernel through a subshell; but ipykernel 7.4 sends it to where the
        # button was last heard from, which is the shell that `fit` keeps busy. Let it forget that.
        vars(self.button.comm).pop("_reply_subshell_id", None)
        if threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGINT, self._interrupted)

    def _interrupted(self, number: int, frame: object) -> None:
        self.stop()
        self._release()  # a second interrupt does what it always does

    def _release(self) -> None:
        if self._former is not None:
            signal.signal(signal.SIGINT, self._former)
            self._former = None

    def _evaluate(self, run: Run) -> None:
        with run.averaged():
            report = evaluate(run.model, self.test, progress=False)
        line = pd.DataFrame([{"epoch": run.epoch, **{name: getattr(report, name) for name in METRICS}}])
        self.history = line if self.history.empty else pd.concat([self.history, line], ignore_index=True)

    def _draw(self, run: Run) -> None:
        began = time.perf_counter()
        figure, file = training_progress(run, self.history), BytesIO()
        figure.savefig(file, format="png", dpi=96)
        self.picture.value, self.words.value = file.getvalue(), figure.summary
        now = time.perf_counter()
        self._next = now + max(PAUSE, 10 * (now - began))
