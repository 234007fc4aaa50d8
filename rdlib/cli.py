"""Run the command line: parse the arguments, call the function that does the work, print its result.

    rdlib {check,train,score,export,data,reproduce,synthetic,doctor} --help

Each command is a function below. Its parameters are the command's arguments, and its docstring is the command's help.
It imports what it needs when it runs, so `rdlib --help` is quick.
"""
import errno
import os
import re
import shlex
import signal
import sys
import warnings
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from contextlib import suppress
from inspect import Parameter, getdoc, signature
from pathlib import Path
from typing import Any, get_args

from rdlib.utils.errors import CheckpointError, DataError, WeightsError, given_path

EXPECTED = (CheckpointError, WeightsError, ValueError, ImportError, OSError, FloatingPointError)


def check(*, page: Path | None = None, epochs: int | None = None, batch_size: int = 16, backbone: str = "resnet18",
          **images) -> None:
    """Read all images and say what looks wrong, before anything trains.

    Says which layout it has recognized, what it has left out, and what training would take. What it finds changes
    nothing, neither the files nor the exit status, which is 1 only if the images or masks cannot be taken as they are.

    Examples:
      rdlib check images --page check.html
      rdlib check --good photos/ok --defective photos/scratch photos/dent --size 128

    Args:
        page: .html file to write, with images beside the text
        epochs: epochs to train; by default, what rdlib train takes
        batch_size: images in a step
        backbone: the teacher's network: resnet18, resnet34, resnet50 or wide_resnet50_2 (paper)
        images: the arguments of `_data`
    """
    from rdlib.datasets.check import check, loaded
    from rdlib.deploy.page import write_check
    from rdlib.deploy.train import check_plan, expected
    from rdlib.utils.files import check_writable
    check_plan(None, epochs, batch_size, backbone)
    if page:
        check_writable(page)
    data = loaded(_data, **images)
    findings, words = check(data), expected(data, epochs, batch_size, backbone)
    print(f"{findings}\n{words}")
    if page:
        write_check(page, data, findings, words)
        print(f"Page: {page}")


def train(*, output: Path, epochs: int | None = None, batch_size: int = 16, teacher: str = "best",
          backbone: str = "resnet18", roi: str = "", quiet: bool = False, **images) -> None:
    """Train a model on good images, choose its threshold, and write a report page beside it.

    Some good images are not trained on, and choose the threshold: those of a folder validation/good, or else 20 %, at
    least 20 images, and never more than half. Before the training, it prints what rdlib check finds. The time that the
    training takes is estimated after its first steps.

    Examples:
      rdlib train images -o model.safetensors
      rdlib train --good photos/ok --defective photos/scratch photos/dent -o model.safetensors
      rdlib train images -o model.safetensors --size 128 --epochs 5 --roi 40,0,600,480
      rdlib train -o model.safetensors -- -a-folder-that-begins-with-a-dash

    Args:
        output: .safetensors file to write; an older file is replaced when training is done
        epochs: epochs to train; by default, what a CPU can do: about 300 steps, at least 10 epochs. The paper uses 200
        batch_size: images in a step
        teacher: best, auto, embedded, imagenet, or a file of weights; best is imagenet where these weights are on disk
            or can be downloaded, else embedded
        backbone: the teacher's network: resnet18, resnet34, resnet50 or wide_resnet50_2 (paper)
        roi: region of interest: X0,Y0,X1,Y1 in pixels of the images, or a mask image, white inside. Nothing outside
            has an effect. The model keeps it, so rdlib score needs no such option
        quiet: check nothing, and print only the result
        images: the arguments of `_data`
    """
    from tqdm import tqdm

    from rdlib.datasets.check import check
    from rdlib.datasets.roles import warn
    from rdlib.deploy.train import check_plan, train_model
    check_plan(output, epochs, batch_size, backbone, teacher, roi)
    data = _data(**images)
    say: Callable[[str], object] = (lambda text: None) if quiet else tqdm.write  # beside a bar
    warn(data) if quiet else say(repr(check(data)))
    model = train_model(data, output, epochs=epochs, batch_size=batch_size, teacher=teacher, backbone=backbone,
                        roi=roi, seed=images["seed"], progress=not quiet, say=say)
    assert model.threshold is not None
    print(f"{model.threshold.promise()}\nModel:  {output}\nReport: {output.with_suffix('.html')}\n"
          f"Use it: rdlib score {shlex.quote(str(output))} FOLDER OUT")


