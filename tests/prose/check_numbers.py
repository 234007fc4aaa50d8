"""Check that measured numbers stand in an output above a notebook's text or in a generated table: `make prose`.

A typed number is right on the day it is typed; then the outputs are renewed and the text is not. Print a measured
number from a variable, and let the text say what to look for. allowed.toml lists the exceptions: a section for each
notebook or page, a line for each phrase with its reason.

A number looks measured if it has a decimal point, a percent sign, a unit, or says how many times more something is. Not
checked: code, formulas, references, the first cell's table, and numbers that stand in the notebook's code (settings).
"""
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from series import notebooks

ROOT = Path(__file__).parents[2]

ALLOWED = tomllib.loads(Path(__file__).with_name("allowed.toml").read_text(encoding="utf-8"))
FOLDERS = (".", "data/**", "rdlib", "notebooks", "notebooks/exercises", "tests")  # tests/ has the results' page in raw
PAGES = sorted(path for folder in FOLDERS for path in ROOT.glob(f"{folder}/*.md")
               if "results" not in path.parts and path.name != "CHANGELOG.md")  # data/results is generated as a whole
NAMES = "one two three four five six seven eight nine ten eleven twelve".split()
WORDS = {word: str(n) for n, word in enumerate(NAMES, 1)}
NOT_PROSE = re.compile(r"^```.*?^```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|(?<=\])\([^()\s]*\)|§\s?[\d.]+"
                       r"|^## References.*", re.M | re.S)
NUMBER = r"(?<![\w.,/^])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?"
UNIT = (r"\s*(?:%|per\s+cent)|\s?(?:ms|s|seconds?|minutes?|hours?|[kMG]B|images/s)\b"
        r"|\s+times(?=\s+(?:as|less|more|fewer|larger|smaller|better|worse|faster|slower)\b)")
CLAIM = re.compile(rf"(?:({NUMBER})|\b({'|'.join(WORDS)})(?=\s))({UNIT})|({NUMBER})(?<=\d)(?![\w.]*\d)")
SHOWN = re.compile(rf"({NUMBER})({UNIT}|\s+times\b)?")


class Number(NamedTuple):
    """A number in a text: where it stands, its value, its digits behind the point, its unit."""

    start: int
    end: int
    value: float
    digits: int
    unit: str

    def found_in(self, shown: "list[Number]") -> bool:
        """Tell whether it is one of the numbers shown, or one of them rounded. 95 % is found in 0.951, too."""
        def near(other: Number) -> bool:
            factor = 100 if self.unit == "%" and other.unit != "%" else 1
            if factor == 100 or not self.unit:
                fits = other.digits > 0  # a whole number is a count
            else:
                fits = self.unit == other.unit
            return fits and abs(factor * other.value - self.value) <= 0.5 * 10.0 ** -self.digits + 1e-9

        return any(near(other) for other in shown)


def number(match: re.Match, digits: str, unit: str | None) -> Number:
    """Return the number that a match says. A unit is known by its first letters: minute and minutes are one."""
    digits, unit = digits.replace(",", ""), re.sub(r"per\s+cent", "%", (unit or "").strip())
    mantissa, _, exponent = digits.partition("e")
    behind = len(mantissa.partition(".")[2]) - int(exponent or 0)
    return Number(*match.span(), float(digits), behind, unit if unit in ("s", "ms") else unit[:3])


def measured(text: str) -> list[Number]:
    """Find the numbers of a Markdown text that look measured."""
    prose = NOT_PROSE.sub(lambda hidden: re.sub(r"\S", " ", hidden[0]), text)
    found = [number(m, m[1] or WORDS.get(m[2]) or m[4], m[3]) for m in CLAIM.finditer(prose)]
    return [n for n in found if n.unit or n.digits > 0]


def shown(text: str) -> list[Number]:
    """Find all numbers of an output or of code."""
    return [number(match, *match.groups()) for match in SHOWN.finditer(text)]


def outputs(cell: nbformat.NotebookNode) -> str:
    """Return the text that a cell shows, without HTML tags."""
    texts = [text for output in cell.outputs for text in
             (output.get("text", ""), *(value for kind, value in output.get("data", {}).items() if "text/" in kind))]
    return re.sub(r"<style.*?</style>|<[^>]*>", " ", "\n".join(texts), flags=re.S)


