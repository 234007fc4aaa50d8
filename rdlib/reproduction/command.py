"""Run what is missing of a table of the paper, and write the table with the published numbers beside."""
import argparse
import sys
from dataclasses import replace
from pathlib import Path

from rdlib.datasets.load import data_root
from rdlib.reproduction.config import RunConfig, weights_id
from rdlib.reproduction.cost import COLUMNS, costs, measure_all
from rdlib.reproduction.engine import run_all
from rdlib.reproduction.recorded import recorded
from rdlib.reproduction.report import latex_table, write_report
from rdlib.reproduction.single import Machine
from rdlib.reproduction.store import ResultStore
from rdlib.reproduction.tables import GROUNDS, TABLES, Cell, cells
from rdlib.utils.files import written_atomically

COST, COST_TITLE = "complexity", "Parameters, operations, memory, speed"


def parse_pair(text: str) -> tuple[str, str]:
    """Split NAME=PATH, as --weights and --root take it, and make the path absolute."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, got '{text}'")
    return name, str(Path(value).expanduser().resolve())  # a worker may stand in another folder


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


def reproduce(args: argparse.Namespace) -> int:
    """Run what is missing, write the table, and return the exit status."""
    args.results = args.results.resolve()
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
