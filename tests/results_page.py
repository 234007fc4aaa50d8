"""Write the page of all stored results, data/results/README.md, and the short table in the README.

    python tests/results_page.py            # write both, and the figure of the picked epochs if a curve has changed
    python tests/results_page.py --check    # exit status 1 if one of them is not what the result files give
"""
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))

import complexity  # noqa: E402
import picked_epochs  # noqa: E402
import results_claims  # noqa: E402
import results_curves  # noqa: E402
import results_tables  # noqa: E402
import synthetic  # noqa: E402
from results_tables import (  # noqa: E402
    BACKBONES,
    TEACHERS,
    both,
    by_seed,
    load,
    markdown,
    number,
    overview,
    papers_number,
)

RESULTS = results_tables.RESULTS
PAGE, README = RESULTS / "README.md", ROOT / "README.md"
BEGIN, END = "<!-- results: python tests/results_page.py -->", "<!-- end of the results -->"
# Data, table, row: what the glance shows, with averaged weights where the runs have them.
GLANCE = (("screw", "loss", "flattened (official code)"), ("magnetic_tile_30", "loss", "flattened (official code)"),
          ("magnetic_tile", "teacher", "ImageNet"), ("magnetic_tile", "teacher", "procedural images (embedded)"),
          ("photo", "teacher", "ImageNet"), ("photo", "teacher", "procedural images (embedded)"),
          ("synthetic", "teacher", "ImageNet"), ("synthetic", "teacher", "procedural images (embedded)"),
          ("digits", "novelty", "sum of the map"), ("mnist", "novelty", "sum of the map"),
          ("fashion_mnist", "novelty", "sum of the map"))
ABLATIONS = (("teacher", "synthetic"), ("readout", "synthetic"), ("baselines", "synthetic"),
             ("teacher", "magnetic_tile"), ("readout", "magnetic_tile"))


def glance() -> str:
    """Return the short table of what was run, beside the paper's numbers."""
    rows = []
    for dataset, table, label in GLANCE:
        for results, row in both(load(table, dataset)):
            if not row.label.startswith(label):
                continue
            config = next(point.config for point in results.points if point.row is row)
            if not (values := by_seed(results, row, "image_auroc").values()):
                continue  # the page lists what was not run
            setting = f"{BACKBONES[config.backbone]}, {TEACHERS[config.weights]}, {config.epochs} epochs"
            rows.append([results.benchmark.title, setting + row.label.removeprefix(label),
                         number(results, row, "image_auroc"),
                         "–" if table == "novelty" else number(results, row, "aupro"),
                         papers_number(results, statistics.fmean(values))])
    head = ["data", "setting", "image AUROC here", "AUPRO here", "image AUROC of the paper (difference)"]
    return markdown(rows, head) + ("\n\nMVTec AD as a whole, VisA and BTAD have not been run here: "
                                   "`rdlib reproduce main --on mvtec` and its like run them.")


def benchmark() -> str:
    """Return the procedural benchmark by teacher and way of training, a table per metric, and the minutes."""
    rows = synthetic.records()
    return "\n\n".join([*(synthetic.table(rows, metric) for metric in synthetic.COLUMNS),
                        f"Minutes per run, median, one thread: {synthetic.minutes(rows)}.",
                        origin("synthetic/*.json")])


