"""`make book`: the executed notebooks as pages to read without a kernel, and without a network.

    python notebooks/book.py [--out build/book]

Notebooks, glossary, README and every file of the kit that they link to become pages beside each other. Links and images
that lead nowhere, and formulas that cannot be drawn, are listed; the exit status is then 1.
"""
import argparse
import os
import shutil
import sys
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import jinja2
import nbformat
from bs4 import BeautifulSoup
from pages import Exporter, captions_once, markdown, mend_headings, mend_pictures, mend_printing, without_solutions
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from series import ROOT, Card, card, notebooks, planned

TEXTS = (".ipynb", ".md")  # become pages to read; other files are shown as they are ...
COPIED = (".png", ".jpg", ".jpeg", ".svg", ".gif", ".safetensors", ".npz", ".onnx")  # ... but for these


class Page(NamedTuple):
    """Where a page comes from, and its title."""

    page: str  # its file name
    title: str


class Book:
    """A folder of pages in the making.

    Args:
        root: the checkout.
        out: the folder, which is emptied first.

    Raises:
        ValueError: `out` holds something else than a book.
    """

    def __init__(self, root: Path, out: Path):
        self.root, self.out = root.resolve(), out
        if out.exists() and any(out.iterdir()) and not (out / "index.html").exists():
            raise ValueError(f"{out} holds something else than a book. Name another folder.")
        self.parts = self.root / "notebooks/book"  # first page, template, style
        self.first = self.parts / "index.md"
        self.cards: list[Card] = [card(path) for path in notebooks(self.root)]
        self.names: dict[Path, str] = {self.first: "index.html", self.root / "notebooks": "index.html"}
        self.queue: list[Path] = [self.first]
        self.problems: list[str] = []
        self.template = jinja2.Environment(loader=jinja2.FileSystemLoader(self.parts)).get_template("page.html.j2")

    def build(self) -> None:
        """Write every page that can be reached from the first one."""
        if self.out.exists():
            shutil.rmtree(self.out)  # a book, see __init__
        self.out.mkdir(parents=True)
        colours = HtmlFormatter(style="default").get_style_defs(".highlight")
        style = (self.parts / "style.css").read_text(encoding="utf-8")
        (self.out / "style.css").write_text(style + colours, encoding="utf-8")
        for path in (*(c.path for c in self.cards), self.root / "notebooks/glossary.md", self.root / "README.md"):
            self.name(path)
        while self.queue:
            self.write(self.queue.pop(0))

    def name(self, path: Path) -> str:
        """Return the page, or the copy, of a file of the kit; queue it when it is asked for the first time."""
        if (path / "README.md").exists():
            path = path / "README.md"
        if path not in self.names:
            stem = path.relative_to(self.root).as_posix()
            stem = (stem if path.name == "README.md" else stem.removeprefix("notebooks/")).replace("/", "-")
            stem = stem.removesuffix(".ipynb").removesuffix(".md").lower() if path.suffix in TEXTS else stem
            if path.suffix in COPIED:
                shutil.copy(path, self.out / stem)
                self.names[path] = stem
            else:
                self.names[path] = f"{stem}.html"
                self.queue.append(path)
        return self.names[path]

    def write(self, path: Path) -> None:
        """Make the page of a notebook, a text, a folder or another file."""
        soup = BeautifulSoup(self.content(path), "html.parser")
        self.problems += [f"{path.relative_to(self.root)} has a formula that matplotlib cannot draw: {code.get_text()}"
                          for code in soup.select("code.unknown")]
        self.mend_links(path, soup)
        mend_pictures(soup, self.out, self.names[path].removesuffix(".html"))
        mend_printing(soup)
        sections = mend_headings(soup)
        for table in soup.find_all("table"):
            table.wrap(soup.new_tag("div", attrs={"class": "wide", "tabindex": "0"}))
        order = [Page(self.names[c.path], c.title) for c in self.cards]
        place = next((i for i, page in enumerate(order) if page.page == self.names[path]), None)
        title = soup.h1.get_text() if soup.h1 else path.relative_to(self.root).as_posix()
        page = self.template.render(
            title=title, body=str(soup), sections=[] if path == self.first else sections,
            source=path.name if place is not None else None,
            previous=order[place - 1] if place else None,
            next=order[place + 1] if place is not None and place + 1 < len(order) else None)
        (self.out / self.names[path]).write_text(page, encoding="utf-8")
        if place is not None:
            shutil.copy(path, self.out / path.name)

    def content(self, path: Path) -> str:
        """Return the HTML of a file, its links unchanged."""
        if path.is_dir():
            rows = "\n".join(f"- `{p.name}`" for p in sorted(path.iterdir()) if not p.name.startswith((".", "__")))
            return markdown(f"# {path.relative_to(self.root).as_posix()}/\n\n{rows}")
        if path.suffix == ".ipynb":
            notebook = without_solutions(captions_once(nbformat.read(path, as_version=4)))
            notebook.cells = [cell for cell in notebook.cells if cell.get("id") != "setup"]
            return Exporter().from_notebook_node(notebook)[0]
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".md":
            return markdown(text) + (self.map() if path == self.first else "")
        try:
            lexer = get_lexer_for_filename(path.name)
        except ClassNotFound:
            lexer = TextLexer()
        return f"<h1>{path.relative_to(self.root).as_posix()}</h1>{highlight(text, lexer, HtmlFormatter())}"

    def map(self) -> str:
        """Return the list of notebooks on the first page."""
        rows = [f'<li><span class="number">{c.number}</span><div><a href="../{c.path.name}">{escape(c.title)}</a>'
                f'<p>{escape(c.learn)}</p><p class="time">{c.cpu} on a 2-core CPU; {c.t4} on a T4</p></div></li>'
                for c in self.cards]
        return f'<h2>The notebooks</h2><ol class="map">{"".join(rows)}</ol>'

    def mend_links(self, path: Path, soup: BeautifulSoup) -> None:
        """Point links and images at the book's own files; note those that lead nowhere."""
        folder = path if path.is_dir() else path.parent
        for tag, key in [(a, "href") for a in soup.select("a[href]")] + [(i, "src") for i in soup.select("img[src]")]:
            address = urlsplit(tag[key])
            if tag.name == "img" and address.scheme in ("http", "https"):
                tag.replace_with(tag.get("alt") or tag[key])  # a badge: its words will do
            if address.scheme or not address.path:
                continue
            target = Path(os.path.normpath(folder / unquote(address.path)))
            if target.is_relative_to(self.root) and target.exists():
                tag[key] = self.name(target) + (f"#{address.fragment}" if address.fragment else "")
            elif target.parent == self.root / "notebooks" and target.stem in planned(self.root):
                tag.unwrap()  # a notebook that is still to come
            else:
                self.problems.append(f"{path.relative_to(self.root)} leads to {tag[key]}, which is not there")


def main() -> int:
    """Build the book; return 1 as exit status where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build/book")
    book = Book(ROOT, parser.parse_args().out)
    book.build()
    print("\n".join([*book.problems, f"{len(book.cards)} notebooks, {len(set(book.names.values()))} files: "
                                     f"{book.out / 'index.html'}"]))
    return 1 if book.problems else 0


if __name__ == "__main__":
    sys.exit(main())
