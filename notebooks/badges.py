"""Keep badges, set-up cells and the READMEs' maps in step with notebooks/map.toml and pyproject.toml.

    python notebooks/badges.py            # rewrite what disagrees
    python notebooks/badges.py --check    # name it, and exit with 1

The address stands once, as `repository` under [tool.rdlib] in pyproject.toml. Unset, no badge is shown.
"""
import argparse
import re
import sys
from pathlib import Path

import nbformat
from series import COLLAPSED, ROOT, card, exercises, notebooks, repository, setup_cell

BRANCH = "main"
OPEN, CLOSE = "<!-- the map: python notebooks/badges.py -->", "<!-- end of the map -->"
BADGES = re.compile(r"^\[!\[Open in Colab\]\(.*\n+", re.M)


def badges(address: str, notebook: str) -> str:
    """Return two badges in Markdown that open `notebook`, a path in the repository; "" without an address."""
    if not address:
        return ""
    place = address.removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{place}/blob/{BRANCH}/{notebook}"
    binder = f"https://mybinder.org/v2/gh/{place}/{BRANCH}?urlpath=lab/tree/{notebook}"
    return (f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}) "
            f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder})")


def with_badges(first: str, address: str, notebook: str) -> str:
    """Put badges, or none, under the title of a notebook's first cell."""
    title, rest = BADGES.sub("", first).split("\n", 1)
    line = badges(address, notebook)
    return f"{title}\n\n{line}\n\n{rest.lstrip()}" if line else f"{title}\n\n{rest.lstrip()}"


def rewritten_notebook(path: Path, root: Path, address: str) -> str | None:
    """Return a notebook's text with badges and set-up cell brought up to date, outputs untouched; None if they are.

    An exercise has the cell and no badge: it is handed out.

    Raises:
        ValueError: the notebook has no cell "setup".
    """
    notebook = nbformat.read(path, as_version=4)
    setup = next((cell for cell in notebook.cells if cell.get("id") == "setup"), None)
    if setup is None:
        raise ValueError(f"{path.name} has no cell with the id 'setup'.")
    wanted = [(setup, setup_cell(address))]
    if path.parent == root / "notebooks":
        first, place = notebook.cells[0], path.relative_to(root).as_posix()
        wanted.append((first, with_badges(first.source, address, place)))
    if all(cell.source == source for cell, source in wanted) and COLLAPSED.items() <= setup.metadata.items():
        return None
    for cell, source in wanted:
        cell.source = source
    setup.metadata.update(COLLAPSED)
    return nbformat.writes(notebook) + "\n"


def table(root: Path, address: str) -> str:
    """Return the map of the README: one row per notebook, with its title and what it teaches."""
    rows = ["| notebook | what you learn |" + (" open in |" if address else ""),
            "|---|---|" + ("---|" if address else "")]
    for path in notebooks(root):
        page, place = card(path), path.relative_to(root).as_posix()
        row = f"| {page.number} [{page.title}]({place}) | {page.learn} |"
        rows.append(row + (f" {badges(address, place)} |" if address else ""))
    return "\n".join(rows)


def timetable(root: Path, address: str) -> str:
    """Return the map of notebooks/README.md: one row per notebook, with the time that it takes to run."""
    rows = [f"| {page.number} [{page.title}]({page.path.name}) | {page.cpu} |" for page in map(card, notebooks(root))]
    return "\n".join(["| notebook | time on 2 CPU cores |", "|---|---|", *rows])


MAPS = {"README.md": table, "notebooks/README.md": timetable}


def rewritten_map(name: str, root: Path, address: str) -> str | None:
    """Return a page's text with its map brought up to date; None if it is.

    Raises:
        ValueError: the page lacks the two lines that enclose the map.
    """
    text = (root / name).read_text(encoding="utf-8")
    if text.count(OPEN) != 1 or text.count(CLOSE) != 1:
        raise ValueError(f"{name} needs the lines '{OPEN}' and '{CLOSE}' once each: the map goes between them.")
    before, rest = text.split(OPEN)
    after = rest.split(CLOSE)[1]
    new = f"{before}{OPEN}\n\n{MAPS[name](root, address)}\n\n{CLOSE}{after}"
    return None if new == text else new


def main(arguments: list[str] | None = None) -> int:
    """Rewrite or check; return 1 as exit status where a check found something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout")
    args = parser.parse_args(arguments)
    try:
        address = repository(args.root)
        new = {path: rewritten_notebook(path, args.root, address)
               for path in (*notebooks(args.root), *exercises(args.root))}
        new |= {args.root / name: rewritten_map(name, args.root, address) for name in MAPS}
    except ValueError as error:
        sys.exit(str(error))
    changed = {path: text for path, text in new.items() if text is not None}
    for path, text in changed.items():
        if not args.check:
            path.write_text(text, encoding="utf-8")
        print(f"{'out of step' if args.check else 'rewritten'}: {path.relative_to(args.root).as_posix()}")
    if args.check and changed:
        print("Run python notebooks/badges.py.")
    return 1 if args.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
