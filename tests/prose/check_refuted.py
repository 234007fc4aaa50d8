"""Check that sentences which a run of this project contradicts do not come back: `make prose`."""
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
REFUTED = {  # what was said, and what contradicts it
    r"no room for|finds no room|too poor for anything|too small to carry": "notebook 04: it damps a defect",
    r"cannot (just |merely )?imitate|can only restore what is normal": "notebook 02: the reverse student imitates less",
    r"wins on (both )?(objects|textures|gears|cloth)|forward one on (gears|objects)": "they had different losses",
    r"what differs is the method alone": "the forward student has another loss",
    r"cannot warn|discrepancy has vanished": "notebook 02: the forward student finds the broken teeth, too",
    r"differs in three ways": "the two students of notebook 02 differ in a fourth, the loss",
    r"two fifths of a training step": "notebook 06 counts it: it depends on the backbone",
    r"more than any scale, to see it": "notebooks 03 and 07: the fine scale shows a missing hole",
    r"every place weighs the same\. |every position the same weight": "notebook 05: in the loss, not in its gradient",
    r"in \[0, 6\]": "features are not negative: three distances of at most 1",
    r"fifteen other pixels": "the windows of convolution and pooling overlap",
    r"outweighs? everything else": "notebook 09: the scales cost more than what a teacher has seen brings",
}


def texts(root):
    """Yield every text of the project as one line, by its path: pages, notebooks (with what they print), modules."""
    for path in sorted(path for pattern in ("*.md", "data/**/*.md", "notebooks/**/*.md", "rdlib/**/*.py")
                       for path in root.glob(pattern)):
        yield path, " ".join(path.read_text(encoding="utf-8").split())
    for path in sorted(root.glob("notebooks/**/*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        printed = [output.get("text", "") for cell in cells for output in cell.get("outputs", [])]
        yield path, " ".join(" ".join([*(cell.source for cell in cells), *printed]).split())


@pytest.mark.parametrize("phrase", REFUTED)
def test_no_text_says_what_a_run_contradicts(phrase):
    found = [f"{path.relative_to(ROOT)}: ...{text[max(0, match.start() - 50):match.end() + 20]}..."
             for path, text in texts(ROOT) for match in re.finditer(phrase, text, re.I)]
    assert not found, f"{REFUTED[phrase]}\n" + "\n".join(found)
