"""`make book`: every page complete, every link alive, readable in a browser at two widths, without a network."""
import html
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import nbformat
import pytest
from book import Book
from bs4 import BeautifulSoup
from pages import formula
from PIL import Image
from series import notebooks

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    book = Book(ROOT, tmp_path_factory.mktemp("book"))
    book.build()
    return book


class Parsed(HTMLParser):
    """A page's tags, by a parser that had no part in making it."""

    def __init__(self, path):
        super().__init__()
        self.tags = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def ids(self):
        return [attrs["id"] for _, attrs in self.tags if "id" in attrs]


@pytest.fixture(scope="module")
def pages(book):
    return {path.name: Parsed(path) for path in book.out.glob("*.html")}


def test_everything_was_found(book, pages):
    assert book.problems == []
    assert {"index.html", "glossary.html", "readme.html"} <= set(pages)
    assert {f"{path.stem}.html" for path in notebooks()} <= set(pages)


def test_no_link_is_dead_and_no_picture_is_missing(book, pages):
    for name, page in pages.items():
        addresses = [a["href"] for a in page.all("a")] + [i["src"] for i in page.all("img")]
        for address in addresses:
            place, _, fragment = unquote(address).partition("#")
            if place.startswith(("https://", "http://", "mailto:")):
                continue
            assert not place or (book.out / place).is_file(), f"{name}: {address}"
            assert not fragment or fragment in pages[place or name].ids, f"{name}: {address}"
        assert len(page.ids) == len(set(page.ids)), name


def test_nothing_comes_from_elsewhere(pages):
    for name, page in pages.items():
        assert not page.all("script") and not page.all("iframe"), name
        assert all(i["src"] and ":" not in i["src"] for i in page.all("img")), name
        assert [link["href"] for link in page.all("link")] == ["style.css"], name


def test_pages_are_made_for_every_reader(pages):
    for name, page in pages.items():
        assert page.all("html") == [{"lang": "en"}] and len(page.all("h1")) == 1, name
        assert any("width=device-width" in (meta.get("content") or "") for meta in page.all("meta")), name
        assert all(image.get("alt", "").strip() for image in page.all("img")), name


def test_every_stored_picture_is_there_with_its_words(book, pages):
    for path in notebooks():
        stored = [output.metadata[kind]["alt"] for cell in nbformat.read(path, as_version=4).cells
                  for output in cell.get("outputs", []) for kind in output.get("data", {}) if kind.startswith("image/")]
        shown = [image for image in pages[f"{path.stem}.html"].all("img") if image["src"].startswith(path.stem)]
        assert [image["alt"] for image in shown] == stored
        assert all(Image.open(book.out / image["src"]).width > 300 for image in shown)
        text = html.unescape((book.out / f"{path.stem}.html").read_text(encoding="utf-8"))
        assert all(f"<figcaption>{alt}</figcaption>" in text for alt in stored)


def test_code_and_printed_text_are_kept(book):
    """Also the line that is printed below an image: as its caption. The set-up cell is of no use on a page."""
    for path in notebooks():
        soup = BeautifulSoup((book.out / f"{path.stem}.html").read_text(encoding="utf-8"), "html.parser")
        text = "".join(soup.get_text().split())
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                assert ("".join(cell.source.split()) in text) == (cell.id != "setup"), cell.source
                printed = "".join(o.text for o in cell.outputs if o.get("name") == "stdout")
                assert all("".join(line.split()) in text for line in printed.splitlines()), printed


def test_printed_sentences_wrap_and_columns_do_not(tmp_path):
    root = small(tmp_path / "kit", "text")
    path = root / "notebooks/00_one.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells += [nbformat.v4.new_code_cell("show()", outputs=[nbformat.v4.new_output("stream", text=text)])
                       for text in ("one sentence", "two  columns")]
    nbformat.write(notebook, path)
    Book(root, tmp_path / "out").build()
    soup = BeautifulSoup((tmp_path / "out/00_one.html").read_text(encoding="utf-8"), "html.parser")
    assert [(pre.get_text().strip(), pre.get("class")) for pre in soup.select(".output_stdout pre")] == [
        ("one sentence", ["sentences"]), ("two  columns", None)]


def test_formulas_are_drawn(pages):
    assert any("gamma" in svg["aria-label"] for svg in pages["glossary.html"].all("svg"))


