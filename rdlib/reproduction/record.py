"""Define the parts of a result file, and check them."""
import numpy

from rdlib.evaluation.report import METRICS
from rdlib.utils.errors import check_argument, check_number

RESAMPLES = 200  # of the test images
KEYS = {"config": dict, "metrics": dict, "per_defect": dict, "scored_by": dict, "bootstrap": dict, "curve": dict,
        "losses": list, "versions": dict, "hardware": str, "seconds": float, "peak_memory_mb": float, "date": str,
        "revision": str | None}  # the parts of a result, and their types
LATER = {"averaged_curve": dict, "scores": dict, "measures": dict, "data": dict, "command": str}  # early runs lack them


def check_result(result: dict) -> None:
    """Check a result that was read. Raise an error unless its parts are as `execute` returns them."""
    for name, kind in KEYS.items():
        check_argument(name, result[name], kind)
    for name in LATER.keys() & result.keys():
        check_argument(name, result[name], LATER[name])
    curves = result["curve"], result.get("averaged_curve", {})
    for part in (result["metrics"], *(group for groups in (result["per_defect"], result["scored_by"], *curves)
                                      for group in groups.values())):
        for name in {*METRICS, *part} - {"images"}:
            if part[name] == part[name]:  # no NaN, as where a metric is undefined
                check_number(name, part[name], "[0, 1]")
    for curve in curves:
        list(map(int, curve))  # the epochs; ValueError for others
    check_number("seconds", result["seconds"], "[0, inf)")
    for loss in result["losses"]:
        check_number("losses", loss, "(-inf, inf)")
    bootstrap = result["bootstrap"]
    if not (bootstrap and all(bootstrap.values())) or bootstrap.keys() != result["scored_by"].keys():
        raise ValueError("bootstrap is empty, or names other maps than scored_by.")
    for part in bootstrap.values():
        for name, values in part.items():
            array = numpy.array(values)
            if array.shape != (RESAMPLES,) or array.dtype.kind not in "if" or not (abs(array - 5_000) <= 5_000).all():
                raise ValueError(f"{name} has other values than {RESAMPLES} from 0 to 10000.")
    check_argument("torch", result["versions"]["torch"], str)