def origin(pattern: str) -> str:
    """Return when, where and how result files were made."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob(pattern))]

    def distinct(values: list) -> str:
        return ", ".join(sorted({str(value) for value in values}))
    return (f"*{len(runs)} runs, {distinct([run['date'] for run in runs])}; "
            f"{distinct([run['hardware'] for run in runs])}; "
            f"torch {distinct([run['versions']['torch'] for run in runs])}; "
            f"{distinct([run['config']['precision'] for run in runs])}, "
            f"{distinct([run['config']['threads'] for run in runs])} thread(s) per run.*")


def costs() -> str:
    """Return the costs of the backbones."""
    return complexity.load_costs(RESULTS / "costs").to_markdown(index=False)


def speed() -> str:
    """Return speed and memory against the official recipe, and the other timings."""
    record = json.loads((RESULTS / "speed.json").read_text(encoding="utf-8"))
    ways = ["official recipe", "kit, float32", "kit, bfloat16"]
    rows = []
    for unit, part in (("s", "seconds"), ("GB", "peak_memory_gb"), ("GFLOP", "gflop_per_step")):
        for what, values in record[part].items():
            faster = record["times_faster"].get(what, {})
            ratios = {way: f" ({ratio} x faster)" for way, ratio in faster.items()}
            rows.append([f"{what}, {unit}", *(f"{values[way]:g}{ratios.get(way, '')}" for way in ways)])
    products = ", ".join(f"{name} {value} GFLOP/s" for name, value in record["gflops_of_large_matrix_products"].items())
    others = [[other["what"], f"{other['value']} {other['unit']}", f"`{other['command']}`", other["date"],
               other["threads"]] for other in record["others"]]
    return "\n\n".join([
        markdown(rows, ["", *ways]),
        f"*{record['date']}; {record['hardware']}; torch {record['versions']['torch']}; `{record['command']}`. "
        f"The best of large matrix products on this machine: {products}.*",
        markdown(others, ["also measured on this kind of machine", "", "command", "date", "threads"])])


def estimates() -> str:
    """Return what was not run, with its command and the training time that the measured steps give."""
    steps = json.loads((RESULTS / "speed.json").read_text(encoding="utf-8"))["seconds"]
    large = steps["training step, Wide-ResNet-50-2, 256 x 256, batch 4"]["kit, float32"] * 16 / 4
    small = steps["training step, ResNet-18, 128 x 128, batch 16"]["kit, float32"] * 4  # four times the pixels
    count = 46_600  # of MVTec AD's 3,629 images in 15 categories, batches of 16, 200 epochs: see notebook 11
    rows = [["MVTec AD, Wide-ResNet-50-2", "main --on mvtec --device cuda", f"{count * large / 86_400:.1f} days"],
            ["MVTec AD, ResNet-18", "main --on mvtec --backbone resnet18", f"{count * small / 3600:.0f} hours"],
            ["VisA, BTAD", "main --on visa`, `main --on btad", "not estimated"],
            ["CIFAR-10", "novelty --on cifar10", "as MNIST"],
            ["all nine drawn categories", "ocbe --category weave leather ...", "not estimated"],
            ["backbones on drawn images", "main --on synthetic --teacher imagenet", "not estimated"]]
    return markdown([[what, f"`{command}`", time] for what, command, time in rows],
                    ["not run here", "`python -m rdlib reproduce ...`", "training on two CPU cores, computed"])


PARTS: dict[str, Callable[[], str]] = {
    "benchmark": benchmark, "costs": costs, "speed": speed, "estimates": estimates,
    "ablations": lambda: "\n\n".join(overview(*names) for names in ABLATIONS),
    **results_tables.PARTS, **results_curves.PARTS, **results_claims.PARTS}


def page() -> str:
    """Return the whole page: the prose of results_page.md with its tables."""
    text = (ROOT / "tests" / "results_page.md").read_text(encoding="utf-8")
    for name, table in PARTS.items():
        assert f"{{{name}}}" in text, name
        text = text.replace(f"{{{name}}}", table())
    return text


def put(readme: str) -> str:
    """Return the README's text with the short table between its markers; unchanged without markers."""
    if BEGIN not in readme:
        return readme
    before, _, rest = readme.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{glance()}\n\n{END}{rest.partition(END)[2]}"


def main() -> int:
    """Write or check both files."""
    wanted = {PAGE: page(), README: put(README.read_text(encoding="utf-8"))}
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path} is not what the result files give. Run python tests/results_page.py.", file=sys.stderr)
        return int(bool(stale))
    picked_epochs.draw(picked_epochs.rows(RESULTS / "runs"))
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
