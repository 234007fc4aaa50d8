"""Notebooks as they are stored: executed in order, clean, and made for readers. nbval runs them."""
import re
from pathlib import Path

import nbformat
import pytest

BOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=BOOKS, ids=lambda path: path.stem)
def book(request):
    return request.param, nbformat.read(request.param, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_executed_top_to_bottom_and_clean(book):
    path, notebook = book
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert not [o for o in outputs if "application/vnd.jupyter.widget-view+json" in o.get("data", {})]
    assert "widgets" not in notebook.metadata and path.stat().st_size < 2_000_000


def test_made_for_readers(book):
    _, notebook = book
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    headings = re.findall(r"^(#+) ", "\n".join(prose), re.M)
    assert headings[0] == "#" and headings.count("#") == 1
    assert all(len(b) <= len(a) + 1 for a, b in zip(headings, headings[1:])), "a heading level is skipped"
    lines = [len([line for line in cell.source.splitlines() if line.strip()]) for cell in code(notebook)]
    words = sum(len(text.split()) for text in prose)
    assert max(lines) <= 40 and sorted(lines)[len(lines) // 2] <= 6 and words / sum(lines) >= 5


def test_every_picture_has_alt_text_and_a_line_below(book):
    _, notebook = book
    for cell in code(notebook):
        for place, output in enumerate(cell.outputs):
            for kind in {"image/png", "image/jpeg"} & set(output.get("data", {})):
                alt = output.metadata.get(kind, {}).get("alt")
                assert alt and alt[:40] in str(cell.outputs[place + 1].get("text", "")), cell.source
