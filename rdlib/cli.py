"""Run the command line: parse the arguments, call the function that does the work, print its result.

    python -m rdlib {score,reproduce,synthetic,doctor} --help
"""
import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from rdlib.deploy.doctor import report_lines
from rdlib.deploy.scoring import NOT_FINITE, OVERLAYS, load_scorer, score_folder, scoring_messages
from rdlib.reproduction.command import parse_pair, reproduce
from rdlib.reproduction.tables import BENCHMARKS, TABLES
from rdlib.synthetic import CATEGORIES
from rdlib.synthetic.export import export
from rdlib.utils.errors import CheckpointError, DataError, WeightsError
from rdlib.utils.hardware import best_device

EXPECTED = (CheckpointError, DataError, WeightsError, ValueError, ImportError, OSError)  # errors of the input


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser("python -m rdlib", description="Anomaly detection by reverse distillation.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_score, _add_reproduce, _add_synthetic, _add_doctor):
        add(commands)
    args = parser.parse_args(arguments)
    try:
        return args.run(args) or 0
    except EXPECTED as error:
        print(error, file=sys.stderr)
        return 1


def _command(commands: argparse._SubParsersAction, name: str, summary: str,
             run: Callable[[argparse.Namespace], int | None], details: str = "") -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary, description=f"{summary}\n\n{details}",
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(run=run)
    return parser


def _add_score(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "score", "Score every image in a folder: a table, and images that show where.", _score,
                      "Writes OUT/scores.csv, a line for each file, and OUT/overlays/FILE.png. Files that cannot be\n"
                      "read are listed with their error. The exit status is 1 if a score is NaN or infinite.")
    parser.add_argument("model", metavar="MODEL", type=Path, help=".safetensors or .onnx file")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="folder of images, searched with its subfolders")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write to")
    parser.add_argument("--size", type=int, help="side in pixels; only for a model without threshold")
    parser.add_argument("--batch-size", type=int, default=16, help="images at a time; default 16")
    parser.add_argument("--num-workers", type=int, default=0, help="processes that read images; default none")
    parser.add_argument("--overlays", choices=OVERLAYS, default=OVERLAYS[0], help="overlays to draw; default anomalous")
    parser.add_argument("--quiet", action="store_true", help="show no progress bar")


def _score(args: argparse.Namespace) -> int:
    model = load_scorer(args.model)
    table = score_folder(model, args.folder, args.out, size=args.size, overlays=args.overlays,
                         batch_size=args.batch_size, num_workers=args.num_workers, progress=not args.quiet)
    message, warnings = scoring_messages(table, model.threshold, args.out)
    print(message)
    for warning in warnings:
        print(warning, file=sys.stderr)
    return int((table["error"] == NOT_FINITE).any())


def _add_reproduce(commands: argparse._SubParsersAction) -> None:
    titles = {name: table.title for name, table in TABLES.items()}
    parser = _command(commands, "reproduce", "Run what is missing of a table of the paper, and write the table.",
                      reproduce, "\n".join(f"  {name:<12}{title}" for name, title in titles.items()) + "\n\n"
                      "Runs with a result file are not run again, so it can be stopped at any time. The exit status\n"
                      "is 1 if a run failed; KEY.error.txt beside the results says why.")
    parser.add_argument("table", choices=titles, metavar="TABLE", help="one of the above")
    parser.add_argument("--on", choices=BENCHMARKS, default="synthetic", help="the data (default: synthetic, offline)")
    parser.add_argument("--category", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N")
    for field in ("epochs", "batch_size", "size", "n_train", "threads"):
        parser.add_argument(f"--{field.replace('_', '-')}", type=int, metavar="N", help="instead of the usual")
    parser.add_argument("--backbone", help="instead of the usual")
    parser.add_argument("--teacher", dest="weights", help="the teacher's weights, for example embedded or imagenet")
    parser.add_argument("--precision", choices=["float32", "bf16"], help="instead of the usual")
    parser.add_argument("--weights", dest="files", type=parse_pair, nargs="+", default=[], metavar="NAME=FILE",
                        help="the file of a teacher, for example imagenet=resnet18.safetensors")
    parser.add_argument("--root", type=parse_pair, nargs="+", default=[], metavar="FAMILY=FOLDER",
                        help="where a data set lies, for example mvtec=/data/mvtec")
    parser.add_argument("--device", default=str(best_device()))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, a process each")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="a dask.distributed scheduler, instead of --jobs")
    parser.add_argument("--results", type=Path, default=Path("data/results/runs"), help="folder of the result files")
    parser.add_argument("--tables", type=Path, default=Path("data/results/tables"), help="folder of the reports")
    parser.add_argument("--report", action="store_true", help="run nothing, write the table from the stored results")
    parser.add_argument("--list", action="store_true", help="only list the runs and whether they are stored")


def _add_synthetic(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "synthetic", "Write the procedural benchmark in MVTec AD's layout.", _synthetic,
                      "Each category has 200 good images to train, and 40 good and 100 defective ones with masks to\n"
                      "test. A category that exists is left as it is.")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write to")
    parser.add_argument("--category", nargs="+", choices=CATEGORIES, default=CATEGORIES, metavar="NAME",
                        help=f"of {', '.join(CATEGORIES)}; default: all")
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels, 64 or more")
    parser.add_argument("--seed", type=int, default=0, help="0 is the benchmark; others give other images")
    parser.add_argument("--jobs", type=int, help="processes; default: one a core")


def _synthetic(args: argparse.Namespace) -> None:
    for category in args.category:
        if (folder := args.out / category).exists():
            print(f"{folder} exists already and is left as it is", file=sys.stderr)
        else:
            print(export(category, args.out, size=args.size, seed=args.seed, jobs=args.jobs))


def _add_doctor(commands: argparse._SubParsersAction) -> None:
    _command(commands, "doctor", "Print what this machine has, and what to do about what is missing.",
             lambda args: print("\n".join(report_lines())))
