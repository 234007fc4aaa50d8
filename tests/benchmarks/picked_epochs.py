"""Compare the last epoch with the best one on the test data, in public logs and in the kit's curves, and draw it.

    python tests/benchmarks/picked_epochs.py

`tests/results_page.py` draws the figure if a curve has changed. A JSON file beside it records what it shows.
"""
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from rdlib.reproduction import load_results

ROOT = Path(__file__).parents[2]
FIGURE = ROOT / "data" / "pictures" / "picked_epochs.png"
CURVES = ROOT / "data" / "reference" / "public_curves.csv"
OWN = {"screw": ("loss", "screw"), "tiles": ("loss", "magnetic_tile_30"),
       "drawn": ("stability", "synthetic")}
DATA = {"mvtec": "MVTec AD", "visa": "VisA", "btad": "BTAD", "mpdd": "MPDD", "mvtec_loco": "MVTec LOCO",
        "mvtec3d": "MVTec 3D", "realiad": "Real-IAD", "medical": "Uni-Medical"}
BROKEN = 0.3  # loss of image AUROC from a category's best epoch to the last
HERE = "here: "
BLUE, ORANGE = "#0072B2", "#D55E00"  # of Okabe and Ito


def public() -> pd.DataFrame:
    """Read the public curves: log, seed, epoch, category, image_auroc."""
    frame = pd.read_csv(CURVES).assign(seed=0)  # every log is one run
    method, name, epochs = frame["log"].str.extract(r"(.*)/(.*)_(\d+)e").T.to_numpy()
    title = [f"{m.upper()}, {DATA[n]}, {e} epochs" for m, n, e in zip(method, name, epochs, strict=True)]
    return frame.assign(log=title, image_auroc=frame["image_auroc"] / 100)


def own(folder: Path) -> pd.DataFrame:
    """Read the curves of stored runs, with the weights of a row and, where they are recorded, the averaged ones."""
    frames = []
    for title, names in OWN.items():
        results = load_results(*names, folder=folder).complete()
        for averaged in (False, True):
            points = [point._replace(row=replace(point.row, scored_by="123 averaged")) if averaged else point
                      for point in results.points if point.row.scored_by == "123"]
            curves = replace(results, points=points).curves()
            row = curves["row"].astype(str).str.replace(r" \(.*", "", regex=True)
            frames.append(curves.assign(log=f"{HERE}{title}, " + row + ", averaged" * averaged))
    return pd.concat(frames)


def picked(curves: pd.DataFrame) -> pd.DataFrame:
    """Compute image AUROC at the last epoch, at the best epoch of the mean, and with each category at its best.

    Returns one line per log, mean over seeds. `epoch` has the best epoch of each seed, and `broken` the categories that
    lost more than BROKEN from their best epoch to the last.
    """
    lines = []
    for (log, _), curve in curves.groupby(["log", "seed"], sort=False):
        by = curve.pivot(index="epoch", columns="category", values="image_auroc")
        mean, last, best = by.mean(axis=1), by.iloc[-1], by.max()
        broken = ", ".join(f"{name} {last[name]:.3f}" for name in by if best[name] - last[name] > BROKEN)
        lines.append((log, mean.iloc[-1], mean.max(), best.mean(), str(mean.idxmax()), broken))
    frame = pd.DataFrame(lines, columns=["log", "last", "best", "own", "epoch", "broken"]).groupby("log", sort=False)
    return frame[["last", "best", "own"]].mean().join(frame[["epoch", "broken"]].agg(
        lambda texts: ", ".join(filter(None, texts))))


def rows(folder: Path) -> pd.DataFrame:
    """Return the lines of table and figure: the kit's curves, then the public logs."""
    found = own(folder)
    return pd.concat([*([picked(found)] if len(found) else []), picked(public())])


def draw(frame: pd.DataFrame, file: Path = FIGURE) -> None:
    """Draw the figure and write its record, unless it shows these lines already."""
    shown, record = json.loads(frame.round(6).reset_index().to_json(orient="records")), file.with_suffix(".json")
    if file.exists() and record.exists() and json.loads(record.read_text(encoding="utf-8"))["shown"] == shown:
        return
    gains = 100 * frame[["best", "own"]].sub(frame["last"], axis=0)
    place = range(len(frame))
    fig, ax = plt.subplots(figsize=(7, 1.3 + 0.24 * len(frame)), layout="constrained")
    ax.hlines(place, 0, gains["own"], color="0.75", linewidth=2, zorder=1)
    ax.scatter(gains["own"], place, color=ORANGE, marker="s", s=36, zorder=2,
               label="each category at its own best epoch")
    ax.scatter(gains["best"], place, color=BLUE, marker="o", s=36, label="best epoch of the mean", zorder=3)
    for y, broken in zip(place, frame["broken"], strict=True):
        words = ", ".join(part.split()[0].replace("_", " ") for part in broken.split(", ") if part)
        ax.annotate(f"{words} broke" if words else "", (gains["own"].iloc[y], y), (7, 0), textcoords="offset points",
                    va="center", fontsize=9)
    ax.set_yticks(place, frame.index, fontsize=9)
    ax.set(xlabel="image AUROC: points above the last epoch", ylim=(len(frame) - 0.4, -0.6),
           xlim=(-0.3, 1.8 * gains["own"].max()))  # with place for the words
    ax.grid(axis="x", color="0.9")
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    fig.suptitle("What picking the epoch on test data adds", fontsize=13)
    fig.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=10)
    fig.savefig(file, dpi=150)
    plt.close(fig)
    text = {"command": "python tests/benchmarks/picked_epochs.py",
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "shown": shown}
    record.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    draw(rows(ROOT / "data" / "results" / "runs"))
