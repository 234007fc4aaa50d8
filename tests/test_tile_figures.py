"""The figures of real tiles show the maps that they name, of the runs that `rdlib reproduce` has."""
import hashlib
import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
import tile_figures

from rdlib import load_dataset
from rdlib.reproduction import BENCHMARKS, TABLES, grid

RECORD = Path(__file__).parents[1] / "data" / "pictures" / "tiles.json"


def test_the_settings_are_those_of_the_tables(tmp_path):
    (tmp_path / "weights").write_bytes(b"")
    benchmark = BENCHMARKS["magnetic_tile"]
    tables = [point.config for name in ("direction", "ocbe")
              for point in grid(TABLES[name], benchmark, weights_id="e3b0c44298fc")]  # of an empty file
    for name in (tile_figures.FORWARD, *tile_figures.BOTTLENECKS):
        assert tile_figures.settings(name, benchmark.base.epochs, tmp_path / "weights") in tables


def test_each_figure_has_its_columns_and_their_highest_values():
    shown = load_dataset("synthetic/gear", size=64, n_train=1).test.subset([-1, -2])
    scales = {name: torch.full((2, 3, 64, 64), value) for name, value in zip(
        (tile_figures.FORWARD, *tile_figures.BOTTLENECKS), (0.01, 0.02, 0.03, 0.04), strict=True)}
    found = tile_figures.three_figures(shown, scales, 2.0)
    titles = {name: [axis.get_title() for axis in figure.axes if axis.get_title()][2:] for name, figure in
              found.items()}
    assert titles["tiles_direction"][:2] == ["forward\nup to 0.03", "reverse\nup to 0.12"]
    assert titles["tiles_bottleneck"][:3] == [
        "OCE on f3, frozen\nup to 0.06", "OCE on f3\nup to 0.09", "MFF + OCE\nup to 0.12"]
    assert titles["tiles_scales"][:4] == [*(f"M{k}\nup to 0.04" for k in (1, 2, 3)), "M1 + M2 + M3\nup to 0.12"]


@pytest.mark.skipif(not RECORD.exists(), reason="the figures have not been drawn")
def test_the_pictures_are_those_on_record():
    for name, figure in json.loads(RECORD.read_text(encoding="utf-8"))["figures"].items():
        picture = RECORD.with_name(f"{name}.png")
        assert hashlib.sha256(picture.read_bytes()).hexdigest() == figure["sha256"]
