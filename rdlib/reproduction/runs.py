"""Execute one run: load the data, build, train and evaluate the model. Or execute many, in one process or several.

Each run stores its result when it finishes. Several machines can share one folder of results: start the same command on
each with another `--category`.
"""
import sys
import time
import warnings
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm.auto import tqdm

from rdlib.datasets.fingerprint import images_digest
from rdlib.datasets.load import AnomalyData, load_dataset
from rdlib.detector import Detector, Distillation
from rdlib.evaluation.callbacks import EvaluateEvery
from rdlib.model import ReverseDistillation
from rdlib.reproduction.judging import judge
from rdlib.reproduction.store import ResultStore, RunConfig, provenance, weights_id
from rdlib.training.callbacks import Callback
from rdlib.training.loop import fit
from rdlib.training.run import MovingAverage, Run
from rdlib.utils.arrays import digest
from rdlib.utils.errors import checked
from rdlib.utils.hardware import check_device, peak_memory_mib
from rdlib.variants.baselines import ForwardStudent, MemoryBank

OPTIONS = ("epochs", "batch_size", "lr", "loss", "seed", "precision", "schedule", "ema")  # settings that `fit` takes
KILLED = ("A worker process was killed, perhaps because the memory was full. Start the same command again, with fewer "
          "jobs if this happens again. Finished runs are kept.")


@dataclass(frozen=True)
class Machine:
    """Device, files and folders of a run. They are no part of its settings.

    Args:
        device: torch device; ValueError if it cannot be used here.
        weights: files of teachers' weights by their name in `RunConfig`.
        roots: folders of data sets by their family, such as "mvtec".
        checkpoints: folder for checkpoints; None: write none.
    """

    device: str = "cpu"
    weights: dict[str, str] = field(default_factory=dict)
    roots: dict[str, str] = field(default_factory=dict)
    checkpoints: str | None = None

    def __post_init__(self) -> None:
        check_device(self.device)


HERE = Machine()


def load(config: RunConfig, machine: Machine) -> AnomalyData:
    """Load the run's data set."""
    family = config.dataset.partition("/")[0]
    return load_dataset(config.dataset, machine.roots.get(family), config.size, n_train=config.n_train)


def build(config: RunConfig, machine: Machine) -> Detector:
    """Build the run's untrained model on its device."""
    weights = machine.weights.get(config.weights, None if config.weights == "random" else config.weights)
    method: Any = {"memory": MemoryBank, "forward": partial(ForwardStudent, blocks=config.blocks),
                   "reverse": partial(ReverseDistillation, bottleneck=config.bottleneck)}[config.method]
    return method(config.backbone, weights, sigma=config.sigma, normalize=config.normalize, seed=config.seed,
                  score=config.score).to(machine.device)


@checked
def execute(config: RunConfig, machine: Machine = HERE, progress: bool = False) -> dict:
    """Execute one run: train and evaluate its model. On one CPU, equal settings give equal bits.

    A killed run resumes from its checkpoint.

    Args:
        config: the run's settings.
        machine: weights, data and device.
        progress: show a progress bar of the training.

    Returns:
        The content of the result file: `record.KEYS` and `record.LATER`. "metrics" are those after the last epoch.
        "scored_by" has image AUROC, pixel AUROC and AUPRO for each way to score the maps, see `evaluate_all`; with
        `ema`, "123 averaged" is of the averaged weights. "bootstrap" has these metrics on resampled test images, in
        units of 1e-4. "scores" are the image scores by defect type, in the order of the test set. "measures" are those
        of `measure_on_twins`. "data" has the fingerprints of images and masks, "command" repeats the run. "curve" and
        "averaged_curve" have the metrics by epoch, "losses" the mean loss of each epoch.

    Raises:
        ValueError: a setting has an invalid value.
        DataError: the data set is missing or damaged.
        WeightsError: the teacher's weights cannot be downloaded, read or loaded.
        FloatingPointError: the loss or a weight became NaN or infinite.
        NotFiniteError: anomaly maps or scores are NaN or infinite.
        CheckpointError: the run's checkpoint is damaged or belongs to another run.
    """
    file = machine.weights.get(config.weights)
    if (file or config.weights_id) and config.weights_id != (found := weights_id(config.weights, file)):
        raise ValueError(f"The run is of the teacher's file {config.weights_id}, but would get {found}. Give its file "
                         "(--weights), set weights_id to that of the file, or use another folder of results.")
    with warnings.catch_warnings(), ExitStack() as at_end:
        warnings.filterwarnings("ignore", "The loss sums the scales")  # an ablation trains other scales on purpose
        at_end.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(config.threads)
        began, device = time.perf_counter(), torch.device(machine.device)
        origin = provenance(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)  # a process executes many runs
        with suppress(OSError):  # only Linux has it
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        data, model = load(config, machine), build(config, machine)
        assert data.test is not None, "every benchmark has a test set"
        trained = train(config, machine, data, model, progress)
        judged, family = judge(model, data.test, trained.pop("average")), config.dataset.partition("/")[0]
        command = f"rdlib reproduce {config.key}.json --device {device.type}"
        command += f" --root {family}=FOLDER" * (family in machine.roots)
        command += f" --weights {config.weights}=FILE" * bool(file)
        if machine.checkpoints:
            Path(machine.checkpoints, f"{config.key}.ckpt").unlink(missing_ok=True)
        return {"config": asdict(config), **judged, "data": fingerprints(data), "command": command, **trained,
                "seconds": round(time.perf_counter() - began + trained["seconds"], 1),
                "peak_memory_mb": round(peak_memory_mib(device)), **origin}


