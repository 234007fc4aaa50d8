"""Set up the tests of the notebooks."""
import os

# A bar sends messages each time it is drawn. nbval reads them when a cell is done, and where more than a thousand have
# piled up, some are lost and it waits in vain for the last one.
os.environ.setdefault("TQDM_MININTERVAL", "2")


def pytest_configure(config):
    config.pluginmanager.import_plugin("suite")
