"""Train the embedded teacher on procedural images and export it.

    python data/teacher/train.py [--state FILE] [--bank FOLDER] [--device cuda]

The bank is rendered first if it is not there. Stop it when you like, by Ctrl-C or by `kill`, and start it again with
the same command: it goes on from its state file, and ends with the weights it would have had without the stop.
Batches are drawn on the CPU whatever the device, so that every device sees the same pictures.
"""
import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from augment import Batch, Camera, make_batch, twins
from bank import Bank, default_folder, render
from network import Trainee, export
from torch import Tensor
from tqdm.auto import tqdm

from rdlib.training.checkpoint import load_optimizer
from rdlib.utils.files import written_atomically
from rdlib.utils.hardware import autocast, has_fused_adam, memory_format, resolve_precision

VERSION = "4"  # goes into the exported file; changes whenever the weights would
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Stage:
    """A part of the training with its own schedule."""

    steps: int
    # (crop in pixels, images in a batch, share of the steps). Small crops are cheap to learn from; the last ones are as
    # large as the images that the teacher is to describe.
    phases: tuple[tuple[int, int, float], ...]
    rate: float
    camera: Camera
    grain: float = 0.0  # weight of the distance between twins that differ by faint grain, at each layer
    ratio: float = 0.0  # weight of the logarithm of what grain changes over what a foreign region changes, likewise
    floor: float = 0.01  # of the grain's distance in that logarithm
    spread: float = 0.0  # weight of how few directions the features vary in, likewise
    start: tuple[tuple[int, float], ...] = ()  # begin from the weighted mean of what these stages exported

    def phase(self, step: int) -> tuple[int, int]:
        """Return crop and batch size at a step of this stage."""
        begun = 0.0
        for size, batch, share in self.phases:
            begun += share
            if step < round(begun * self.steps):
                return size, batch
        return self.phases[-1][:2]

    def rate_at(self, step: int) -> float:
        """Compute the learning rate: up in a line for 3 % of the steps, then down a cosine to nothing."""
        warm = max(1, round(0.03 * self.steps))
        return self.rate * min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / self.steps)))


# First what things are, seen at any contrast. That makes the features answer to the faintest grain, which no student
# can foretell; so then grain is asked to change nothing, and contrast is left more as it was.
LEARN = Stage(11700, ((64, 64, 0.80), (96, 48, 0.13), (128, 32, 0.07)), 1.5e-3,
              Camera((0.02, 0.24), (0.1, 8), 0.45, None, (0.008, 0.12),
                     (0.12, 0.22, 0.2, 0.12, 0.16, 0.06, 0.12, 0, 0)))
REFINE = Stage(4000, ((64, 48, 0.75), (96, 24, 0.12), (128, 12, 0.13)), 8e-4,
               Camera((0.05, 0.25), (0.4, 2.5), 0.2, (0.7, 4), (0.015, 0.0),
                      (0.1, 0.17, 0.15, 0.09, 0.12, 0.05, 0.11, 0.21, 0)), 4.0)
# That in turn makes them blind to color and to faint lines; so last, what is foreign is asked to change much.
SHARPEN = Stage(2000, ((64, 48, 0.75), (96, 24, 0.12), (128, 12, 0.13)), 8e-4,
                Camera((0.05, 0.25), (0.4, 2.5), 0.05, (1, 4), (0.015, 0.0),
                       (0.06, 0.09, 0.1, 0.07, 0.18, 0.06, 0.09, 0.1, 0.25)), 1.0, 0.5)

# Each stage so far forgot some of what the one before had learnt. All left the features few directions to differ in.
# So begin again half-way between the first and the third, where grain counts about as much as it does for ImageNet's
# weights, keep that balance, and ask for more directions.
SPREAD = Stage(2400, ((64, 48, 0.75), (96, 24, 0.12), (128, 12, 0.13)), 8e-4, SHARPEN.camera, ratio=0.25, floor=0.03,
               spread=0.3, start=((0, 0.5), (2, 0.5)))


