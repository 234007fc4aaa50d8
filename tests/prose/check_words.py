"""Check for words that the kit's texts avoid, since many readers are not native speakers: `make prose`."""
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATTERNS = ("*.md", "data/**/*.md", "notebooks/*.md", "notebooks/*.py", "notebooks/exercises/*.md",
            "notebooks/exercises/*.py", "rdlib/**/*.md",
            "rdlib/**/*.py")
FILES = sorted({path for pattern in PATTERNS for path in ROOT.glob(pattern)} - {ROOT / "CHANGELOG.md"})
AVOIDED = {  # what to write instead
    r"\banew\b": "again, or new",
    r"\bwhichever\b|\bwhatever\b": "any, or every",
    r"\bby halves\b": "incompletely",
    r"\bsaid of\b": "said about, or predicted for",
    r"\bholds? against\b": "compares with",
    r"\bso many\b": "that number of",
    r"\bas it comes\b|\bas they come\b": "unchanged",
    r"\bthere (is|are) that\b": "a subject and a verb",
    r"\bRaises? as\b": "the exceptions themselves",
    r"§": "the part's name: eq. 1, MFF, anomaly map; section numbers could not be verified",
    r"(?i)\b(normalis|initialis|optimis)(e|er|ed|ing|ation)\b": "American spelling, as in torch's API",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_plain_words(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [f"{path.relative_to(ROOT)}:{number}: {match[0]!r}: write {instead}" for number, line in enumerate(lines, 1)
             for words, instead in AVOIDED.items() for match in re.finditer(words, line)]
    assert not found, "\n".join(found)
