"""Write the page of all stored results, data/results/README.md, and the short table in the README.

    python tests/results_page.py            # write both
    python tests/results_page.py --check    # exit status 1 if one of them is not what the result files give
"""
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))

import complexity  # noqa: E402
import synthetic  # noqa: E402

from rdlib.reproduction import Results, beside_published, load_results, swings  # noqa: E402
from rdlib.reproduction.results import MEAN, NOT_RUN  # noqa: E402

RESULTS = ROOT / "data" / "results"
PAGE, README = RESULTS / "README.md", ROOT / "README.md"
BEGIN, END = "<!-- results: python tests/results_page.py -->", "<!-- end of the results -->"
SHOWN = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}
TILES = SHOWN | {"aupro_per_image": "official per-image PRO"}
TILE_EPOCHS = "6"  # of the protocol that compares teachers
NOT_FOUND = "not found"
# Data, table, row: what the glance shows.
GLANCE = (("mvtec", "main", "WRN-50-2", "Wide-ResNet-50-2, ImageNet's weights, 200 epochs"),
          ("visa", "main", "WRN-50-2", "Wide-ResNet-50-2, ImageNet's weights, 200 epochs"),
          ("btad", "main", "WRN-50-2", "Wide-ResNet-50-2, ImageNet's weights, 200 epochs"),
          ("magnetic_tile", "teacher", "ImageNet", "ResNet-18, ImageNet's weights, 10 epochs"),
          ("magnetic_tile", "teacher", "procedural images (embedded)", "ResNet-18, the kit's weights, 10 epochs"),
          ("synthetic", "teacher", "ImageNet", "ResNet-18, ImageNet's weights, 10 epochs"),
          ("synthetic", "teacher", "procedural images (embedded)", "ResNet-18, the kit's weights, 10 epochs"),
          ("digits", "novelty", "sum of the map", "one class normal, ResNet-18, the kit's weights"),
          ("mnist", "novelty", "sum of the map", "one class normal, ResNet-18, ImageNet's weights"),
          ("fashion_mnist", "novelty", "sum of the map", "one class normal, ResNet-18, ImageNet's weights"),
          ("cifar10", "novelty", "sum of the map", "one class normal, ResNet-18, ImageNet's weights"))
ABLATIONS = (("teacher", "synthetic"), ("ocbe", "synthetic"), ("scales", "synthetic"), ("readout", "synthetic"),
             ("baselines", "synthetic"), ("teacher", "magnetic_tile"), ("ocbe", "magnetic_tile"),
             ("readout", "magnetic_tile"))


def load(table: str, dataset: str) -> Results:
    """Load stored results, from any working folder."""
    return load_results(table, dataset, folder=RESULTS / "runs")


