"""Notebooks as they are stored: executed in order, clean, and made for readers. nbval runs them."""
import ast
import json
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from series import COLLAPSED, anchor, notebooks, planned, repository, setup_cell

ROOT = Path(__file__).parents[1]

MACHINE_PATH = re.compile(r"(?<![\w.~$}/])/(?:work|tmp|root|home|mnt|opt|usr|var|Users)/[\w./-]+")
LINK = re.compile(r"(?<!!)\[((?:[^][]|\[[^]]*\])*)\]\(([^()\s]+(?:\([^()]*\))?)\)")  # [words](where), no picture
PROGRESS = {"fit", "lesson", "evaluate"}  # draw a bar, which no two runs print alike


@cache
def read(path):
    return nbformat.read(path, as_version=4)


@pytest.fixture(params=notebooks(), ids=lambda path: path.stem)
def book(request):
    return request.param, read(request.param)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def tagged(cell):
    return "nbval-ignore-output" in cell.metadata.get("tags", [])


def without_code(text):
    """Markdown without what stands in code fences and in backticks."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def links(notebook):
    return [address for text in prose(notebook) for _, address in LINK.findall(without_code(text))]


@cache
def anchors(path):
    """The fragments that a page has: of a Markdown file or of a notebook."""
    text = "\n\n".join(prose(read(path))) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return {anchor(line) for line in re.findall(r"^#+ .*", text, re.M)}


def test_executed_top_to_bottom(book):
    path, notebook = book
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    assert not [o for cell in code(notebook) for o in cell.outputs if o.output_type == "error"]
    assert path.stat().st_size < 2_000_000


def test_clean(book):
    _, notebook = book
    assert "widgets" not in notebook.metadata
    for cell in code(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            assert output.get("name") != "stderr", cell.source
            assert "application/vnd.jupyter.widget-view+json" not in data, cell.source
            shown = json.dumps([output.get("text", ""), *(v for kind, v in data.items() if kind.startswith("text/"))])
            assert not MACHINE_PATH.search(shown) and "Warning" not in shown, f"{cell.source}\n{shown}"
            assert "image/svg+xml" not in data and not re.search(r" at 0x[0-9a-f]{6,}", shown), "differs in every run"
        assert not MACHINE_PATH.search(cell.source), cell.source


def test_the_first_two_code_cells(book):
    """The same set-up everywhere, then versions, one seed and one device."""
    _, notebook = book
    setup, imports = code(notebook)[:2]
    assert setup.id == "setup" and setup.source == setup_cell(repository()) and tagged(setup)
    assert COLLAPSED.items() <= setup.metadata.items()
    assert re.search(r"^SEED\b[^=]*= \d", imports.source, re.M) and "device" in imports.source
    assert "__version__" in imports.source and tagged(imports)


def test_cells_with_a_progress_bar_are_not_compared(book):
    _, notebook = book
    for cell in code(notebook):
        statements = [s for s in ast.parse(re.sub(r"^[%!].*", "pass", cell.source, flags=re.M)).body
                      if not isinstance(s, ast.FunctionDef | ast.ClassDef)]
        calls = [node for s in statements for node in ast.walk(s)
                 if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PROGRESS]
        silent = [ast.unparse(call).endswith("progress=False)") for call in calls]
        assert tagged(cell) or all(silent), cell.source


def test_every_picture_has_alt_text_and_a_line_below(book):
    _, notebook = book
    assert all(words.strip() for text in prose(notebook) for words in re.findall(r"!\[(.*?)\]\(", text))
    assert all('alt="' in tag for text in prose(notebook) for tag in re.findall(r"<img[^>]*>", text))
    for cell in code(notebook):
        for place, output in enumerate(cell.outputs):
            for kind in {"image/png", "image/jpeg"} & set(output.get("data", {})):
                alt = output.metadata.get(kind, {}).get("alt")
                assert alt and alt[:40] in str(cell.outputs[place + 1].get("text", "")), cell.source


def test_links_lead_somewhere(book):
    path, notebook = book
    for address in links(notebook):
        place, _, fragment = address.partition("#")
        if re.match(r"[a-z]+:", place):
            continue
        target = (path.parent / unquote(place)).resolve() if place else path
        to_come = target.parent == path.parent and target.stem in planned() and not target.exists()
        assert target.exists() or to_come, address
        assert not fragment or to_come or fragment in anchors(target), address
