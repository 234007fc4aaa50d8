"""Repeat a recorded run, and say whether it agrees with the record."""
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from rdlib.evaluation.report import METRICS
from rdlib.reproduction.runs import Machine, execute, fingerprints, load
from rdlib.reproduction.store import ResultStore
from rdlib.utils.errors import DataError

SAME = 1e-6  # on the same kind of hardware and the same versions
ORIGIN = ("hardware", "float32", "versions")


def repeat(file: Path, machine: Machine, progress: bool = True) -> pd.DataFrame:
    """Execute the run of a result file again, and compare the metrics.

    Args:
        file: result file of a run, beside those of its other seeds.
        machine: weights, data and device of the run.
        progress: show a progress bar of the training.

    Returns:
        One row per metric: `recorded`, `again`, `difference`, `allowed`, and whether the difference `agrees`. On the
        same kind of hardware with the same versions, 1e-6 is allowed. Otherwise, it is three standard deviations over
        the recorded seeds of the same settings, since another rounding is like another seed. With fewer than three
        seeds, it is NaN, and nothing agrees.

    Raises:
        DataError: the file holds no result, or images or masks here are other ones. Also as `execute`.
    """
    found = ResultStore(file.parent).read_all()
    config = next((config for config in found if f"{config.key}.json" == file.name), None)
    if config is None:
        raise DataError(f"{file} is no result file of a run.")
    recorded = found[config].get("data", {})  # early records have none
    if recorded and not recorded.items() <= fingerprints(load(config, machine)).items():
        raise DataError(f"The images or masks of {config.dataset} here are other ones than those of the record.")
    old, new = found[config], execute(config, machine, progress)
    seeds = [result["metrics"] for other, result in found.items() if replace(other, seed=config.seed) == config]
    values = {"recorded": old["metrics"], "again": new["metrics"]}
    frame = pd.DataFrame(values).loc[list(METRICS)].dropna(how="all")  # undefined in both, as without masks
    spread = (3 * pd.DataFrame(seeds)[list(METRICS)].std(ddof=1)).clip(lower=SAME) if len(seeds) > 2 else np.nan
    same = all(old.get(name) == new.get(name) for name in ORIGIN)
    frame = frame.assign(difference=frame["again"] - frame["recorded"], allowed=SAME if same else spread)
    return frame.assign(agrees=frame["difference"].abs() <= frame["allowed"])
