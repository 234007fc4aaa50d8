"""Run the command `reproduce`: execute the missing runs of a table and write the table."""
import sys
from argparse import ArgumentTypeError, Namespace
from dataclasses import replace
from pathlib import Path

from rdlib.datasets.load import data_root
from rdlib.reproduction.again import repeat
from rdlib.reproduction.report import write_report
from rdlib.reproduction.results import Results, load_results
from rdlib.reproduction.runs import Machine, run_all
from rdlib.reproduction.store import ResultStore, RunConfig
from rdlib.reproduction.tables import TABLES
from rdlib.utils.errors import check_choice
from rdlib.utils.files import check_writable
from rdlib.utils.hardware import best_device


def parse_pair(text: str) -> tuple[str, str]:
    """Split NAME=PATH, a value of --weights or --root, and make the path absolute."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ArgumentTypeError(f"expected NAME=PATH, got '{text}'")
    if not (path := Path(value).expanduser().resolve()).exists():  # resolved: a worker may run in another folder
        raise ArgumentTypeError(f"{text}: {path} does not exist")
    return name, str(path)


def reproduce(args: Namespace) -> int:
    """Execute the missing runs and write the table, or repeat one run. Return the exit status.

    `args` are the options of the command.
    """
    if not args.table:
        print("The tables are:", *(f"  {name:12}{table.title}" for name, table in TABLES.items()), sep="\n")
        return 0
    args.files, args.root = (dict(map(parse_pair, pairs)) for pairs in (args.weights, args.root))
    machine = Machine(args.device or str(best_device()), args.files, args.root)
    if args.table.endswith(".json"):
        file = path if (path := Path(args.table)).exists() else args.results / args.table
        frame = repeat(file, machine, not args.quiet)
        print(frame.to_string(float_format="{:.6f}".format))
        if frame["allowed"].isna().any():
            print("Not comparable: the record is of other hardware or versions, and fewer than three seeds of its "
                  "settings are recorded.", file=sys.stderr)
        return int(not frame["agrees"].all())
    if args.table not in TABLES:
        raise ArgumentTypeError(f"There is no table {args.table}. Choose one of: {', '.join(TABLES)}.")
    args.weights = args.teacher
    results = _load(args)
    if not results.points:
        raise ValueError("No row of this table has a teacher, since the embedded teacher is a ResNet-18. Choose "
                         "--teacher imagenet or --backbone resnet18.")
    if left_out := [row.label for row in results.table.rows if row not in {point.row for point in results.points}]:
        print(f"Left out, since the embedded teacher is a ResNet-18: {', '.join(left_out)}.", file=sys.stderr)
    if args.list:
        for config in results.configs:
            print("stored " if config in results.runs else "missing", config.key, config.label)
        return 0
    failed = {}
    check_writable(args.tables / f"{args.table}-{args.on}.md", "Choose another folder by --tables.")
    if not args.report and set(results.configs) - results.runs.keys():
        store, checkpoints = ResultStore(args.results), data_root() / "checkpoints"
        check_writable(store.path(results.configs[0]), "Choose another folder by --results.")
        check_writable(checkpoints / "run.ckpt", "Set RDLIB_DATA to a folder where you can write.")
        machine = replace(machine, checkpoints=str(checkpoints))
        failed = run_all(results.configs, store, machine, jobs=args.jobs, progress=not args.quiet).failed
        for config, message in failed.items():
            print(f"FAILED {config.label}: {message} (see {store.error_path(config)})", file=sys.stderr)
    print(write_report(_load(args), args.tables).read_text(encoding="utf-8"))
    return int(bool(failed))


def _load(args: Namespace) -> Results:
    """Load the table's results under the settings of the command line."""
    changes = {name: value for name, value in vars(args).items() if hasattr(RunConfig, name) and value is not None}
    results = load_results(args.table, args.on, args.category, args.seeds, folder=args.results, files=args.files,
                           **changes)
    teachers = {config.weights for config in results.configs}
    for name in teachers:
        check_choice("teacher", name, ["embedded", "imagenet", "random", "random_calibrated", *args.files])
    for name in args.files:
        check_choice("teacher of this table", name, teachers)
    for name in args.root:
        check_choice("data set of this table", name, [results.benchmark.base.dataset])
    return results