@pytest.mark.parametrize("tex", [r"\tfrac12 \lVert a \rVert^2 \le 1", r"\sum_k \Bigl(1 - \frac{f \cdot g}{h}\Bigr)",
                                 r"x_{\text{train set}} \ge \dfrac{1}{2}"])
def test_what_notebooks_write_can_be_drawn(tex):
    """What is there is drawn, larger in a line of its own, and its words are the TeX."""
    inline, block = (ElementTree.fromstring(formula(tex, block)) for block in (False, True))
    assert inline.get("aria-label") == block.get("aria-label") == tex
    assert float(inline.get("height")[:-2]) < float(block.get("height")[:-2]) < 5  # in the text's em


def small(root, cell):
    """A checkout with one notebook."""
    shutil.copytree(ROOT / "notebooks/book", root / "notebooks/book")
    (root / "notebooks/book/index.md").write_text("# Book\n", encoding="utf-8")
    (root / "notebooks/map.toml").write_text('00_one = "this"\n01_two = "that"\n', encoding="utf-8")
    for path in ("notebooks/glossary.md", "README.md"):
        (root / path).write_text("# Words\n", encoding="utf-8")
    first = "# One\n\n| | |\n|---|---|\n| Time | one minute on a 2-core CPU; not yet measured on a T4 |\n"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(t) for t in (first, cell)]),
                   root / "notebooks/00_one.ipynb")
    return root


def test_what_leads_nowhere_is_named(tmp_path):
    cell = ("[gone](gone.md) ![gone](gone.png) $\\nonsense{x}$ [outside](../../outside.md) [to come](01_two.ipynb) "
            "[data](../README.md#words) [![Open in Colab](https://example.org/badge.svg)](https://example.org)")
    book = Book(small(tmp_path / "kit", cell), tmp_path / "out")
    book.build()
    assert len(book.problems) == 4
    for words in ("leads to gone.md", "leads to gone.png", "leads to ../../outside.md", r"cannot draw: \nonsense{x}"):
        assert any(words in problem and "00_one" in problem for problem in book.problems), words
    page = (tmp_path / "out/00_one.html").read_text(encoding="utf-8")
    assert 'href="readme.html#words"' in page and "to come" in page and "01_two" not in page
    assert ">Open in Colab</a>" in page and "badge.svg" not in page


def test_an_exercise_keeps_its_solution_to_itself(tmp_path):
    root = small(tmp_path / "kit", "[exercise](exercises/source/ex/ex.ipynb)")
    source = ("def f():\n    ### BEGIN SOLUTION\n    return 'secret'\n    ### END SOLUTION\n\nf()\n"
              "### BEGIN HIDDEN TESTS\nassert hidden\n### END HIDDEN TESTS")
    (root / "notebooks/exercises/source/ex").mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Exercise"),
                                                   nbformat.v4.new_code_cell(source)]),
                   root / "notebooks/exercises/source/ex/ex.ipynb")
    book = Book(root, tmp_path / "out")
    book.build()
    page = (tmp_path / "out/exercises-source-ex-ex.html").read_text(encoding="utf-8")
    assert not book.problems and "NotImplementedError" in page and "secret" not in page and "hidden" not in page


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match="something else than a book"):
        Book(ROOT, tmp_path)


@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(book, browser, width):
    """Every picture loads, nothing sticks out sideways, nothing is asked of a network, letters are large enough."""
    tab = browser.new_page(viewport={"width": width, "height": 850})
    trouble = []
    tab.on("requestfailed", lambda request: trouble.append(request.url))
    tab.on("console", lambda message: trouble.append(message.text))
    tab.on("request", lambda request: request.url.startswith("file://") or trouble.append(request.url))
    for name in ["index.html", "glossary.html", "readme.html", *(f"{path.stem}.html" for path in notebooks())]:
        tab.goto(f"file://{book.out / name}")
        broken = tab.evaluate("[...document.images].filter(i => !(i.complete && i.naturalWidth)).map(i => i.src)")
        too_wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        size = tab.evaluate("parseFloat(getComputedStyle(document.querySelector('main p')).fontSize)")
        assert (broken, too_wide, trouble) == ([], 0, []) and size >= 16, name
    tab.goto(f"file://{book.out / 'glossary.html'}#auroc")
    assert 0 <= tab.evaluate("document.getElementById('auroc').getBoundingClientRect().top") < 200
    tab.close()
