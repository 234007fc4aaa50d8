"""What several tests share."""
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

# The same examples every time and no time limit: a busy machine is no bug.
settings.register_profile("kit", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("kit")


def pytest_terminal_summary(terminalreporter):
    """How long each notebook took: the slowest tests are listed a cell each."""
    seconds = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            name = getattr(report, "nodeid", "").partition("::")[0]
            if name.endswith(".ipynb"):
                seconds[name] += getattr(report, "duration", 0)
    if seconds:
        terminalreporter.section(f"notebooks, {sum(seconds.values()):.0f} s in all")
        for name, spent in seconds.most_common():
            terminalreporter.write_line(f"{spent:6.0f}s {name}")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data and weights that are not part of the project; the test is skipped where there is none."""
    folder = Path(os.environ.get("RDLIB_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no {folder}: real data and weights are not part of the project (set RDLIB_SHARED)")
    return folder
