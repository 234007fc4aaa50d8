"""What several tests share."""
import os
import shutil
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


@pytest.fixture(scope="module")
def browser():
    """Chromium, driven by Playwright; a test without either is skipped, or fails under RDLIB_REQUIRE_BROWSER=1."""
    give_up = pytest.fail if os.environ.get("RDLIB_REQUIRE_BROWSER") == "1" else pytest.skip
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        give_up("no Playwright: pip install playwright")
    path = os.environ.get("RDLIB_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not path:
        give_up("no Chromium: apt-get install chromium, or set RDLIB_CHROMIUM to its path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data and weights that are not part of the project; the test is skipped where there is none."""
    folder = Path(os.environ.get("RDLIB_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no {folder}: real data and weights are not part of the project (set RDLIB_SHARED)")
    return folder
