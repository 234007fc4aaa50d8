"""Execute one run: load the data, build, train and evaluate the model, and return the result."""
import time
import warnings
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from rdlib.anomaly_map import SCALES, check_finite, fuse, gaussian_smooth, image_score
from rdlib.datasets.load import AnomalyData, load_dataset
from rdlib.datasets.samples import AnomalyDataset
from rdlib.detector import Detector, Distillation
from rdlib.evaluation.bootstrap import METRICS, resampled_metrics
from rdlib.evaluation.callbacks import EvaluateEvery
from rdlib.evaluation.report import Report, evaluate
from rdlib.model import ReverseDistillation
from rdlib.reproduction.config import RunConfig
from rdlib.reproduction.store import provenance
from rdlib.training.loop import fit
from rdlib.training.run import Run
from rdlib.utils.hardware import peak_memory_mib
from rdlib.variants.baselines import ForwardStudent, MemoryBank

RESAMPLES = 200  # of the test images
FPR_LIMIT = 0.3  # of AUPRO
SCALE_SETS = {"".join(map(str, scales)): scales for n in SCALES for scales in combinations(SCALES, n)}
MAIN = "123"  # the paper's anomaly map: all scales, added, smoothed


@dataclass(frozen=True)
class Machine:
    """Device, files and folders of a run. They are no part of its settings.

    Args:
        device: torch device.
        weights: files of teachers' weights by their name in `RunConfig`.
        roots: folders of data sets by their family, such as "mvtec".
        checkpoints: folder for checkpoints; None: write none.
    """

    device: str = "cpu"
    weights: dict[str, str] = field(default_factory=dict)
    roots: dict[str, str] = field(default_factory=dict)
    checkpoints: str | None = None


HERE = Machine()


def start_counting_memory(device: torch.device) -> None:
    """Reset the value that `peak_memory_mib` reports, since a process executes many runs."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):  # only Linux has it
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def load(config: RunConfig, machine: Machine) -> AnomalyData:
    """Load the run's data set."""
    family = config.dataset.partition("/")[0]
    return load_dataset(config.dataset, machine.roots.get(family), config.size, n_train=config.n_train)


def build(config: RunConfig, machine: Machine) -> Detector:
    """Build the run's untrained model on its device."""
    weights = machine.weights.get(config.weights, None if config.weights == "random" else config.weights)
    method: Any = {"memory": MemoryBank, "forward": ForwardStudent,
                   "reverse": partial(ReverseDistillation, bottleneck=config.bottleneck)}[config.method]
    return method(config.backbone, weights, sigma=config.sigma, normalize=config.normalize, seed=config.seed,
                  score=config.score).to(machine.device)


def execute(config: RunConfig, machine: Machine = HERE) -> dict:
    """Execute one run: train and evaluate its model. On one CPU, equal settings give equal results, bit by bit.

    Args:
        config: the run's settings.
        machine: weights, data and device.

    Returns:
        The content of the result file: `store.KEYS`, "scored_by", "bootstrap", "curve" and "losses". "scored_by" has
        image AUROC, pixel AUROC and AUPRO for each way to score the maps. "bootstrap" has these metrics on resampled
        test images, in units of 1e-4. "curve" has the metrics by epoch, "losses" the mean loss of each epoch.

    Raises:
        ValueError: a setting has an invalid value.
        DataError: the data set is missing or damaged.
        WeightsError: the teacher's weights cannot be downloaded, read or loaded.
        FloatingPointError: the loss or a weight became NaN or infinite.
        NotFiniteError: anomaly maps or scores are NaN or infinite.
        CheckpointError: the run's checkpoint is damaged or belongs to another run.
    """
    with ExitStack() as at_end:
        at_end.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(config.threads)
        began, device = time.perf_counter(), torch.device(machine.device)
        origin = provenance(device)
        start_counting_memory(device)
        data, model = load(config, machine), build(config, machine)
        assert data.test is not None, "every benchmark has a test set"
        losses, curve, earlier = [], {}, 0.0  # earlier: seconds before the run was resumed
        if isinstance(model, MemoryBank):
            model.fit(data.train)
        elif isinstance(model, Distillation):
            here = time.perf_counter()
            run, history = train(config, machine, model, data.train, data.test)
            curve = {str(epoch): metrics for epoch, metrics in history.items()}
            losses, earlier = run.epoch_losses, max(0.0, run.seconds - (time.perf_counter() - here))
        reports = evaluate_all(model, data.test)
        report = reports[MAIN]
        shown = {name: {metric: getattr(r, metric) for metric in METRICS} for name, r in reports.items()}
        resampled = {name: {metric: np.round(1e4 * values[1:]).astype(int).tolist() for metric, values in
                            resampled_metrics(r, RESAMPLES).items()} for name, r in reports.items()}
        return {"config": asdict(config), "metrics": report.metrics,
                "per_defect": report.per_defect().to_dict(orient="index"), "scored_by": shown, "bootstrap": resampled,
                "curve": curve, "losses": losses, "seconds": round(time.perf_counter() - began + earlier, 1),
                "peak_memory_mb": round(peak_memory_mib(device)), **origin}


def train(config: RunConfig, machine: Machine, model: Distillation, images: AnomalyDataset,
          test: AnomalyDataset) -> tuple[Run, dict[int, dict[str, float]]]:
    """Train the run's student. Return the run, and the metrics by epoch, measured every `curve_every` epochs.

    A killed run resumes from its checkpoint.
    """
    callbacks = [EvaluateEvery(test, config.curve_every)] if config.curve_every else []
    checkpoint = Path(machine.checkpoints) / f"{config.key}.ckpt" if machine.checkpoints else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The loss sums the scales")  # an ablation trains other scales on purpose
        run = fit(model, images, config.epochs, batch_size=config.batch_size, lr=config.lr, loss=config.loss,
                  seed=config.seed, precision=config.precision, scales=config.train_scales, schedule=config.schedule,
                  ema=config.ema, checkpoint=checkpoint, callbacks=callbacks, progress=False)
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    return run, callbacks[0].history if callbacks else {}


def evaluate_all(model: Detector, test: AnomalyDataset) -> dict[str, Report]:
    """Evaluate one trained model by every way to score its maps.

    The names are the sets of scales, "1" to "123", then "123 multiply" (maps multiplied) and "123 unsmoothed". The
    other image score is "123 sum" or "123 max". A memory bank has only "123".
    """
    if not isinstance(model, Distillation):
        return {MAIN: evaluate(model, test, progress=False)}
    began, sigma, score = time.perf_counter(), model.config.sigma, model.config.score
    parts = [(model.scale_maps(item.image).cpu(), item.mask, item.unknown)  # the networks run only once
             for item in DataLoader(test, 32, generator=torch.Generator())]
    maps, masks, unknown = (torch.cat(part) for part in zip(*parts, strict=True))
    check_finite(maps)
    seconds = time.perf_counter() - began

    def report(scales: tuple[int, ...] = SCALES, fusion: str = "add", sigma: float = sigma,
               score: str = score) -> Report:
        fused = torch.cat([gaussian_smooth(fuse(part, fusion, scales), sigma) for part in maps.split(32)])
        return Report(test, fused.numpy(), image_score(fused, score).numpy(), masks.numpy(), FPR_LIMIT, seconds,
                      unknown=unknown.numpy())

    other = "sum" if score == "max" else "max"
    return {name: report(scales) for name, scales in SCALE_SETS.items()} | {
        f"{MAIN} multiply": report(fusion="multiply"), f"{MAIN} unsmoothed": report(sigma=0),
        f"{MAIN} {other}": report(score=other)}