def fingerprints(data: AnomalyData) -> dict[str, str | None]:
    """Compute the SHA-256 of train and test images, see `images_digest`, and of the test masks at the run's size."""
    test = data.test
    assert test is not None, "every benchmark has a test set"
    items = (test[i] for i in range(len(test)))
    return {"train": images_digest(data.train), "test": images_digest(test),
            "masks": digest([part for item in items for part in (item.mask, item.unknown)])}


class _Average(Callback):
    """Keep the moving average of a run, which ends with the averaged weights in the model."""

    average: MovingAverage | None = None

    def on_start(self, run: Run) -> None:
        """Keep it."""
        self.average = run.average


def train(config: RunConfig, machine: Machine, data: AnomalyData, model: Detector, progress: bool) -> dict[str, Any]:
    """Train the run's model.

    Returns "curve", "averaged_curve" and "losses" of the result, the "seconds" before the run was resumed, and the
    "average" of the weights, None without `ema`. With an average, the model holds the averaged weights.
    """
    if not isinstance(model, Distillation):
        if isinstance(model, MemoryBank):
            model.fit(data.train)
        return {"curve": {}, "averaged_curve": {}, "losses": [], "seconds": 0.0, "average": None}
    assert data.test is not None, "every benchmark has a test set"
    kinds = (False, *(True,) * bool(config.ema)) if config.curve_every else ()
    watching, kept = [EvaluateEvery(data.test, config.curve_every or 1, kind) for kind in kinds], _Average()
    checkpoint = Path(machine.checkpoints, f"{config.key}.ckpt") if machine.checkpoints else None
    here = time.perf_counter()
    run = fit(model, data.train, scales=config.train_scales, checkpoint=checkpoint, callbacks=[kept, *watching],
              progress=progress, **{name: getattr(config, name) for name in OPTIONS})
    curves = [{str(epoch): values for epoch, values in each.history.items()} for each in watching] + [{}, {}]
    return {"curve": curves[0], "averaged_curve": curves[1], "losses": run.epoch_losses,
            "seconds": max(0.0, run.seconds - (time.perf_counter() - here)), "average": kept.average}


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


@checked
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
        KeyboardInterrupt: the runs were interrupted; finished runs are kept, and the next call resumes the others.
        OSError: a result cannot be written.
    """
    configs = list(dict.fromkeys(configs))
    outcome = Outcome([], {}, [config for config in configs if store.read(config)])
    calls = [delayed(run_and_store)(config, store, machine) for config in configs if config not in outcome.skipped]
    processes = Parallel(min(jobs, len(calls) or 1), return_as="generator_unordered", batch_size=1, pre_dispatch="all")
    bar = tqdm(processes(calls), total=len(configs), initial=len(outcome.skipped), unit="run",
               disable=not progress or None, file=sys.stderr)
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
    except KeyboardInterrupt as stop:
        stop.args = (f"{len(outcome.done + outcome.skipped)} of {len(configs)} runs are stored in {store.folder}. "
                     "Start the same command again to go on.",)
        raise
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