def markdown(rows: list[list[str]], head: list[str]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def number(line: pd.Series, otherwise: str = NOT_RUN) -> str:
    """Return "mean ± standard deviation" of a line of `Results.measured`."""
    if not line["seeds"]:
        return otherwise
    return f"{line['mean']:.3f}" + (f" ± {line['std']:.3f}" if line["std"] >= 0 else "")  # one seed has none


def overall(results: Results) -> pd.DataFrame:
    """Return the lines that stand for the whole benchmark, by row and metric: the mean, or the only category."""
    frame = beside_published(results)
    frame = frame if len(results.categories) == 1 else frame[frame["category"] == MEAN]
    return frame.set_index(["row", "metric"])


def glance() -> str:
    """Return the short table: ours and published, run or not."""
    rows = []
    for dataset, table, row, setting in GLANCE:
        results = load(table, dataset)
        lines = overall(results).loc[row]
        paper, rerun = (lines.loc["image_auroc", name] for name in ("paper", "rerun"))
        published = ([f"{paper:.3f}"] if paper >= 0 else []) + ([f"{rerun:.3f} (rerun)"] if rerun >= 0 else [])
        rows.append([results.benchmark.title, setting, number(lines.loc["image_auroc"]),
                     number(lines.loc["aupro"], "" if table == "novelty" else NOT_RUN),
                     ", ".join(published) or (NOT_FOUND if dataset == "mnist" else "–")])
    return markdown(rows, ["data", "setting", "image AUROC here", "AUPRO here", "image AUROC published"])


def overview(table: str, dataset: str) -> str:
    """Return a table of an ablation: a line per row, mean over categories ± standard deviation over seeds."""
    results = load(table, dataset)
    found = overall(results)
    rows = [[row.label, *(number(found.loc[row.label, metric]) for metric in SHOWN)] for row in results.table.rows]
    head = f"{results.table.title}: {results.benchmark.title}"
    return f"{markdown(rows, [head, *SHOWN.values()])}\n\n*{results.provenance()}*"


def steadiness() -> str:
    """Return how image AUROC changes from epoch to epoch, by schedule and averaging."""
    results = load("stability", "synthetic").complete()
    found = swings(results.curves().assign(value=lambda curves: curves["image_auroc"]))
    head = f"image AUROC by epoch: {', '.join(results.categories)}"
    rows = [[label, *line] for label, line in zip(found.index, found.to_numpy(), strict=True)]
    return f"{markdown(rows, [head, *found.columns])}\n\n*{results.provenance()}*"


def novelty(dataset: str) -> str:
    """Return image AUROC by normal class."""
    results = load("novelty", dataset)
    frame = results.measured().query("metric == 'image_auroc'").set_index(["row", "category"])
    names = [*results.categories, MEAN]
    rows = [[row.label, *(number(frame.loc[row.label, name]) for name in names)] for row in results.table.rows]
    return f"{markdown(rows, [f'{results.benchmark.title}: normal class', *names])}\n\n*{results.provenance()}*"


def tiles_of(teacher: str) -> dict[str, list[dict]]:
    """Return the runs of a teacher on the magnetic tiles: by epochs, the metrics of every seed."""
    found = [json.loads(path.read_text(encoding="utf-8"))["curve"]
             for path in sorted(RESULTS.glob(f"magnetic_tile_{teacher}_seed?.json"), key=lambda path: path.name)]
    return {epochs: [curve[epochs] for curve in found] for epochs in found[0]} if found else {}


def tile_row(name: str, runs: list[dict]) -> list[str]:
    """Return a row of a table of the tiles: mean ± standard deviation over seeds."""
    values = ([run[metric] for run in runs] for metric in TILES)
    return [name, *(f"{statistics.mean(v):.3f} ± {statistics.stdev(v):.3f}" for v in values)]


def tiles_by_epoch() -> str:
    """Return the tiles by epochs, with ImageNet's weights."""
    table = markdown([tile_row(epochs, runs) for epochs, runs in tiles_of("imagenet").items()],
                     ["epochs", *TILES.values()])
    return f"{table}\n\n{origin('magnetic_tile_imagenet_seed?.json')}{official_modules()}"


def official_modules() -> str:
    """Return what the official modules reached in the same protocol."""
    record = json.loads((RESULTS / "magnetic_tile_official_modules.json").read_text(encoding="utf-8"))
    values = ", ".join(f"{value:.3f}" for value in record["image_auroc"])
    return (f"\n\nThe official modules, trained in the same way for {record['epochs']} epochs, reached an image AUROC "
            f"of {values} (seeds 0, 1, 2; {record['date']}).")


def tiles_by_teacher() -> str:
    """Return the tiles by teacher."""
    return markdown([tile_row(title, tiles_of(name)[TILE_EPOCHS]) for name, title in synthetic.TEACHERS.items()],
                    ["teacher", *TILES.values()]) + "\n\n" + origin("magnetic_tile_*_seed?.json")


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
            ["Fashion-MNIST, CIFAR-10", "novelty --on fashion_mnist`, `novelty --on cifar10", "as MNIST"],
            ["all nine drawn categories", "ocbe --category weave leather ...", "not estimated"],
            ["backbones on drawn images", "main --on synthetic --teacher imagenet", "not estimated"]]
    return markdown([[what, f"`{command}`", time] for what, command, time in rows],
                    ["not run here", "`python -m rdlib reproduce ...`", "training on two CPU cores, computed"])


def page() -> str:
    """Return the whole page: the prose of results_page.md with its tables."""
    text = (ROOT / "tests" / "results_page.md").read_text(encoding="utf-8")
    parts: dict[str, Callable[[], str]] = {
        "glance": glance, "tiles_by_epoch": tiles_by_epoch, "tiles_by_teacher": tiles_by_teacher,
        "benchmark": benchmark, "digits": lambda: novelty("digits"), "mnist": lambda: novelty("mnist"),
        "steadiness": steadiness, "costs": costs, "speed": speed, "estimates": estimates,
        "ablations": lambda: "\n\n".join(overview(*names) for names in ABLATIONS)}
    for name, table in parts.items():
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
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
