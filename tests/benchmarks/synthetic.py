"""Run every category of the procedural benchmark with several teachers and seeds, and print the tables.

    python tests/benchmarks/synthetic.py --teacher embedded random_calibrated random imagenet=FILE --seeds 0 1 2
    python tests/benchmarks/synthetic.py --teacher embedded --batch 2 --seeds 0
    python tests/benchmarks/synthetic.py --table

ResNet-18, 128 x 128, 100 good images to train, 15 epochs in batches of 4, sigma 2; test: 40 good, 100 defective. The
last epoch is the result. Seeds vary student and order, the scenes are the same. `--batch 2` takes twice the steps in
the same epochs. One JSON file a run in data/results/synthetic; what is there is not run again.
"""
import argparse
import json
import time
from pathlib import Path

import pandas as pd
import torch
from recording import result, teacher_crc, write

from rdlib import ReverseDistillation, evaluate, fit, load_dataset
from rdlib.encoder import TeacherEncoder
from rdlib.synthetic import CATEGORIES

RESULTS = Path(__file__).parents[2] / "data" / "results" / "synthetic"
EPOCHS, IMAGES, SIZE, SIGMA = 15, 100, 128, 2
BATCHES = 4, 2  # the first is the default
TEACHERS = {"embedded": "embedded", "random_calibrated": "random, calibrated", "random": "random",
            "imagenet": "ImageNet"}
WAYS = {"": "", "_batch2": ", batches of 2"}
COLUMNS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}


def way(batch_size: int) -> str:
    """Return the mark of a way of training in files and columns, a key of WAYS."""
    return f"_batch{batch_size}" if batch_size != BATCHES[0] else ""


def train_and_test(category: str, teacher: str, weights: str | None, seed: int, precision: str,
                   batch_size: int) -> dict:
    """Train and evaluate one run, and return the content of its result file."""
    began = time.perf_counter()
    data = load_dataset(f"synthetic/{category}", size=SIZE, n_train=IMAGES)
    model = ReverseDistillation("resnet18", weights=weights, sigma=SIGMA, seed=seed)
    run = fit(model, data.train, EPOCHS, batch_size=batch_size, seed=seed, precision=precision, progress=False)
    report = evaluate(model, data.test, progress=False)
    found = result(run, report.metrics, dataset=data.name, size=SIZE, sigma=SIGMA, teacher=teacher)
    per_defect = report.per_defect().to_dict(orient="index")
    return found | {"per_defect": per_defect, "seconds": round(time.perf_counter() - began, 1)}


def records() -> pd.DataFrame:
    """Read the runs on record, a row each: category, teacher, seed, metrics, minutes."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    rows = [{"category": run["config"]["dataset"].split("/")[1],
             "teacher": run["config"]["teacher"] + way(run["config"]["batch_size"]),
             "seed": run["config"]["seed"], "minutes": run["seconds"] / 60} | run["metrics"] for run in runs]
    return pd.DataFrame(rows, columns=["category", "teacher", "seed", "minutes", *COLUMNS])


def columns(rows: pd.DataFrame) -> dict[str, str]:
    """List the teachers and ways of training on record, with their titles."""
    every = {name + way: title + how for name, title in TEACHERS.items() for way, how in WAYS.items()}
    return {name: title for name, title in every.items() if name in set(rows["teacher"])}


def table(rows: pd.DataFrame, metric: str) -> str:
    """Write Markdown: a line per category and one for their mean; a column per teacher, mean ± spread of seeds.

    The mean is of seeds with every category on record.
    """
    teachers = columns(rows)
    whole = rows.groupby(["teacher", "seed"]).filter(lambda seed: len(seed) == len(CATEGORIES))
    whole = whole.groupby(["teacher", "seed"])[metric].mean().reset_index().assign(category="**mean**")
    cells = pd.concat([rows, whole]).groupby(["category", "teacher"])[metric].agg(["mean", "std"])
    lines = [f"| {COLUMNS[metric]} | {' | '.join(teachers.values())} |",
             "|---" * (len(teachers) + 1) + "|"]
    for category in [*CATEGORIES, "**mean**"]:
        found = [cells.loc[category, name] if (category, name) in cells.index else None for name in teachers]
        shown = ["" if cell is None else f"{cell['mean']:.3f}" + (f" ± {cell['std']:.3f}" if cell["std"] >= 0 else "")
                 for cell in found]  # one seed has no spread
        lines.append(f"| {category} | {' | '.join(shown)} |")
    return "\n".join(lines)


def check_protocol(path: Path) -> None:
    """Raise ValueError if the run on record is of another protocol than this file's, or of an earlier teacher that
    shipped."""
    config = json.loads(path.read_text(encoding="utf-8"))["config"]
    if config["teacher"] == "embedded" and config.get("teacher_crc") != teacher_crc(TeacherEncoder()):
        raise ValueError(f"{path} was measured with another version of the embedded teacher. Move it away to run anew.")
    found = tuple(config[key] for key in ("epochs", "size", "sigma")) + (config["images"][0],)
    if found != (EPOCHS, SIZE, SIGMA, IMAGES) or config.get("ema") or config["batch_size"] not in BATCHES:
        raise ValueError(f"{path} is of another protocol. Move it away to run anew.")


def minutes(rows: pd.DataFrame) -> str:
    """Compute the median time of a run in each column: some runs shared the machine with other work."""
    found = rows.groupby("teacher")["minutes"].median()
    return "; ".join(f"{title} {found[name]:.1f}" for name, title in columns(rows).items())


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", nargs="+", default=["embedded", "random_calibrated"], metavar="NAME[=FILE]")
    parser.add_argument("--category", nargs="+", default=CATEGORIES, choices=CATEGORIES, metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch", type=int, default=BATCHES[0], choices=BATCHES,
                        help="images a step (default %(default)s)")
    parser.add_argument("--precision", default="auto", choices=["float32", "bf16", "auto"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--table", action="store_true", help="only print what is on record")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    unknown = {named.partition("=")[0] for named in args.teacher} - set(TEACHERS)
    if unknown:
        parser.error(f"there is no teacher {', '.join(unknown)}; choose of {', '.join(TEACHERS)}")
    jobs = [] if args.table else [(t, s, c) for t in args.teacher for s in args.seeds for c in args.category]
    for named, seed, category in jobs:
        teacher, _, file = named.partition("=")
        path = RESULTS / f"{category}_{teacher}{way(args.batch)}_seed{seed}.json"
        if path.exists():
            check_protocol(path)
            continue
        weights = file or (None if teacher == "random" else teacher)
        found = train_and_test(category, teacher, weights, seed, args.precision, args.batch)
        write(path, found)
        print(f"{category}, {teacher}, seed {seed}: " + ", ".join(
            f"{name} {found['metrics'][key]:.3f}" for key, name in COLUMNS.items()) + f", {found['seconds']:.0f} s",
            flush=True)
    rows = records()
    if rows.empty:
        parser.error("nothing is on record yet")
    print("\n\n".join(table(rows, metric) for metric in COLUMNS), f"Minutes a run: {minutes(rows)}", sep="\n\n")


if __name__ == "__main__":
    main()
