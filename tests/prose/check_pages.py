"""Check the notebooks' text: length, headings, the first cell, terms: `make prose`."""
import re
from itertools import pairwise
from pathlib import Path
from statistics import median

import nbformat
import pytest
from series import card, exercises, notebooks, planned
from test_notebooks import LINK, code, links, prose, read

ROOT = Path(__file__).parents[2]
MINUTES = {"ex1_metrics": 45, "ex2_bottleneck": 45, "ex3_decoder": 50, "ex4_loss_and_map": 50, "ex5_ablation": 60,
           "ex6_threshold": 40}


@pytest.fixture(params=notebooks(), ids=lambda path: path.stem)
def book(request):
    return request.param, read(request.param)


def test_one_title_and_no_heading_skipped(book):
    _, notebook = book
    text = re.sub(r"^```.*?^```", "", "\n".join(prose(notebook)), flags=re.M | re.S)
    headings = re.findall(r"^(#+) ", text, re.M)
    assert headings[0] == "#" and headings.count("#") == 1
    assert all(len(b) <= len(a) + 1 for a, b in pairwise(headings)), "a heading level is skipped"


def test_more_prose_than_code_in_short_cells(book):
    path, notebook = book
    lines = [len([line for line in cell.source.splitlines() if line.strip()]) for cell in code(notebook)
             if cell.id != "setup"]
    words = sum(len(text.split()) for text in prose(notebook))
    assert max(lines) <= 40 and median(lines) <= 6, sorted(lines)
    most = 27 if path.stem == "00_quickstart" else 18  # the quickstart leaves all to the library
    assert 5 <= words / sum(lines) <= most, f"{words / sum(lines):.1f} words of prose to a line of code"


def test_first_cell_says_what_it_takes(book):
    path, notebook = book
    first = notebook.cells[0].source
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", first, re.M)
    assert rows == ["What you need first", "Time", "GPU", "Memory", "Network"]
    assert card(path).title


def test_first_cell_leads_to_the_neighbours(book):
    path, notebook = book
    order = list(planned())
    place = order.index(path.stem)
    neighbours = {f"{name}.ipynb" for name in order[max(place - 1, 0):place + 2]} - {path.name}
    assert neighbours <= {address for _, address in LINK.findall(notebook.cells[0].source)}


def test_terms_are_linked_to_the_glossary_once(book):
    """Where they are first used: a practical check is that there are some, and none twice."""
    _, notebook = book
    terms = [address.partition("#")[2] for address in links(notebook) if address.startswith("glossary.md#")]
    assert len(terms) == len(set(terms)), sorted(term for term in terms if terms.count(term) > 1)
    assert len(terms) >= 8, terms


@pytest.mark.parametrize("path", exercises(), ids=lambda path: path.stem)
def test_an_exercise_says_its_time_and_points_as_the_pages_do(path):
    notebook, minutes = nbformat.read(path, as_version=4), MINUTES[path.stem]
    points = sum(cell.metadata.get("nbgrader", {}).get("points", 0) for cell in notebook.cells)
    first = notebook.cells[0].source
    assert first.startswith("# Exercise ") and f"| Points | {points}" in first
    assert f"about {minutes} minutes" in first and 30 <= minutes <= 60
    for_teachers, for_students = ((ROOT / "notebooks/exercises" / name).read_text(encoding="utf-8")
                                  for name in ("README.md", "STUDENTS.md"))
    assert re.search(rf"\| \[`{path.stem}`\].*\| {minutes} \| {points} \|", for_teachers)
    assert f"`{path.stem}`" in for_students
