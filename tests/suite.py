"""Set up the suite: processes of one thread, a data folder of their own, long files first, the time of each file."""
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

# A process takes one file after another, so a long one that began last would leave the other process idle. The second
# and the third do not wait for models that the first trains.
LONGEST = ["02_teacher_and_student.ipynb", "12_your_own_images.ipynb", "test_reproduction.py", "06_training.ipynb",
           "test_colab.py", "test_exercises.py", "05_student_and_loss.ipynb", "test_browser.py", "00_quickstart.ipynb",
           "test_training.py", "test_synthetic.py", "11_the_papers_tables.ipynb", "10_novelty_detection.ipynb",
           "test_commands.py", "03_the_teacher.ipynb", "test_parity.py", "09_ablations.ipynb", "07_anomaly_maps.ipynb"]


def pytest_configure(config):
    """Keep what is trained once for several tests and notebooks in a folder that lives as long as the session.

    No test is served with what the user, or an earlier version of the code, has trained. So notebook 12's own example
    goes first. Processes that are started from here inherit the folder.
    """
    if hasattr(config, "workerinput"):
        return
    folder = tempfile.TemporaryDirectory(prefix="rdlib-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(folder.cleanup)
    os.environ["RDLIB_DATA"] = folder.name
    shutil.rmtree(Path(__file__).parents[1] / "build/own_images/cpu/capsules", ignore_errors=True)
    if config.getoption("numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items):
    """Put the longest files first, the others in their order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


def pytest_terminal_summary(terminalreporter):
    """Print how long each file took, if a second or more, and the processor time of all processes together."""
    seconds = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            seconds[getattr(report, "nodeid", "").partition("::")[0]] += getattr(report, "duration", 0)
    processors = sum(os.times()[:4])
    terminalreporter.section(f"files: {sum(seconds.values()) / 60:.1f} minutes; CPU: {processors / 60:.1f} minutes")
    for name, spent in seconds.most_common():
        if spent >= 1:
            terminalreporter.write_line(f"{spent:6.0f}s {name}")
