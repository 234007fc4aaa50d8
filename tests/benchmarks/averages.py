"""Measure forms of the moving average of the student's weights, side by side in one training.

    python tests/benchmarks/averages.py --data synthetic/gear --seeds 0 1 2 --every 2
    python tests/benchmarks/averages.py --data mvtec/screw --root FOLDER --teacher FILE --seeds 0 --every 5
    python tests/benchmarks/averages.py --table

The settings are those of `rdlib reproduce` on the same data. All averages see the same steps: at a constant decay of
0.99 from the first step (torch's `get_ema_multi_avg_fn`), and warmed up (`rdlib.training.run.MovingAverage`). The
warmed-up one is also measured with BatchNorm's statistics re-estimated on the training images. One JSON file per data
set and seed in data/results/averages; what is there is not run again, and an interrupted run goes on.
"""
import argparse
import copy
import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import torch
from recording import write
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils.data import DataLoader

from rdlib import Run, evaluate, fit
from rdlib.datasets.samples import AnomalyData
from rdlib.reproduction import BENCHMARKS, Machine, RunConfig, swings, weights_id
from rdlib.reproduction.results import METRICS
from rdlib.reproduction.runs import OPTIONS, build, load
from rdlib.reproduction.store import provenance
from rdlib.training.callbacks import Callback
from rdlib.training.run import MovingAverage

RESULTS, CHECKPOINTS = Path(__file__).parents[2] / "data" / "results" / "averages", Path("build", "averages")
DATA = {"synthetic/gear": "synthetic", "mvtec/screw": "screw"}  # data set -> benchmark whose settings it has
DECAY = 0.99
SHOWN = {name: METRICS[name] for name in ("image_auroc", "pixel_auroc", "aupro")}
RAW, CONSTANT, WARMED_UP, RE_ESTIMATED = FORMS = ("weights of the last step", "constant decay", "decay warmed up",
                                                  "decay warmed up, BatchNorm re-estimated")


@torch.no_grad()
def re_estimate(run: Run, images: DataLoader) -> dict:
    """Estimate BatchNorm's statistics of the student anew, and return the earlier state of its modules."""
    networks = nn.ModuleDict(run.model.trainable_modules())  # without the teacher, whose statistics stay
    before = copy.deepcopy(networks.state_dict())
    networks.forward = lambda batch: run.model.student_features(batch, run.model.extract_features(batch))
    update_bn(images, networks)
    return before


class SideBySide(Callback):
    """Keep the average at a constant decay beside the run's own, and evaluate all forms every n epochs."""

    def __init__(self, data: AnomalyData, every: int):
        self.data, self.every = data, every

    def on_start(self, run: Run) -> None:
        """Build the average, with the steps of a resumed run."""
        kept, self.constant = run.kept("averages"), MovingAverage(run.model.trainable_modules(), DECAY)
        average = AveragedModel(self.constant.live, multi_avg_fn=get_ema_multi_avg_fn(DECAY), use_buffers=True)
        state = kept.get("constant", average.state_dict())  # a checkpoint has numbers for tensors without dimensions
        average.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})
        kept["constant"], self.constant.average = average.state_dict(), average  # the tensors that each step changes
        self.curve = kept.setdefault("curve", {})
        self.images = DataLoader(self.data.train, run.settings["batch_size"], generator=torch.Generator())

    def __call__(self, run: Run) -> None:
        """Add the weights of the step."""
        self.constant.update()
        if run.at_epoch_end and (run.epoch % self.every == 0 or run.epoch == run.epochs):
            self.on_epoch(run)

    def on_epoch(self, run: Run) -> None:
        """Evaluate every form of the weights."""
        found = {RAW: self.metrics(run)}
        self.constant.swap()
        found[CONSTANT] = self.metrics(run)
        self.constant.swap()
        with run.averaged():
            found[WARMED_UP] = self.metrics(run)
            before = re_estimate(run, self.images)
            found[RE_ESTIMATED] = self.metrics(run)
            self.constant.live.load_state_dict(before)
        self.curve[str(run.epoch)] = found

    def metrics(self, run: Run) -> dict[str, float]:
        """Evaluate the weights that the model has now."""
        report = evaluate(run.model, self.data.test, progress=False)
        return {name: float(getattr(report, name)) for name in SHOWN}


def settings(data: str, seed: int, teacher: str | None) -> RunConfig:
    """Return the settings of a training."""
    base = BENCHMARKS[DATA[data]].base
    return replace(base, dataset=data, seed=seed, ema=DECAY, weights_id=weights_id(base.weights, teacher))


def train(config: RunConfig, machine: Machine, every: int, checkpoint: Path) -> dict:
    """Train one seed with all averages, and return the content of its result file."""
    began, data = time.perf_counter(), load(config, machine)
    model, watching = build(config, machine), SideBySide(data, every)
    origin = provenance(model.device)
    run = fit(model, data.train, callbacks=[watching], checkpoint=checkpoint, checkpoint_every=1, progress=False,
              **{name: getattr(config, name) for name in OPTIONS})
    files = " --root FOLDER" * bool(machine.roots) + " --teacher FILE" * bool(machine.weights)
    command = f"python tests/benchmarks/averages.py --data {config.dataset} --seeds {config.seed} --every {every}"
    return {"config": asdict(config), "metrics": watching.curve[str(run.epochs)], "curve": watching.curve,
            "command": command + files, "seconds": round(time.perf_counter() - began, 1), **origin}


def table(folder: Path = RESULTS) -> str:
    """Write Markdown: a line per data set and form with the last epoch's metrics, and how steady image AUROC is.

    The last two columns are of the second half of the evaluated epochs. All are mean ± standard deviation over seeds.
    """
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    rows = pd.DataFrame([{"row": f"{run['config']['dataset']}: {form}", "category": "", "seed": run["config"]["seed"],
                          "epoch": int(epoch), **values}
                         for run in runs for epoch, found in run["curve"].items() for form, values in found.items()])
    shown = {title: swings(rows.assign(value=rows[name]))["last epoch"] for name, title in SHOWN.items()}
    steady = swings(rows.assign(value=rows["image_auroc"]))[["worst of last half", "swing"]]
    return pd.concat([pd.DataFrame(shown), steady.add_prefix("image AUROC, ")], axis=1).rename_axis(
        "weights").to_markdown()


def main() -> None:
    """Run the seeds that are missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic/gear", choices=DATA)
    parser.add_argument("--root", help="folder of the data set")
    parser.add_argument("--teacher", metavar="FILE", help="file of the teacher's weights")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--every", type=int, default=1, help="epochs between two evaluations (default %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only print what is on record")
    args = parser.parse_args()
    for seed in [] if args.table else args.seeds:
        config = settings(args.data, seed, args.teacher)
        machine = Machine(weights={config.weights: args.teacher} if args.teacher else {},
                          roots={args.data.partition("/")[0]: args.root} if args.root else {})
        name = f"{args.data.partition('/')[2]}_seed{seed}"
        path, checkpoint = args.out / f"{name}.json", CHECKPOINTS / f"{name}.ckpt"
        if not path.exists():
            torch.set_num_threads(config.threads)
            write(path, train(config, machine, args.every, checkpoint))
            checkpoint.unlink()
            print(f"{name} is done", flush=True)
    print(table(args.out))


if __name__ == "__main__":
    main()
