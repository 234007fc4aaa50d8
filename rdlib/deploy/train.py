"""Train a model on good images, choose its threshold, and write model and report: the work of `rdlib train`.

The images that choose the threshold are not trained on. Copies promise nothing, so each image counts once.
"""
import math
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from rdlib.datasets.holdout import hold_out
from rdlib.datasets.samples import AnomalyData, AnomalyDataset
from rdlib.deploy.page import write_page
from rdlib.encoder import get_backbone
from rdlib.evaluation import Report, evaluate
from rdlib.images import header
from rdlib.masks import read_mask
from rdlib.model import ReverseDistillation
from rdlib.threshold import Threshold, distinct, images_needed, rate_bound, threshold_from_good
from rdlib.training import Run, fit
from rdlib.utils.errors import DataError, WeightsError, checked
from rdlib.utils.files import check_writable, written_atomically
from rdlib.utils.hardware import available_memory, best_device, peak_memory_mib
from rdlib.weights import download_state_dict, read_teacher, resolve_weights

RATE, CONFIDENCE = 0.05, 0.95  # of false alarms, and of the promise
EPOCHS, STEPS = 10, 300  # by default, at least 10 epochs, and as many as make that number of steps
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
        ValueError: an argument is invalid.
        OSError: `path` cannot be written.
        WeightsError: the teacher's weights cannot be downloaded or read.
        FloatingPointError: training has diverged.
        KeyboardInterrupt: training was interrupted; no file was written.
    """
    path = Path(path)
    check_plan(path, epochs, batch_size, backbone, teacher, roi)
    train, held, split = split_good(data, seed)
    _digests(data.test)  # a damaged file ends the command here, not after the training
    weights, cost = choose_teacher(teacher, backbone)
    say(f"{split}\nTeacher: {cost}")
    pixels, page = math.prod(train.size), path.with_suffix(".html")
    model = ReverseDistillation(backbone, weights, sigma=math.sqrt(pixels) / 64, seed=seed).to(best_device())
    model.set_roi(read_roi(roi, data.train) if roi else None)
    epochs = usual_epochs(len(train), batch_size) if epochs is None else epochs
    try:
        run = fit(model, train, epochs, batch_size=batch_size, seed=seed, progress=progress,
                  callbacks=[estimate(len(held) + len(data.test or ()), pixels, say)])
    except KeyboardInterrupt as stop:
        stop.args = (f"{path} was not written, since training was interrupted. Start it again.",)
        raise
    good = evaluate(model, held, progress=progress)
    model.threshold = choose_threshold(good)
    report = evaluate(model, data.test, progress=progress) if data.test else good
    with written_atomically(page) as temporary:  # both files are replaced, or neither
        write_page(temporary, data, split, run, report)
        model.save(path)
    return model


@checked
def check_plan(path: Path | None, epochs: int | None, batch_size: int, backbone: str, teacher: str = "best",
               roi: str | None = None) -> None:
    """Find mistakes in the arguments of `train_model` before images are read or weights downloaded.

    Without `path`, no file is to be written. Raises what `train_model` raises.
    """
    get_backbone(backbone)
    if teacher not in ("best", "auto", "imagenet", "random", "random_calibrated"):
        read_teacher(backbone, teacher, "")
    if roi:
        is_box(roi)
    if path:
        if path.suffix != ".safetensors" or path.is_dir() or path.with_suffix(".html").is_dir():
            raise ValueError(f"{path} cannot be written: it must end in .safetensors, and neither it nor its .html "
                             "page may be a folder. Choose another name or another folder.")
        check_writable(path)


def usual_epochs(images: int, batch_size: int) -> int:
    """Return how many epochs make about `STEPS` steps, and at least `EPOCHS`."""
    return max(EPOCHS, math.ceil(STEPS / math.ceil(images / batch_size)))


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
        more += (f" To promise at most {100 * RATE:.3g} % false alarms, {least} images must choose the threshold. Give "
                 f"{5 * least - 4} good images besides those for testing, or {least} for validation.")
    return train, held.subset(keep), f"{len(train)} good images train, {len(keep)} choose the threshold: {how}.{more}"


def _digests(dataset: AnomalyDataset | None) -> list[bytes]:
    """Read every image, and return values that only equal images share."""
    return [sha256(dataset[i].image.numpy().tobytes()).digest() for i in range(len(dataset))] if dataset else []


def is_box(roi: str) -> bool:
    """Return whether a region is a box, X0,Y0,X1,Y1, and not the path of a mask. Raises ValueError if it is neither."""
    box = re.fullmatch(r"-?\d+(,-?\d+){3}", roi) is not None
    if not (box or Path(roi).is_file()):
        raise ValueError(f"--roi {roi} is neither X0,Y0,X1,Y1 in whole pixels nor the file of a mask. Check it.")
    return box


def read_roi(text: str, dataset: AnomalyDataset) -> Tensor:
    """Read a region of interest in the pixels of the image files, and resize it to the size of the data set.

    Args:
        text: "X0,Y0,X1,Y1", a box that ends before X1 and Y1; or the path of a mask image, white inside.
        dataset: images that the region belongs to, all of one size as files.

    Returns:
        (H, W) bool, True inside.

    Raises:
        DataError: the images differ in size, or the mask cannot be read or has another size.
        ValueError: the box does not lie in the images, no pixel is inside, or the text is neither a box nor a file.
    """
    sizes = {header(sample.path)[:2] for sample in dataset.samples if hasattr(sample, "path")} or {dataset.size}
    if len(sizes) > 1:
        raise DataError(f"A region needs images of one size; these have {len(sizes)}. Leave --roi out, or cut them.")
    (height, width), = sizes
    if is_box(text):
        x0, y0, x1, y1 = map(int, text.split(","))
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise ValueError(f"The box {text} is not in {width} x {height} pixels; all is --roi 0,0,{width},{height}.")
        y, x = ((torch.arange(n) + 0.5) * side / n for n, side in zip(dataset.size, (height, width), strict=True))
        roi = ((y0 <= y) & (y < y1))[:, None] & ((x0 <= x) & (x < x1))
    else:
        roi, size = read_mask(Path(text), dataset.size)
        if size != (height, width):
            raise DataError(f"The mask {text} has {size[1]} x {size[0]} pixels, the images {width} x {height}.")
    if not roi.any():
        raise ValueError(f"--roi {text} holds no pixel at the model's size. Give a larger region, or a larger --size.")
    return roi


def choose_teacher(teacher: str, backbone: str) -> tuple[str, str]:
    """Replace "best" by the weights to use, see `train_model`. Return the weights, and in words what they cost.

    Raises WeightsError if "best" finds no weights for this backbone.
    """
    if teacher == "best":
        try:
            download_state_dict(get_backbone(backbone).imagenet.url)
            return "imagenet", TEACHERS["imagenet"]
        except WeightsError as error:
            if backbone != "resnet18":
                raise
            return "embedded", f"{TEACHERS['embedded']}\nNo ImageNet weights: {error}"
    resolved = str(resolve_weights(backbone, teacher))
    return teacher, TEACHERS.get(resolved, f"weights from {resolved}.")


def choose_threshold(held: Report) -> Threshold:
    """Choose a threshold from good images: at most 5 % false alarms, or the smallest rate that so few images allow."""
    n = distinct(held.scores)
    rate = max(RATE, math.ceil(1000 * rate_bound(0, n, CONFIDENCE)) / 1000)  # the latter below 59 images
    return threshold_from_good(held.scores, held.maps, rate, confidence=CONFIDENCE)


def estimate(images: int, pixels: int, say: Callable[[str], object]) -> Callable[[Run], None]:
    """Create a callback that says after the first steps what the rest takes, in minutes and memory.

    Args:
        images: number of images to score after training; scoring one takes less than training on it.
        pixels: number of pixels of an image.
        say: function that receives the text, once.

    Returns:
        The callback.
    """
    first = 0.0

    def after_step(run: Run) -> None:
        nonlocal first  # the first step does not count, since it is slower than the others
        steps = run.epochs * run.steps_per_epoch
        first = run.seconds if run.step == 1 else first
        if run.step == min(PROBE, steps):
            seconds = (run.seconds - first) / (run.step - 1) if run.step > 1 else first
            rest = seconds * (steps - run.step + images / run.settings["batch_size"])
            time = f"About {math.ceil(rest / 60)} min" if rest > 60 else "Less than a minute"
            # a pixel takes 20 bytes in maps, masks and metrics
            memory = peak_memory_mib(run.model.device) / 2**10 + 20 * images * pixels / 2**30
            say(f"{time} for {run.epochs} epoch{'s' * (run.epochs > 1)} and {images} images to score. Memory: about "
                f"{memory:.1f} GiB in all; beyond what is in use, {available_memory() / 2**30:.1f} GiB free.")
    return after_step


def expected(data: AnomalyData, epochs: int | None = None, batch_size: int = 16, backbone: str = "resnet18") -> str:
    """Measure a few training steps, on noise of the images' size, and estimate the time and memory of the training.

    Args:
        data: the images; they are counted only.
        epochs: number of epochs; default: that of `rdlib train`.
        batch_size: images per step.
        backbone: the teacher's architecture; its weights do not matter.

    Returns:
        The estimate in words.
    """
    said: list[str] = []
    n, size = len(data.train), data.train.size
    scored = sum(len(part) for part in (data.train, data.validation, data.test) if part)  # and features are as much
    images = Subset(TensorDataset(torch.rand(1, 3, *size)), [0] * n)
    fit(ReverseDistillation(backbone, "random").to(best_device()), images, epochs or usual_epochs(n, batch_size),
        batch_size=batch_size, cache=False, progress=False,
        callbacks=[estimate(scored, size[0] * size[1], said.append), lambda run: setattr(run, "stop", bool(said))])
    return f"{said[0]} Estimated from a few steps on this machine, for images of {size[0]} x {size[1]} pixels."