def _data(folder: str = "", *, good: Sequence[str] = (), defective: Sequence[str] = (), masks: Sequence[str] = (),
          test_good: Sequence[str] = (), validation: Sequence[str] = (), size: str = "fit",
          white: float | None = None, mask_threshold: float | None = None, keep_defects: bool = False, seed: int = 0):
    """Read images by role, in a folder, or of a data set by its name. Its warnings are left to the check that follows.

    Args:
        folder: folder of images in a known layout, or the name of a data set, such as mvtec/bottle
        good: folders of good images to train on, instead of FOLDER
        defective: folders of defective test images, one for each defect type
        masks: folders of their masks
        test_good: folders of good test images; by default, a share of the good images
        validation: folders of good images for the threshold; by default, a share of the training images
        size: size in pixels that images are resized to, N or HxW, multiples of 32; fit keeps the images' shape, at
            about the cost of 256
        white: value of white in files of more than 8 bits; by default, found from the training images
        mask_threshold: values of masks above it are defect; by default, decided from all masks
        keep_defects: keep at least one pixel of every outlined defect when masks shrink
        seed: seed of the choice of images for testing and for the threshold, of the weights, and of the images' order
    """
    from rdlib.datasets import folder_dataset, load_dataset
    given = {"good": good, "defective": defective, "masks": masks, "test_good": test_good, "validation": validation}
    roles: dict[str, Any] = {role: [given_path(place).absolute() for place in places]
                             for role, places in given.items() if places}
    if not (sides := re.fullmatch(r"(\d+)(?:x(\d+))?|fit", size)):
        raise ArgumentTypeError(f"--size is N, HxW or fit, such as 256 or 160x416; got {size}.")
    if not folder and "good" not in roles or folder and roles:
        raise ArgumentTypeError("Give FOLDER, or --good DIR with or without the other roles. See --help.")
    how: dict[str, Any] = {"size": (int(sides[1]), int(sides[2] or sides[1])) if sides[1] else size, "seed": seed,
                           "white": white, "mask_threshold": mask_threshold, "keep_defects": keep_defects}
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        if roles:
            return folder_dataset(**roles, **how)
        try:
            return load_dataset(f"folder:{Path(folder).resolve()}" if Path(folder).exists() else folder, **how)
        except ValueError as error:
            if isinstance(error, DataError) or Path(folder).exists() or not str(error).startswith("There is no "):
                raise
            raise ValueError(f"There is no folder {folder}. {error}") from error


def score(model: Path, folder: Path, out: Path, *, size: int | None = None, batch_size: int = 16, num_workers: int = 0,
          overlays: str = "anomalous", resume: bool = False, quiet: bool = False) -> int:
    """Score every image in a folder: a table, and images that show where.

    Writes OUT/scores.csv, a line for each file, and OUT/overlays/FILE.png. Files that cannot be read are listed with
    their error. The exit status is 1 if a score is NaN or infinite. A warning says if far more or far fewer images
    alarm than the model's threshold promises.

    Examples:
      rdlib score model.safetensors images results
      rdlib score model.onnx images results --overlays all
      rdlib score model.safetensors images results --resume

    Args:
        model: .safetensors or .onnx file
        folder: folder of images, searched with its subfolders
        out: folder to write to
        size: side in pixels; only for a model that does not know its size
        batch_size: images at a time
        num_workers: number of processes that read images
        overlays: overlays to draw: anomalous, all or none
        resume: go on where an earlier run into OUT stopped
        quiet: show no progress bar
    """
    from rdlib.deploy.scoring import NOT_FINITE, in_words, load_scorer, score_folder
    scorer = load_scorer(model)
    table = score_folder(scorer, folder, out, size=size, overlays=overlays, batch_size=batch_size,
                         num_workers=num_workers, resume=resume, progress=not quiet)
    print(in_words(table, scorer.threshold, out))
    return int((table["error"] == NOT_FINITE).any())


