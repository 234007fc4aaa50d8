"""The explorers where they are used: notebook 07 in JupyterLab, others in Notebook 7 as well, in a real browser.

Needs the Chromium that the system has (`apt-get install chromium`, or its path in RDLIB_CHROMIUM); without one the
tests are skipped, unless RDLIB_REQUIRE_BROWSER=1 says that they must not be. Screenshots go to build/browser.
"""
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
SHOTS = ROOT / "build/browser"
SECONDS = int(os.environ.get("RDLIB_BROWSER_SECONDS", 300))  # for a notebook to run; a busy machine is no bug
LAB = {"notebook-extension/tracker": {"windowingMode": "none"},  # every cell is drawn, in sight or not
       "apputils-extension/notification": {"fetchNews": "false"}}  # and nothing pops up in front of them
ROUTINE = """
from rdlib import ReverseDistillation, fit, load_dataset
from rdlib.widgets import defect_explorer, draw_defect
data = load_dataset("synthetic/gear", size=64, n_train=16)
model = ReverseDistillation("resnet18", sigma=1)
run = fit(model, data.train, 2, batch_size=4, progress=False)
%%
defect_explorer(model, data)
%%
draw_defect(model, data)
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Start a JupyterLab on a folder with notebook 07, without outputs, and with an explorer. Yield its address."""
    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.read(ROOT / "notebooks/07_anomaly_maps.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, folder / "07_anomaly_maps.ipynb")
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in ROUTINE.split("%%")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for where in ("lab", "notebook"):  # a file each: pages of one file share its kernel
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / f"explorer_{where}.ipynb")
    for name, values in LAB.items():
        file = folder / f"settings/@jupyterlab/{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"ServerApp.root_dir": folder, "ServerApp.port": port, "ServerApp.open_browser": False,
                "ServerApp.allow_root": True, "IdentityProvider.token": "", "ServerApp.password": ""}
    env = os.environ | {"JUPYTER_PREFER_ENV_PATH": "1", "JUPYTER_CONFIG_DIR": str(folder / "config"),
                        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")}
    with (folder / "server.log").open("w", encoding="utf-8") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *(f"--{k}={v}" for k, v in settings.items())],
                                  stdout=log, stderr=subprocess.STDOUT, env=env)
        address = f"http://127.0.0.1:{port}"
        try:
            wait_for(address, server, folder / "server.log")
            yield address
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def wait_for(address, server, log):
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{address}/api", timeout=5)
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert server.poll() is None, log.read_text(encoding="utf-8")
            time.sleep(0.5)
    pytest.fail(f"JupyterLab did not start: {log.read_text(encoding='utf-8')}")


class Page:
    """A notebook that is open in JupyterLab, or in Notebook 7, which the same server has."""

    def __init__(self, browser, address, name, where="lab"):
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.errors, self.address, self.name = [], address, name
        self.page = browser.new_page(viewport={"width": 1280, "height": 1300})
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        path = {"lab": f"lab/workspaces/{Path(name).stem}/tree", "notebook": "notebooks"}[where]  # no other tab
        self.page.goto(f"{address}/{path}/{name}")
        self.page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=1000 * SECONDS)

    def is_connected(self):
        """Whether the page's kernel is ready and the page listens to it. Before, a run would ask for a kernel."""
        sessions = json.load(urllib.request.urlopen(f"{self.address}/api/sessions", timeout=60))
        kernels = [session["kernel"] for session in sessions if session["path"] == self.name]
        return any(kernel["connections"] and kernel["execution_state"] == "idle" for kernel in kernels)

    def run_all(self):
        """Run all cells. What is run before the kernel listens is lost without a word: then once more."""
        prompts = self.page.locator(".jp-CodeCell .jp-InputPrompt:visible")  # the set-up cell is collapsed, without one
        first = prompts.filter(has_text=re.compile(r"\[.+\]:")).first
        for _ in range(SECONDS):
            if first.inner_text().strip() == "[ ]:" and self.is_connected():
                self.page.get_by_role("menuitem", name="Run", exact=True).click()
                self.page.get_by_role("menuitem", name=re.compile("^Run All Cells$")).click()
                self.page.wait_for_timeout(2000)
            if re.fullmatch(r"\[\d+\]:", first.inner_text().strip()):
                return
            self.page.wait_for_timeout(1000)
        self.page.screenshot(path=SHOTS / "failed.png")
        pytest.fail(f"the first cell has not run after {SECONDS} s")

    def cell(self, word):
        """The first code cell that has this in its source."""
        return self.page.locator(".jp-CodeCell", has=self.page.locator(".cm-content", has_text=word)).first

    def wait_for(self, what):
        """Until something is to be seen on the page, or a cell has failed; then there is a picture of the page."""
        broken = self.page.locator(".jp-OutputArea-output[data-mime-type*='error']")
        for _ in range(2 * SECONDS):
            if what.is_visible():
                return
            if broken.count():
                break
            self.page.wait_for_timeout(500)
        self.page.screenshot(path=SHOTS / "failed.png")
        pytest.fail(broken.first.inner_text() if broken.count() else f"not to be seen after {SECONDS} s: {what}")

    def shoot(self, name, cell):
        cell.scroll_into_view_if_needed()
        self.page.wait_for_timeout(300)
        cell.screenshot(path=SHOTS / f"{name}.png")

    def no_error(self):
        assert not self.page.locator(".jp-OutputArea-output[data-mime-type*='error']").count()
        assert not self.page.get_by_text("Click to show javascript error").count()
        assert not [text for text in self.errors if "view" in text or "widget" in text.lower()], self.errors

    def pixels(self, image):
        """What an image on the page looks like, as bytes that change where it does."""
        return image.evaluate("""async (image) => {
            await image.decode();
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const pen = canvas.getContext("2d");
            pen.drawImage(image, 0, 0);
            return canvas.toDataURL();
        }""")

    def changes(self, image, act):
        """Whether an image looks otherwise soon after something was done."""
        before = self.pixels(image)
        act()
        for _ in range(50):
            self.page.wait_for_timeout(200)
            if self.pixels(image) != before:
                return True
        return False

    def drag(self, slider, pixels):
        """A slider by so many pixels to the right, as the mouse does."""
        slider.scroll_into_view_if_needed()
        box, mouse = slider.bounding_box(), self.page.mouse
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        mouse.move(x, y)
        mouse.down()
        mouse.move(x + pixels, y, steps=5)
        mouse.up()

    def move(self, slider):
        """A slider by five steps, as the keyboard does."""
        slider.focus()
        for _ in range(5):
            slider.press("ArrowRight")