@dataclass(frozen=True)
class Recipe:
    """Everything the weights follow from, besides the bank and the arithmetic."""

    stages: tuple[Stage, ...] = (LEARN, REFINE, SHARPEN, SPREAD)
    seed: int = 0
    decay: float = 0.05  # AdamW's, of the weights
    average: float = 0.998  # of the exponential moving average that is exported
    weights: tuple[tuple[str, float], ...] = (("class2", 0.25), ("class3", 0.5), ("pooled", 0.5), ("foreign1", 1.5),
                                              ("foreign2", 1.5), ("foreign3", 1.5))

    @property
    def steps(self) -> int:
        """Count the steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage(self, step: int) -> tuple[int, int]:
        """Find the stage of a step, and its number within it."""
        for i, stage in enumerate(self.stages):
            if step < stage.steps:
                return i, step
            step -= stage.steps
        raise ValueError("The training is at its end.")


class Training:
    """A run under way: network, moving average, optimizer, step; all of it in one state file."""

    def __init__(self, recipe: Recipe, bank: Bank, precision: str = "auto", device: str = "cpu"):
        self.recipe, self.bank, self.step, self.seen = recipe, bank, 0, 0
        self.device = torch.device(device)
        self.precision = resolve_precision(precision, self.device)
        self.exports: dict[int, dict[str, Tensor]] = {}  # what a stage came to, where a later one starts from it
        self._begin(recipe.seed)

    def _begin(self, seed: int, trunk: dict[str, Tensor] | None = None) -> None:
        """Build a new network, with this trunk if there is one; its moving average has a short memory at first."""
        self.begun = self.step
        network = Trainee(len(self.bank.classes), seed).train()
        self.network = network.to(self.device, memory_format=memory_format(self.device))
        if trunk:
            self.network.trunk.load_state_dict(trunk, strict=False)
        self.average = {k: v.clone() for k, v in self.network.trunk.state_dict().items() if v.is_floating_point()}
        self.optimizer = self._optimizer()

    def _enter(self, number: int) -> None:
        """Prepare the first step of a stage: another optimizer, perhaps another start."""
        self.exports[number - 1] = {k: v.half() for k, v in self.average.items()}
        sources = [i for stage in self.recipe.stages[number:] for i, _ in stage.start]
        start = self.recipe.stages[number].start
        trunk = {k: sum(share * self.exports[i][k].float() for i, share in start) for k in self.average if start}
        self.exports = {i: export for i, export in self.exports.items() if i in sources}
        if trunk:
            self._begin(self.recipe.seed + number, trunk)
        else:
            self.optimizer = self._optimizer()

    def _optimizer(self) -> torch.optim.Optimizer:
        matrices = [p for p in self.network.parameters() if p.ndim > 1]
        vectors = [p for p in self.network.parameters() if p.ndim == 1]  # BatchNorms and biases are not decayed
        return torch.optim.AdamW([{"params": matrices, "weight_decay": self.recipe.decay},
                                  {"params": vectors, "weight_decay": 0.0}], fused=has_fused_adam(self.device))

    def save(self, path: Path) -> None:
        """Write the state file, whole or not at all."""
        state = {"recipe": asdict(self.recipe), "bank": self.bank.record, "precision": self.precision,
                 "step": self.step, "seen": self.seen, "begun": self.begun, "exports": self.exports,
                 "network": self.network.state_dict(), "average": self.average,
                 "optimizer": self.optimizer.state_dict()}
        with written_atomically(path) as temporary, temporary.open("wb") as file:
            torch.save(state, file)

    def load(self, path: Path) -> None:
        """Resume from a state file. Raises ValueError if it belongs to another recipe, bank or arithmetic."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        for name, own in (("recipe", asdict(self.recipe)), ("bank", self.bank.record), ("precision", self.precision)):
            if state[name] != own:
                raise ValueError(f"{path} was begun with another {name}: {state[name]}. Use that, or another file.")
        self.network.load_state_dict(state["network"])
        load_optimizer(self.optimizer, state["optimizer"])
        for name in ("average", "step", "seen", "begun", "exports"):
            setattr(self, name, state[name])

    def run(self, folder: Path) -> Iterator[dict[str, float]]:
        """Train to the end on the bank in `folder`, giving every step's losses."""
        images, masks = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "masks"))
        while self.step < self.recipe.steps:
            draw = torch.Generator().manual_seed((self.recipe.seed << 32) + self.step)
            number, own = self.recipe.stage(self.step)
            if own == 0 and number:
                self._enter(number)
            stage = self.recipe.stages[number]
            size, n = stage.phase(own)
            which = torch.randint(len(images), (n,), generator=draw)
            where = torch.randint(len(masks), (n,), generator=draw)
            batch = make_batch(torch.from_numpy(images[which.numpy()]), torch.from_numpy(masks[where.numpy()])[:, None],
                               which // self.bank.images, size, stage.camera, draw, stage.ratio > 0)
            yield self.update(batch, *(twins(batch.images, draw) if stage.grain or stage.ratio else ()))

    def update(self, batch: Batch, *more: Tensor) -> dict[str, float]:
        """Make one step of the optimizer and of the moving average, with the twins where the stage asks for them."""
        number, own_step = self.recipe.stage(self.step)
        stage = self.recipe.stages[number]
        for group in self.optimizer.param_groups:
            group["lr"] = stage.rate_at(own_step)
        with autocast(self.precision, self.device):
            losses = self.network.losses(batch.to(self.device), *(x.to(self.device) for x in more), floor=stage.floor)
        own_weights = {f"{name}{i}": getattr(stage, name) for name in ("grain", "ratio", "spread") for i in (1, 2, 3)}
        weights = dict(self.recipe.weights) | own_weights
        total = sum(weights[name] * loss for name, loss in losses.items())
        self.optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.step, self.seen = self.step + 1, self.seen + len(batch.own)
        own = self.network.trunk.state_dict()
        age = self.step - self.begun
        weight = 1 - min(self.recipe.average, (age + 1) / (age + 10))
        torch._foreach_lerp_(list(self.average.values()), [own[k] for k in self.average], weight)
        return {name: loss.item() for name, loss in losses.items()}

    def export(self, path: Path) -> None:
        """Write the moving average as the teacher's weights, BatchNorm statistics with it."""
        about = {"version": VERSION, "images_seen": self.seen, "step": self.step, "recipe": asdict(self.recipe),
                 "bank": self.bank.record, "precision": self.precision}
        export(self.average, path, about)


def train(training: Training, folder: Path, state: Path, every: float = 120, minutes: float = math.inf,
          progress: bool = True) -> bool:
    """Train to the end, or for a number of minutes, and store the state regularly. Return whether it ended."""
    began = saved = time.monotonic()
    mean: dict[str, float] = {}
    bar = tqdm(total=training.recipe.steps, initial=training.step, disable=not progress, mininterval=10, desc="teacher")
    for losses in training.run(folder):
        mean = {name: mean.get(name, loss) * 0.98 + 0.02 * loss for name, loss in losses.items()}
        bar.set_postfix({name: f"{loss:.3f}" for name, loss in mean.items()}, refresh=False)
        bar.update()
        if time.monotonic() - saved > every:
            training.save(state)
            saved = time.monotonic()
        if time.monotonic() - began > 60 * minutes:
            break
    training.save(state)
    return training.step >= training.recipe.steps


def main() -> None:
    """Render the bank, train, export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, default=default_folder().with_suffix(".state"),
                        help="the state file, begun or gone on with")
    parser.add_argument("--bank", type=Path, default=default_folder(), help="the folder of the rendered images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cuda or mps for another than the CPU")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so long, to be gone on with later")
    parser.add_argument("--out", type=Path, default=HERE / "resnet18_procedural.safetensors")
    args = parser.parse_args()
    render(args.bank, Bank())
    training = Training(Recipe(seed=args.seed), Bank(), device=args.device)
    if args.state.exists():
        training.load(args.state)
    if train(training, args.bank, args.state, minutes=args.minutes):
        training.export(args.out)


if __name__ == "__main__":
    main()