def unfounded(notebook: nbformat.NotebookNode, allowed: dict[str, str]) -> tuple[list[str], set[str]]:
    """List the measured numbers of the text that no output above shows; and the phrases that allow one."""
    code = [n for cell in notebook.cells if cell.cell_type == "code" for n in shown(cell.source) if n.digits > 0]
    above, found, used = [], [], set()
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            above += shown(outputs(cell))
            continue
        text = cell.source if place else re.sub(r"^\|.*", "", cell.source, flags=re.M)
        spans = {phrase: match.span() for phrase in allowed
                 if (match := re.search(r"\s+".join(map(re.escape, phrase.split())), text))}
        for n in measured(text):
            if n.found_in(above) or any(abs(n.value - scale * c.value) < 1e-9 for c in code for scale in (1, 100)):
                continue
            phrases = {phrase for phrase, (start, end) in spans.items() if start <= n.start and n.end <= end}
            used |= phrases
            if not phrases:
                found.append(f"cell {place}: {' '.join(text[max(0, n.start - 40):n.end + 30].split())}")
    return found, used


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_measured_numbers_stand_in_an_output_above(path):
    allowed = ALLOWED.get(path.stem, {})
    found, used = unfounded(nbformat.read(path, as_version=4), allowed)
    assert not found, "print these from variables, or give a reason in allowed.toml:\n" + "\n".join(found)
    assert used == set(allowed), "not needed any more in allowed.toml"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_types_no_measured_number(path):
    """Outside tables, which are generated or tested against the records."""
    allowed = ALLOWED.get(path.relative_to(ROOT).as_posix(), {})
    text = re.sub(r"^\|.*", "", path.read_text(encoding="utf-8"), flags=re.M)
    text = re.sub(r"Python 3\.\d+( to 3\.\d+)?|Apache-2\.0|CC BY[\w-]* \d\.\d", "", text)  # versions
    page = nbformat.v4.new_notebook(cells=[new_markdown_cell("# Title"), new_markdown_cell(text)])
    found, used = unfounded(page, allowed)
    assert not found, "generate these from records, or give a reason in allowed.toml:\n" + "\n".join(found)
    assert used == set(allowed), "not needed any more in allowed.toml"


def test_every_exception_names_a_notebook_or_a_page_and_has_a_reason():
    assert set(ALLOWED) <= {path.stem for path in notebooks()} | {p.relative_to(ROOT).as_posix() for p in PAGES}
    assert all(len(reason.split()) > 2 for phrases in ALLOWED.values() for reason in phrases.values())


def page(*cells):
    """Build a notebook of the cells: a Markdown text, or (code, output)."""
    made = [new_markdown_cell(cell) if isinstance(cell, str) else
            new_code_cell(cell[0], outputs=[new_output("stream", text=cell[1])]) for cell in cells]
    return nbformat.v4.new_notebook(cells=[new_markdown_cell("# Title"), *made])


@pytest.mark.parametrize(("output", "text", "missing"), [
    # as notebook 06 once had it: four texts, each from another run than its output
    ("2 0.000304 ... 8 0.000475", "The second losses differ by 0.00003, the last by 0.007.", ["0.00003", "0.007"]),
    ("cloth 0.3531, defective 0.3561, gears 0.3779", "It moves by one per cent, gears by nine.", ["one per cent"]),
    ("0.695, 0.623, 0.773; swing 0.063, 0.016", "0.74, then 0.56; six times less.", ["0.74", "0.56", "six times"]),
    ("never seen 0.328, trained on 0.308", "A gap, 0.333 against 0.313, that stays.", ["0.333", "0.313"]),
    ("0.951 and 0.9496", "It is 0.95 of all.", []),
    ("0.944", "It is 0.95 of all.", ["0.95"]),
    ("0.951", "Of all, 95 % were found.", []),
    ("95 images", "Of all, 95 % were found.", ["95 %"]),
    ("−0.0041", "It is behind by 0.004.", []),
    ("0.25 s a step, 1.21 times as fast", "It takes 0.3 s, and is 1.2 times as fast.", []),
    ("0.25 s a step", "It takes 0.25 minutes.", ["0.25 minutes"]),
    ("1,234.5 numbers", "There are 1,234.5 numbers; see §3.4, `x = 0.7` and $y = 0.8$.", []),
])
def test_a_number_that_no_output_has_is_found(output, text, missing):
    found, _ = unfounded(page(("1 + 1", output), text), {})
    assert len(found) == len(missing) and all(word in line for word, line in zip(missing, found, strict=True)), found


def test_an_output_below_does_not_count_and_a_setting_does():
    assert unfounded(page("It is 0.42.", ("x", "0.42")), {})[0]
    assert not unfounded(page("The rate is 0.42, that is 42 %.", ("fit(lr=0.42)", "")), {})[0]


def test_a_phrase_allows_the_numbers_in_it_and_no_others():
    text = "published: 98.5\nand 97.1; measured: 0.61"
    found, used = unfounded(page(text), {"98.5 and 97.1": "published", "0.99 elsewhere": "gone"})
    assert len(found) == 1 and "0.61" in found[0] and used == {"98.5 and 97.1"}