def export(model: Path, out: Path, *, size: int | None = None) -> None:
    """Export a model to ONNX, which runs without PyTorch.

    The file is compared with PyTorch before it appears. A text file beside it says how to use it.

    Examples:
      rdlib export model.safetensors model.onnx

    Args:
        model: .safetensors file
        out: .onnx file to write
        size: side in pixels; only for a model that does not know its size
    """
    from rdlib import export_onnx, load
    print(f"{out} agrees with PyTorch to {export_onnx(load(model), out, size):.1g}. Its text file says how to use it.")


def data(action: str, archive: Path, *, root: Path | None = None) -> None:
    """Unpack the archive of a data set to where `load_dataset` and `rdlib train` find it by name.

    Archives of MVTec AD, VisA and BTAD are known, as they are downloaded. Prints the names of the data sets.

    Examples:
      rdlib data unpack mvtec_anomaly_detection.tar.xz
      rdlib train mvtec/bottle -o bottle.safetensors

    Args:
        action: unpack
        archive: archive as downloaded
        root: folder of all data sets; by default, the folder that rdlib doctor names
    """
    from rdlib.datasets.downloads import unpack_dataset
    if action != "unpack":
        raise ArgumentTypeError(f"The only action is unpack, got {action}.")
    print(*unpack_dataset(archive, root), sep="\n")


def reproduce(table: str = "", *, on: str = "synthetic", category: Sequence[str] = (), seeds: Sequence[int] = (),
              epochs: int | None = None, batch_size: int | None = None, size: int | None = None,
              n_train: int | None = None, threads: int | None = None, backbone: str | None = None,
              teacher: str | None = None, precision: str | None = None, weights: Sequence[str] = (),
              root: Sequence[str] = (), device: str = "", jobs: int = 1,
              results: Path = Path("data/results/runs"), tables: Path = Path("data/results/tables"),
              report: bool = False, list: bool = False, quiet: bool = False) -> int:
    """Run what is missing of a table of the paper, and write the table; or repeat the run of a result file.

    Runs with a result file are not run again, so it can be stopped at any time. The exit status is 1 if a run failed;
    KEY.error.txt beside the results says why. It is also 1 if a repeated run does not agree with its record.

    Examples:
      rdlib reproduce
      rdlib reproduce ocbe --category weave --seeds 0 1 --jobs 2
      rdlib reproduce ocbe --on mvtec --root mvtec=/data/mvtec --weights imagenet=weights.pth
      rdlib reproduce data/results/runs/digits_0-seed0-1346b7905522.json

    Args:
        table: name of the table; without it, the names are listed. Or a result file: its run is repeated and compared
        on: benchmark: synthetic (offline), mvtec, visa or another one
        category: only these categories
        seeds: seeds instead of the usual
        epochs: epochs instead of the usual
        batch_size: images in a step instead of the usual
        size: side of the images instead of the usual
        n_train: training images instead of the usual
        threads: threads of a run instead of the usual
        backbone: backbone instead of the usual
        teacher: the teacher's weights instead of the usual, for example embedded or imagenet
        precision: float32 or bf16
        weights: file of a teacher, NAME=FILE, for example imagenet=resnet18.safetensors
        root: folder of a data set, FAMILY=FOLDER, for example mvtec=/data/mvtec
        device: device, by default the fastest one
        jobs: number of runs at a time, a process each
        results: folder of the result files
        tables: folder of the reports
        report: run nothing, write the table from the stored results
        list: only list the runs and whether they are stored
        quiet: show no progress bar
    """
    args = Namespace(**locals())
    from rdlib.reproduction.command import reproduce
    return reproduce(args)


