"""Notebooks as they are stored: executed in order, clean, and made for readers. nbval runs them."""
import ast
import json
import re
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import median
from urllib.parse import unquote

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "notebooks"))
from series import anchor, card, notebooks, planned, repository, setup_cell  # noqa: E402

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


def test_one_title_and_no_heading_skipped(book):
    _, notebook = book
    text = re.sub(r"^```.*?^```", "", "\n".join(prose(notebook)), flags=re.M | re.S)
    headings = re.findall(r"^(#+) ", text, re.M)
    assert headings[0] == "#" and headings.count("#") == 1
    assert all(len(b) <= len(a) + 1 for a, b in pairwise(headings)), "a heading level is skipped"


def test_more_prose_than_code_in_short_cells(book):
    path, notebook = book
    lines = [len([line for line in cell.source.splitlines() if line.strip()]) for cell in code(notebook)]
    words = sum(len(text.split()) for text in prose(notebook))
    assert max(lines) <= 40 and median(lines) <= 6, sorted(lines)
    most = 25 if path.stem == "00_quickstart" else 16  # it leaves everything to the library: a call, then what it means
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


def test_the_first_two_code_cells(book):
    """The same set-up everywhere, then versions, one seed and one device."""
    _, notebook = book
    setup, imports = code(notebook)[:2]
    assert setup.id == "setup" and setup.source == setup_cell(repository()) and tagged(setup)
    assert re.search(r"^SEED\b[^=]*= \d", imports.source, re.M) and "device" in imports.source
    assert "__version__" in imports.source and tagged(imports)


@pytest.mark.parametrize("installed, cloned, expected", [
    (False, False, ["git clone", "nvidia-smi", "cd kit/notebooks"]),
    (True, True, ["cd kit/notebooks"]),  # in Colab, after a restart
    (True, False, [])])
def test_the_set_up_cell_fetches_the_kit_where_it_is_missing_and_finds_it_again(installed, cloned, expected, tmp_path,
                                                                                monkeypatch):
    done = []

    class Shell:
        def system(self, command):
            done.append(command)
            if command.startswith("git clone"):
                (tmp_path / "kit/notebooks").mkdir(parents=True)

        def run_line_magic(self, name, line):
            done.append(f"{name} {line}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: installed or None)
    monkeypatch.setattr("site.main", lambda: None)
    if cloned:
        (tmp_path / "kit/notebooks").mkdir(parents=True)
    exec(setup_cell("https://github.com/someone/kit"), {"get_ipython": Shell})
    assert [command for command, start in zip(done, expected, strict=True) if command.startswith(start)] == done
    assert all("kit[notebooks,export]" in command for command in done if "pip" in command)


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


def test_terms_are_linked_to_the_glossary_once(book):
    """Where they are first used: a practical check is that there are some, and none twice."""
    _, notebook = book
    terms = [address.partition("#")[2] for address in links(notebook) if address.startswith("glossary.md#")]
    assert len(terms) == len(set(terms)), sorted(term for term in terms if terms.count(term) > 1)
    assert len(terms) >= 8, terms
