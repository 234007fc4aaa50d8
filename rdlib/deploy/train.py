"""Train a model on good images, choose its threshold, and write model and report: the work of `rdlib train`.

The images that choose the threshold are not trained on. Copies promise nothing, so each image counts once.
"""
import math
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from rdlib.datasets.holdout import hold_out
from rdlib.datasets.samples import AnomalyData, AnomalyDataset
from rdlib.deploy.page import write_page
from rdlib.deploy.roi import read_roi
from rdlib.encoder import get_backbone
from rdlib.evaluation import Report, evaluate
from rdlib.model import ReverseDistillation
from rdlib.threshold import Threshold, distinct, images_needed, rate_bound, threshold_from_good
from rdlib.training import Run, fit
from rdlib.utils.errors import DataError, WeightsError
from rdlib.utils.hardware import available_memory, best_device, peak_memory_mib
from rdlib.weights import download_state_dict, resolve_weights

RATE, CONFIDENCE = 0.05, 0.95  # of false alarms, and of the promise
EPOCHS, STEPS = 10, 300  # by default, at least 10 epochs, and as many as make so many steps
PROBE = 4  # steps before time and memory are estimated
TEACHERS = {"imagenet": "ImageNet weights. Check the terms of ImageNet's images before commercial use.",
            "embedded": "the kit's own, trained on drawn images only. On photographs they usually miss more defects."}


def train_model(data: AnomalyData, path: str | Path, *, epochs: int | None = None, batch_size: int = 16,
                teacher: str = "best", backbone: str = "resnet18", roi: str | None = None, seed: int = 0,
                progress: bool = True, say: Callable[[str], object] = print) -> ReverseDistillation:
    """Train a model, choose its threshold on good images that it was not trained on, and save it with a report page.

    Args:
        data: the images; `data.validation` chooses the threshold, or else a share of `data.train`.
        path: .safetensors file to write at the end. The report page lies beside it, with the suffix .html.
        epochs: number of epochs, 1 or more; default: about `STEPS` steps, at least `EPOCHS` epochs.
        batch_size: images per step.
        teacher: "best" (ImageNet weights if they are on disk or can be downloaded, else "embedded"), or the weights of
            `ReverseDistillation`.
        backbone: the teacher's architecture.
        roi: region of interest, see `read_roi`; None for the whole image.
        seed: seed of the split, the initial weights and the order of the images.
        progress: show progress bars.
        say: function that receives what to know before and during training, a text at a time.

    Returns:
        The model with its threshold.

    Raises:
        DataError: too few images, or an image or mask cannot be read.
        ValueError: an argument is invalid, or `path` cannot be written.
        WeightsError: the teacher's weights cannot be downloaded or read.
        FloatingPointError: training has diverged.
    """
    path = Path(path)
    page = check_target(path)
    train, held, split = split_good(data, seed)
    _digests(data.test)  # a damaged file ends the command here, not after the training
    mask = read_roi(roi, data.train) if roi else None
    weights, cost = choose_teacher(teacher, backbone)
    say(f"{split}\nTeacher: {cost}")
    sigma = math.sqrt(math.prod(train.size)) / 64
    model = ReverseDistillation(backbone, weights, sigma=sigma, seed=seed).to(best_device())
    model.set_roi(mask)
    epochs = usual_epochs(len(train), batch_size) if epochs is None else epochs
    estimate = Estimate(len(held) + len(data.test or ()), math.prod(train.size), say)
    run = fit(model, train, epochs, batch_size=batch_size, seed=seed, callbacks=[estimate], progress=progress)
    good = evaluate(model, held, progress=progress)
    model.threshold = choose_threshold(good)
    page.unlink(missing_ok=True)  # it describes the model that is replaced now
    model.save(path)
    write_page(page, data, split, run, evaluate(model, data.test, progress=progress) if data.test else good)
    return model


def usual_epochs(images: int, batch_size: int) -> int:
    """Return how many epochs make about `STEPS` steps, and at least `EPOCHS`."""
    return max(EPOCHS, math.ceil(STEPS / math.ceil(images / batch_size)))


def check_target(path: Path) -> Path:
    """Check that a model file and its report page can be written. Create their folder, and return the page's path.

    Raises ValueError if they cannot, or if the name does not end in .safetensors.
    """
    page = path.with_suffix(".html")
    try:
        if path.suffix != ".safetensors" or path.is_dir() or page.is_dir():
            raise ValueError("it must end in .safetensors, and neither it nor its .html page may be a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be written: {error}. Choose another name or another folder.") from error
    return page