def paint_and_wipe(book, board, shot, says=""):
    """Paint a stroke on the board of `draw_defect`, which changes the answer, and wipe it off, which restores it."""
    board.scroll_into_view_if_needed()
    box = board.locator(".rdlib-canvas").bounding_box()
    mouse = book.page.mouse

    def paint():
        mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.25 * box["height"])
        mouse.down()
        mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.3 * box["height"], steps=6)
        mouse.up()

    answer = board.locator("img.widget-image").nth(1)
    clean = book.pixels(answer)
    assert book.changes(answer, paint)
    board.locator(".rdlib-words").filter(has_text=says).wait_for()
    book.shoot(shot, board)
    assert book.changes(answer, board.get_by_role("button", name="wipe off").click)
    book.page.wait_for_timeout(500)
    assert book.pixels(answer) == clean


@pytest.mark.slow
def test_notebook_07_runs_and_its_explorers_answer(lab, browser):
    book = Page(browser, lab, "07_anomaly_maps.ipynb")
    book.run_all()
    board = book.cell("draw_defect(model, data)")
    book.wait_for(board.locator("img.widget-image").first)
    book.no_error()

    explorer = book.cell("defect_explorer(model, data)")
    explorer.scroll_into_view_if_needed()
    outlined, shown = (explorer.locator("img.widget-image").nth(k) for k in range(2))
    words = explorer.locator(".rdlib-words")
    before = words.inner_text()
    smoothing, threshold, fine = (explorer.get_by_role("slider").nth(k) for k in (1, 2, 3))
    assert book.changes(shown, lambda: book.move(fine)) and words.inner_text() != before
    assert book.changes(shown, lambda: book.move(smoothing))
    assert book.changes(outlined, lambda: book.move(threshold))
    explorer.get_by_role("combobox").first.select_option("missing_hole")
    words.filter(has_text="missing_hole").wait_for()
    book.shoot("07_defect_explorer", explorer)

    paint_and_wipe(book, board, "07_draw_defect", says="called anomalous")
    book.no_error()


@pytest.mark.parametrize("where", ["lab", pytest.param("notebook", marks=pytest.mark.slow)])
def test_an_explorer_answers_the_mouse(lab, browser, where):
    if where == "notebook":
        pytest.importorskip("notebook", minversion="7", reason="Notebook 7 comes with nbgrader")
    book = Page(browser, lab, f"explorer_{where}.ipynb", where)
    book.run_all()
    explorer = book.cell("defect_explorer(model, data)")
    outlined = explorer.locator("img.widget-image").first
    book.wait_for(outlined)
    words = explorer.get_by_role("status").filter(has_text="x normal")
    said = words.inner_text()
    assert book.changes(outlined, lambda: book.drag(explorer.get_by_role("slider").nth(2), -60))
    assert words.inner_text() != said
    book.shoot(f"explorer_{where}", explorer)
    board = book.cell("draw_defect(model, data)")
    book.wait_for(board.locator("img.widget-image").first)
    paint_and_wipe(book, board, f"board_{where}")
    book.no_error()
