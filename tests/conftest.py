"""Provide what several tests share."""
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples every time and no time limit: a busy machine is no bug.
settings.register_profile("kit", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("kit")


def pytest_configure(config):
    config.pluginmanager.import_plugin("suite")


@pytest.fixture(scope="module")
def browser():
    """Start Chromium by Playwright; a test without either is skipped, or fails under RDLIB_REQUIRE_BROWSER=1."""
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
    """Return the folder of data and weights outside the project; the test is skipped where there is none."""
    folder = Path(os.environ.get("RDLIB_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no {folder}: real data and weights are not part of the project (set RDLIB_SHARED)")
    return folder