def split_good(data: AnomalyData, seed: int) -> tuple[AnomalyDataset, AnomalyDataset, str]:
    """Split the good images: those to train on, those that choose the threshold, and the split in words.

    Copies of a training image or of each other are left out of the second part. Raises DataError if nothing remains.
    """
    train, held, how, n = data.train, data.validation, "the validation images", len(data.train)
    if held is None and n > 1:
        train, held, how = hold_out(train, min(max(20, math.ceil(0.2 * n)), n // 2), seed)
    first = {digest: i for i, digest in reversed([*enumerate(_digests(held))])}  # of equal images
    keep = sorted(first[digest] for digest in first.keys() - set(_digests(train)))
    if held is None or not keep:
        found = n + data.test.labels.count(0) if data.test else n
        raise DataError(f"{data.name} has {found} good image{'s' * (found != 1)}, {n} of them to train on, and none "
                        "for the threshold that differs from those. Add good images.")
    more = f" {len(held) - len(keep)} copies are left out." * (len(keep) < len(held))
    if len(keep) < (least := images_needed(RATE, CONFIDENCE)):
        more += (f" To promise {100 * RATE:.3g} %, {least} must choose it: of {5 * least - 4} "
                 "good images besides those for testing, or by --validation.")
    return train, held.subset(keep), f"{len(train)} good images train, {len(keep)} choose the threshold: {how}.{more}"


def _digests(dataset: AnomalyDataset | None) -> list[bytes]:
    """Read every image, and return values that only equal images share."""
    items = map(dataset.__getitem__, range(len(dataset))) if dataset else ()
    return [sha256(item.image.numpy().tobytes()).digest() for item in items]


def choose_teacher(teacher: str, backbone: str) -> tuple[str, str]:
    """Replace "best" by the weights to use, see `train_model`. Return the weights, and in words what they cost.

    Raises WeightsError if "best" finds no weights for this backbone.
    """
    reason, url = "", get_backbone(backbone).imagenet.url
    if teacher == "best":
        try:
            download_state_dict(url)
            teacher = "imagenet"
        except WeightsError as error:
            if backbone != "resnet18":
                raise
            teacher, reason = "embedded", f"\nNo ImageNet weights: {error}"
    resolved = str(resolve_weights(backbone, teacher))
    return teacher, TEACHERS.get(resolved, f"weights from {resolved}.") + reason


def choose_threshold(held: Report) -> Threshold:
    """Choose a threshold from good images: at most 5 % false alarms, or the smallest rate that so few images allow."""
    n = distinct(held.scores)
    rate = max(RATE, math.ceil(1000 * rate_bound(0, n, CONFIDENCE)) / 1000)  # the latter below 59 images
    return threshold_from_good(held.scores, held.maps, rate, confidence=CONFIDENCE)


class Estimate:
    """A callback that says after the first steps what the rest takes, in minutes and memory.

    Args:
        images: number of images to score after training; scoring one takes less than training on it.
        pixels: number of pixels of an image.
        say: function that receives the text.
    """

    def __init__(self, images: int, pixels: int, say: Callable[[str], object]):
        self.images, self.pixels, self.say, self.first = images, pixels, say, 0.0

    def __call__(self, run: Run) -> None:
        """Say it once. The first step does not count, since it is slower than the others."""
        steps = run.epochs * run.steps_per_epoch
        self.first = run.seconds if run.step == 1 else self.first
        if run.step == min(PROBE, steps):
            seconds = (run.seconds - self.first) / (run.step - 1) if run.step > 1 else self.first
            rest = seconds * (steps - run.step + self.images / run.settings["batch_size"])
            time = f"About {math.ceil(rest / 60)} min" if rest > 60 else "Less than a minute"
            # a pixel takes 20 bytes in maps, masks and metrics
            memory = peak_memory_mib(run.model.device) / 2**10 + 20 * self.images * self.pixels / 2**30
            self.say(f"{time} for {run.epochs} epochs and {self.images} images to score. Memory: about "
                     f"{memory:.1f} GiB in all; beyond what is in use, {available_memory() / 2**30:.1f} GiB free.")
