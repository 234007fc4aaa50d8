"""From a notebook's cells, or Markdown, to the HTML of a page of the book: formulas, images with captions, headings.

Nothing on a page needs a script or a network: TeX is drawn here, by matplotlib's mathtext, as SVG.
"""
import base64
import re
from html import escape
from pathlib import Path

import jinja2
import nbformat
from bs4 import BeautifulSoup, Tag
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath, TextToPath
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from series import anchor

EM = 100  # units of a formula's drawing in the width of its letter M
FONT = FontProperties(math_fontfamily="stix")
PLAINER = {"le": r"\leq", "ge": r"\geq", "lVert": r"\Vert", "rVert": r"\Vert", "lvert": r"\vert", "rvert": r"\vert",
           "tfrac": r"\frac", "qquad": r"\quad\quad", "bigl": r"\left", "bigr": r"\right", "Bigl": r"\left",
           "Bigr": r"\right"}
COMMANDS = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}  # matplotlib's path codes as SVG's


def formula(tex: str, block: bool = False) -> str:
    """Draw TeX as an inline SVG whose text is the TeX; return code of the class "unknown" if matplotlib cannot."""
    try:
        return drawn(tex, block)
    except ValueError:
        return f'<code class="unknown">{escape(tex)}</code>'


def drawn(tex: str, block: bool) -> str:
    """Draw TeX for `formula`. Raise ValueError for commands that matplotlib's mathtext lacks."""
    plain = re.sub(r"\\([a-zA-Z]+)", lambda m: PLAINER.get(m[1], m[0]), " ".join(tex.split()))
    plain = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", plain)
    if block:
        plain = plain.replace(r"\frac", r"\,\dfrac").replace(r"\sum", r"\,\sum")  # as large as the rest
    text = f"${plain}$"
    path = TextPath((0, 0), text, size=EM, prop=FONT)
    width, height, depth = TextToPath().get_text_width_height_descent(text, FONT, ismath=True)
    width, height, depth = (x * EM / FONT.get_size_in_points() for x in (width, height, depth))
    lines = []
    for points, code in path.iter_segments(curves=True, simplify=False):
        numbers = [f"{-x if i % 2 else x:.1f}" for i, x in enumerate(points)] if code != 79 else []
        lines.append(COMMANDS[int(code)] + " ".join(numbers))
    scale = 1.2 if block else 1.1  # its letters look smaller than the text's
    return (f'<svg class="formula{" block" if block else ""}" role="img" aria-label="{escape(tex.strip())}" '
            f'viewBox="0 {depth - height:.1f} {width:.1f} {height:.1f}" width="{scale * width / EM:.3f}em" '
            f'height="{scale * height / EM:.3f}em" style="vertical-align:{-scale * depth / EM:.3f}em">'
            f'<title>{escape(tex.strip())}</title><path d="{"".join(lines)}"/></svg>')


class Renderer(IPythonRenderer):
    """nbconvert's renderer, with formulas drawn."""

    def inline_math(self, body: str) -> str:
        """Render $...$."""
        return formula(body)

    def block_math(self, body: str) -> str:
        """Render $$...$$."""
        return f'<span class="wide">{formula(body, block=True)}</span>'


def markdown(text: str) -> str:
    """Render Markdown as HTML."""
    return MarkdownWithMath(Renderer(escape=False, exclude_anchor_links=True)).render(text)


class Exporter(HTMLExporter):
    """The cells of a notebook as HTML, without a page around them, prompts and buttons."""

    exclude_input_prompt = exclude_output_prompt = exclude_anchor_links = True
    template_name = "basic"

    @jinja2.pass_context
    def markdown2html(self, context: jinja2.runtime.Context, source: str) -> str:
        """Render Markdown; the template calls this as a filter."""
        return markdown(source)


def captions_once(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove the line that `figures.show` prints below an image: on a page it is the image's caption."""
    for cell in notebook.cells:
        words = ""
        for output in cell.get("outputs", []):
            kinds = [kind for kind in output.get("data", {}) if kind.startswith("image/")]
            if kinds:
                words = " ".join(output.metadata.get(kinds[0], {}).get("alt", "").split())
            elif words and output.get("name") == "stdout":
                printed = re.match(r"\s+".join(map(re.escape, words.split())) + r"\s*", output.text)
                if printed:
                    output.text, words = output.text[printed.end():], ""
        if "outputs" in cell:
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stdout" or o.text.strip()]
    return notebook


def without_solutions(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove the solutions and hidden tests of an exercise, as nbgrader does."""
    for cell in notebook.cells:
        cell.source = re.sub(r"### BEGIN SOLUTION.*?### END SOLUTION", "raise NotImplementedError()", cell.source,
                             flags=re.S)
        cell.source = re.sub(r"\n?[ \t]*### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS", "", cell.source, flags=re.S)
    return notebook


def mend_pictures(soup: BeautifulSoup, out: Path, stem: str) -> None:
    """Write stored images into files, with their alt text as a caption below; a click shows one by itself."""
    for i, image in enumerate(soup.select('img[src^="data:"]'), 1):
        head, data = image["src"].split(",", 1)
        image["src"] = f"{stem}-{i}.{head.split('/')[1].split(';')[0].replace('jpeg', 'jpg')}"
        (out / image["src"]).write_bytes(base64.b64decode(data))
        figure: Tag = image.wrap(soup.new_tag("figure"))
        image.wrap(soup.new_tag("a", href=image["src"]))
        caption = soup.new_tag("figcaption")
        caption.string = image["alt"]
        figure.append(caption)


def mend_printing(soup: BeautifulSoup) -> None:
    """Let printed sentences wrap where the page is narrow; columns are scrolled."""
    for printed in soup.select(".output_stdout pre"):
        if "  " not in printed.get_text().strip():
            printed["class"] = "sentences"


def mend_headings(soup: BeautifulSoup) -> list[dict[str, str]]:
    """Give headings the ids that GitHub gives them; return the second-level ones."""
    seen: dict[str, int] = {}
    for heading in soup.find_all(["h1", "h2", "h3", "h4"]):
        name = anchor(heading.get_text())
        seen[name] = seen.get(name, -1) + 1
        heading["id"] = f"{name}-{seen[name]}" if seen[name] else name
    return [{"id": h["id"], "text": h.get_text()} for h in soup.find_all("h2")]
