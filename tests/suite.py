"""How the suite runs: two processes of one thread, a data folder of its own, long files first, and what each file took."""
import os
import tempfile
from collections import Counter

# A process takes a file after the other. A long one that began last would keep one of them idle.
LONGEST = []


def pytest_configure(config):
    """What is trained once for several tests and notebooks lives as long as the session: no test is served with what
    the user has trained, or an earlier version of the code. Processes that are started from here inherit the folder."""
    if hasattr(config, "workerinput"):
        return
    folder = tempfile.TemporaryDirectory(prefix="rdlib-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(folder.cleanup)
    os.environ["RDLIB_DATA"] = folder.name
    if config.getoption("numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items):
    """The longest files first, the others in their order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


def pytest_terminal_summary(terminalreporter):
    """How long each file took, a second or more, and the processors together, with all that was started and has ended."""
    seconds = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            seconds[getattr(report, "nodeid", "").partition("::")[0]] += getattr(report, "duration", 0)
    terminalreporter.section(f"files: {sum(seconds.values()) / 60:.1f} minutes; CPU: {sum(os.times()[:4]) / 60:.1f} minutes")
    for name, spent in seconds.most_common():
        if spent >= 1:
            terminalreporter.write_line(f"{spent:6.0f}s {name}")
