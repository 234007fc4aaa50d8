"""The pages around the notebooks: badges, set-up cells, the README's map."""
import re
import shutil
from pathlib import Path

import badges
import nbformat
import pytest
from series import COLLAPSED, card, exercises, notebooks, planned

ROOT = Path(__file__).parents[1]
ADDRESS = "https://github.com/someone/kit"


def test_every_notebook_of_the_map_is_there():
    assert [path.stem for path in notebooks()] == list(planned())


def test_everything_agrees_with_the_address():
    assert badges.main(["--check"]) == 0, "run python notebooks/badges.py"


@pytest.fixture
def copy(tmp_path):
    """A checkout with the notebooks and no address."""
    for path in (*notebooks(), *exercises(), ROOT / "notebooks/map.toml"):
        (tmp_path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    for name in badges.MAPS:
        (tmp_path / name).write_text(f"# Kit\n\n{badges.OPEN}\n{badges.CLOSE}\n\nmore\n", encoding="utf-8")
    publish(tmp_path, "")
    badges.main(["--root", str(tmp_path)])
    return tmp_path


def publish(root, address):
    (root / "pyproject.toml").write_text(f'[tool.rdlib]\nrepository = "{address}"\n', encoding="utf-8")


def contents(root):
    pages = [root / name for name in badges.MAPS]
    return {path.relative_to(root): path.read_bytes() for path in (*notebooks(root), *exercises(root), *pages)}


def test_without_an_address_there_is_no_badge(copy):
    assert not any(b"badge" in re.sub(rb"badges\.py", b"", content) for content in contents(copy).values())
    assert (copy / "README.md").read_text(encoding="utf-8").count("](notebooks/") == len(notebooks())
    timed = (copy / "notebooks/README.md").read_text(encoding="utf-8")
    assert all(f"]({page.path.name}) | {page.cpu} |" in timed for page in map(card, notebooks()))
    assert badges.main(["--root", str(copy), "--check"]) == 0


def test_with_an_address_every_page_has_badges_and_nothing_else_changes(copy, capsys):
    before = {path: nbformat.read(path, as_version=4) for path in notebooks(copy)}
    plain = contents(copy)
    publish(copy, f"{ADDRESS}.git/")
    assert badges.main(["--root", str(copy), "--check"]) == 1 and contents(copy) == plain
    assert "out of step: README.md" in capsys.readouterr().out
    assert badges.main(["--root", str(copy)]) == 0 and badges.main(["--root", str(copy), "--check"]) == 0
    for path, old in before.items():
        new = nbformat.read(path, as_version=4)
        title, _, line = new.cells[0].source.splitlines()[:3]
        assert title.startswith("# ") and line.count("[![Open in ") == 2
        assert f"/github/someone/kit/blob/main/notebooks/{path.name})" in line
        assert f"/gh/someone/kit/main?urlpath=lab/tree/notebooks/{path.name})" in line
        (setup,) = (cell for cell in new.cells if cell.id == "setup")
        assert f'REPOSITORY = "{ADDRESS}"' in setup.source
        for a, b in zip(old.cells, new.cells, strict=True):
            assert {**a, "source": ""} == {**b, "source": ""}
            assert a.source == b.source or b.id in {new.cells[0].id, "setup"}
    assert (copy / "README.md").read_text(encoding="utf-8").count("badge_logo.svg") == len(before)
    assert all(f'REPOSITORY = \\"{ADDRESS}\\"' in path.read_text(encoding="utf-8") for path in exercises(copy))
    publish(copy, "")
    badges.main(["--root", str(copy)])
    assert contents(copy) == plain


def test_a_set_up_cell_that_is_not_collapsed_is_found(copy):
    path = exercises(copy)[0]
    notebook = nbformat.read(path, as_version=4)
    (setup,) = (cell for cell in notebook.cells if cell.id == "setup")
    for key in COLLAPSED:
        del setup.metadata[key]
    nbformat.write(notebook, path)
    assert badges.main(["--root", str(copy), "--check"]) == 1
    badges.main(["--root", str(copy)])
    assert badges.main(["--root", str(copy), "--check"]) == 0


def test_a_badge_that_was_edited_by_hand_is_found(copy):
    publish(copy, ADDRESS)
    badges.main(["--root", str(copy)])
    path = notebooks(copy)[-1]
    path.write_text(path.read_text(encoding="utf-8").replace("blob/main", "blob/other"), encoding="utf-8")
    assert badges.main(["--root", str(copy), "--check"]) == 1


@pytest.mark.parametrize(("file", "old", "new", "message"), [
    ("pyproject.toml", '""', '"gitlab.com/someone/kit"', "Write https://github.com/OWNER/NAME"),
    ("README.md", badges.CLOSE, "", "needs the lines"),
    ("notebooks/00_quickstart.ipynb", '"id": "setup"', '"id": "other"', "no cell with the id 'setup'"),
    ("notebooks/00_quickstart.ipynb", "| Time |", "| Minutes |", "the row '| Time |"),
    ("notebooks/map.toml", "00_quickstart", "00_other", "does not say what 00_quickstart teaches"),
])
def test_what_is_missing_is_said(copy, file, old, new, message):
    path = copy / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(SystemExit, match=re.escape(message)):
        badges.main(["--root", str(copy)])


def test_the_map_tells_title_and_times_as_the_notebooks_do():
    for path in notebooks():
        page = card(path)
        assert page.number == path.name[:2] and page.title and "minute" in page.cpu, page
