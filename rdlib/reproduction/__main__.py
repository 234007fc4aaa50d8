"""Get a table of the paper: run what is missing of it, and write it with the published numbers beside.

    python -m rdlib.reproduction ocbe                           # on the procedural benchmark, offline
    python -m rdlib.reproduction main --on mvtec --device cuda  # the paper's protocol
    python -m rdlib.reproduction scales --report                # only from what is on record

Stop it when you like, by Ctrl-C or by `kill -9`, and start it again: what has its result file is not run again. The
exit status is 1 where a run failed; KEY.error.txt beside the results says why.
"""
import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from rdlib.datasets import data_root
from rdlib.files import written_atomically
from rdlib.hardware import best_device
from rdlib.reproduction.config import RunConfig, weights_id
from rdlib.reproduction.cost import COLUMNS, costs, measure_all
from rdlib.reproduction.engine import run_all
from rdlib.reproduction.recorded import recorded
from rdlib.reproduction.report import latex_table, write_report
from rdlib.reproduction.single import Machine
from rdlib.reproduction.store import ResultStore
from rdlib.reproduction.tables import GROUNDS, TABLES, Cell, cells

COST, COST_TITLE = "complexity", "Parameters, operations, memory, speed"


def named(text: str) -> tuple[str, str]:
    """NAME=PATH, as --weights and --root take it."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, got '{text}'")
    return name, str(Path(value).expanduser().resolve())  # a worker may stand in another folder


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m rdlib.reproduction", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    titles = {name: table.title for name, table in TABLES.items()} | {COST: COST_TITLE}
    parser.add_argument("table", choices=titles, help="; ".join(f"{name}: {title}" for name, title in titles.items()))
    parser.add_argument("--on", choices=GROUNDS, default="synthetic", help="the data (default: synthetic, offline)")
    parser.add_argument("--category", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N")
    for field in ("epochs", "batch_size", "size", "n_train", "threads"):
        parser.add_argument(f"--{field.replace('_', '-')}", type=int, metavar="N", help="instead of the usual")
    parser.add_argument("--backbone", help="instead of the usual")
    parser.add_argument("--teacher", help="the teacher's weights instead of the usual: embedded, imagenet, ...")
    parser.add_argument("--precision", choices=["float32", "bf16"], help="instead of the usual")
    parser.add_argument("--weights", type=named, nargs="+", default=[], metavar="NAME=FILE",
                        help="the file of a teacher, for example imagenet=resnet18.safetensors")
    parser.add_argument("--root", type=named, nargs="+", default=[], metavar="FAMILY=FOLDER",
                        help="where a data set lies, for example mvtec=/data/mvtec")
    parser.add_argument("--device", default=str(best_device()))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, a process each")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="a dask.distributed scheduler, instead of --jobs")
    parser.add_argument("--results", type=Path, default=Path("data/results/runs"), help="folder of the result files")
    parser.add_argument("--tables", type=Path, default=Path("data/results/tables"), help="folder of the reports")
    parser.add_argument("--report", action="store_true", help="run nothing, write the table from what is on record")
    parser.add_argument("--list", action="store_true", help="only list the runs and whether they are on record")
    args = parser.parse_args(arguments)
    args.results = args.results.resolve()
    return args


def asked_for(args: argparse.Namespace, store: ResultStore) -> list[Cell]:
    """The table's cells under the command line's settings, each with the identity of its teacher's file.

    Where no file is named, a run on record counts whichever file its teacher came from.
    """
    changes = {field: getattr(args, field) for field in ("epochs", "batch_size", "size", "n_train", "threads",
                                                         "backbone", "precision") if getattr(args, field) is not None}
    changes |= {"weights": args.teacher} if args.teacher else {}
    files = dict(args.weights)

    def identified(config: RunConfig) -> RunConfig:
        return replace(config, weights_id=weights_id(config.weights, files.get(config.weights)))
    wanted = cells(TABLES[args.table], GROUNDS[args.on], args.category, args.seeds, **changes)
    if not wanted:
        raise ValueError("No row of this table can be run so: the embedded teacher is a ResNet-18. Name another one, "
                         "--teacher imagenet, or --backbone resnet18.")
    return [cell._replace(config=identified(cell.config)) if cell.config.weights in files else on_record
            for cell, on_record in zip(wanted, recorded(wanted, store), strict=True)]


def cost(args: argparse.Namespace) -> int:
    """The table of costs, which has no runs: measured anew, unless --report; the exit status."""
    folder = args.results.parent / "costs"
    if not args.report:
        measure_all(args.device, args.size or 256, args.precision or "float32", args.threads or 1, folder)
    frame = costs(folder)
    if frame.empty:
        print(f"Nothing is on record in {folder}. Leave --report out to measure.", file=sys.stderr)
        return 2
    shown = frame.rename(columns=COLUMNS)
    texts = {"csv": frame.to_csv(index=False), "md": f"# {COST_TITLE}\n\n{shown.to_markdown(index=False)}\n",
             "html": shown.to_html(index=False), "tex": latex_table(shown, index=False)}
    for suffix, text in texts.items():
        with written_atomically(args.tables / f"{COST}.{suffix}") as temporary:
            temporary.write_text(text)
    print(texts["md"])
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing, write the table; the exit status."""
    args = parse(arguments)
    if args.table == COST:
        return cost(args)
    try:
        store = ResultStore(args.results)
        wanted = asked_for(args, store)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    configs = list(dict.fromkeys(cell.config for cell in wanted))
    left_out = [row.label for row in TABLES[args.table].rows if row not in {cell.row for cell in wanted}]
    if left_out:
        print(f"Left out, since the embedded teacher is a ResNet-18: {', '.join(left_out)}.", file=sys.stderr)
    if args.list:
        for config in configs:
            print("done   " if store.has(config) else "missing", config.key, config.label)
        return 0
    failed = {}
    if not args.report:
        machine = Machine(args.device, dict(args.weights), dict(args.root), str(data_root() / "checkpoints"))
        failed = run_all(configs, store, machine, jobs=args.jobs, scheduler=args.scheduler).failed
    paths = write_report(TABLES[args.table], GROUNDS[args.on], wanted, store, args.tables)
    print(paths[1].read_text())
    for config, reason in failed.items():
        print(f"FAILED {config.label}: {reason} (see {store.error_path(config)})", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    sys.exit(main())