def synthetic(out: Path, *, category: Sequence[str] = (), size: int = 256, seed: int = 0, jobs: int | None = None,
              quiet: bool = False) -> None:
    """Write the procedural benchmark in MVTec AD's layout.

    Each category has 200 good images to train, and 40 good and 100 defective ones with masks to test. A category that
    exists is left as it is.

    Examples:
      rdlib synthetic benchmark
      rdlib synthetic benchmark --category weave gear --size 128

    Args:
        out: folder to write to
        category: names of categories; by default all of them. A wrong name lists them
        size: side of the images in pixels, 64 or more
        seed: 0 is the benchmark; other seeds give other images
        jobs: number of processes; by default one a core
        quiet: show no progress bar
    """
    from rdlib.synthetic import CATEGORIES
    from rdlib.synthetic.export import export
    for name in category or CATEGORIES:
        if (folder := out / name).exists():
            print(f"{folder} exists already and is left as it is", file=sys.stderr)
        else:
            print(export(name, out, size=size, seed=seed, jobs=jobs, progress=not quiet))


def doctor() -> None:
    """Print what this machine has, and what to do about what is missing.

    Examples:
      rdlib doctor
    """
    from rdlib.deploy.doctor import report_lines
    print("\n".join(report_lines()))


COMMANDS: list[Callable] = [check, train, score, export, data, reproduce, synthetic, doctor]


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Return its exit status.

    It is 0, 1 if the command failed, 2 for wrong arguments, 130 for Ctrl-C or SIGTERM, and 141 if the reader of its
    output has ended, such as `head`.
    """
    if not os.environ.get("HOME", "~").strip():
        del os.environ["HOME"]  # else "" is the home folder
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # None if closed, and progress bars would fail
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a path may be no UTF-8, and is printed unchanged; lines come at once
            stream.reconfigure(errors="surrogateescape" if stream.encoding.lower() == "utf-8" else "backslashreplace",
                               line_buffering=True)
    parser = ArgumentParser("rdlib", description="Anomaly detection by reverse distillation.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        _add(commands, command)
    warnings.formatwarning = lambda message, *place: f"{message}\n"
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a KeyboardInterrupt, which removes unfinished files
    try:
        options = vars(parser.parse_args(arguments))
        fail = options.pop("fail")
        return options.pop("run")(**options) or 0
    except BrokenPipeError:
        return 141  # as in a shell
    except EXPECTED as error:
        full = "The output could not be written: the disk is full. Free some space, or write it to another disk."
        print(full if error.args[:1] in ((errno.ENOSPC,), (errno.EDQUOT,)) else error, file=sys.stderr)
        return 1
    except ArgumentTypeError as error:
        return fail(str(error))
    except KeyboardInterrupt as stop:
        print(f"Stopped. {str(stop) or 'A file that was not finished has not been written.'}", file=sys.stderr)
        return 130
    finally:
        try:
            print(end="", flush=True)
        except OSError:  # else Python would say so when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _add(commands, command: Callable) -> None:
    """Add the parser of a command: an argument for each parameter, an option if it is keyword-only.

    The parameter `images` stands for the parameters of `_data`.
    """
    text, _, described = (getdoc(command) or "").partition("\nArgs:\n")
    own = dict(signature(command).parameters)
    parameters = {**signature(_data).parameters, **own} if own.pop("images", None) else own
    words = dict(re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", f"{getdoc(_data)}\n{described}", re.M))
    parser = commands.add_parser(command.__name__, help=text.partition("\n")[0], description=text,
                                 formatter_class=RawDescriptionHelpFormatter)
    parser.set_defaults(run=command, fail=parser.error)
    for name, parameter in parameters.items():
        kind, default = (get_args(parameter.annotation) or [parameter.annotation])[0], parameter.default
        needed, option = default is Parameter.empty, parameter.kind is Parameter.KEYWORD_ONLY
        usual = "" if needed or default in ("", (), None, False) else f"; default {default}"
        settings: dict = {"action": "store_true"} if kind is bool else {
            "metavar": name.upper(), "nargs": "+" if default == () else None if needed or option else "?",
            "type": given_path if kind is Path else kind}
        flags = ["-o"] * (name == "output") + [f"--{name.replace('_', '-')}"] if option else [name]
        parser.add_argument(*flags, **settings, **({"required": needed} if option else {}),
                            default=None if needed else default, help=re.sub(r"\s+", " ", words[name]) + usual)
