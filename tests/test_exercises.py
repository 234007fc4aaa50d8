"""The exercises: by nbgrader's own autograder solutions get full marks and untouched notebooks none, and tests bite."""
import csv
import io
import os
import re
import subprocess
import sys
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path

import make
import matplotlib
import nbformat
import numpy as np
import pytest
import torch
from nbgrader.api import Gradebook
from nbgrader.nbgraderformat import MetadataValidator

from rdlib.course import agree

ROOT = Path(__file__).parents[1]
HERE = ROOT / "notebooks/exercises"
NAMES = sorted(path.name for path in (HERE / "source").iterdir())


def source(name):
    return nbformat.read(HERE / f"source/{name}/{name}.ipynb", as_version=4)


def graded_cells(notebook, written):
    return {cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader.points for cell in notebook.cells
            if cell.metadata.get("nbgrader", {}).get("grade") and cell.metadata.nbgrader.solution == written}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Of commands that must leave nothing in the user's home and ask no network."""
    home = tmp_path_factory.mktemp("home")
    ours = {f"JUPYTER_{kind}_DIR": home / kind.lower() for kind in ("CONFIG", "DATA", "RUNTIME")}
    ours |= {"HOME": home, "USERPROFILE": home, "IPYTHONDIR": home / "ipython",
             "MPLCONFIGDIR": matplotlib.get_configdir(),  # its list of fonts takes a while to draw up
             "RDLIB_PROFILE": "cpu", "OMP_NUM_THREADS": 1, "JUPYTER_PREFER_ENV_PATH": 1,
             "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9",
             "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}  # as if activated
    return os.environ | {name: str(value) for name, value in ours.items()}


def run(command, environment, folder=ROOT):
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def made(environment, tmp_path_factory):
    """What `make exercises ARGS=--bundle` makes."""
    out = tmp_path_factory.mktemp("exercises")
    assert "exercises-variant-0.zip" in run([HERE / "make.py", "--out", out, "--bundle"],
                                            environment | {"PATH": os.environ.get("PATH", "")})
    return out


@pytest.fixture(scope="module")
def handed_out(made, tmp_path_factory):
    """The zip as a student unpacks it."""
    with zipfile.ZipFile(made / "exercises-variant-0.zip") as packed:
        packed.extractall(folder := tmp_path_factory.mktemp("student"))
    return folder / "exercises"


def solved(released, name):
    """A student's notebook with the solutions written into it, and nothing else changed."""
    answers = {cell.metadata.nbgrader.grade_id: cell.source for cell in source(name).cells
               if cell.metadata.get("nbgrader", {}).get("solution")}
    notebook = nbformat.read(released, as_version=4)
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = answers[cell.metadata.nbgrader.grade_id]
    return notebook


@pytest.fixture(scope="module")
def course(made, handed_out, environment):
    """The course folder after Ada, who solved everything, and Bob, who touched nothing, have handed in.

    Of the first exercise the files come as a learning platform names them, and nbgrader collects them.
    """
    folder = made / "course"
    for name in NAMES:
        released = handed_out / name / f"{name}.ipynb"
        for student, notebook in (("ada", solved(released, name)), ("bob", nbformat.read(released, as_version=4))):
            path = folder / f"submitted/{student}/{name}/{name}.ipynb"
            if name == NAMES[0]:
                path = folder / f"downloaded/{name}/archive/{student}_{name}.ipynb"
            path.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, path)
    (folder / "students.csv").write_text("id,first_name,last_name\nada,Ada,Lovelace\nbob,Bob,\n", encoding="utf-8")
    run(["-m", "nbgrader", "db", "student", "import", "students.csv"], environment, folder)
    run(["-m", "nbgrader", "zip_collect", NAMES[0]], environment, folder)
    return folder


@pytest.fixture(scope="module")
def graded(course, environment):
    """Autograde what a student handed in, once: the open gradebook, the grades by cell, and the submission."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:

        @cache
        def autograded(name, student):
            run(["-m", "nbgrader", "autograde", name, "--student", student], environment, course)
            book.db.expire_all()  # another process has written
            notebook = book.find_submission_notebook(name, name, student)
            return book, {grade.cell.name: grade for grade in notebook.grades}, book.find_submission(name, student)

        yield autograded


def through_nbgrader(first):
    """The exercises by name, all but one of them for `make test-all`: a kernel each, and nbgrader's own start."""
    return pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == first else pytest.mark.slow)
                                            for name in NAMES])


@through_nbgrader("ex1_metrics")
def test_a_solution_gets_full_marks(graded, name):
    tests, written = (graded_cells(source(name), w) for w in (False, True))
    book, got, submission = graded(name, "ada")
    assert set(got) == tests.keys() | written.keys()
    assert {cell: got[cell].auto_score for cell in tests} == tests
    assert all(got[cell].auto_score is None and got[cell].needs_manual_grade for cell in written)
    for cell, points in written.items():
        got[cell].manual_score = points
    book.db.commit()
    assert submission.score == submission.max_score == sum(tests.values()) + sum(written.values())


@through_nbgrader("ex5_ablation")  # the one with answers in words
def test_an_untouched_notebook_gets_nothing(graded, name):
    _, got, submission = graded(name, "bob")
    assert set(got) == graded_cells(source(name), False).keys() | graded_cells(source(name), True).keys()
    assert all(grade.auto_score == 0 and not grade.needs_manual_grade for grade in got.values())
    assert submission.score == 0


@pytest.mark.parametrize("name", NAMES)
def test_no_test_passes_on_what_is_handed_out(handed_out, name):
    released = nbformat.read(handed_out / name / f"{name}.ipynb", as_version=4)
    stubs = {cell.metadata.nbgrader.grade_id: cell.source for cell in released.cells
             if cell.metadata.get("nbgrader", {}).get("solution")}
    code = {cell: stubs.get(cell, text) for cell, text in cells(name).items()}
    assert stubs.keys() & code.keys() and graded_cells(source(name), False).keys() <= failing(code, stubs)[0]


@pytest.mark.slow
def test_two_exercises_may_be_graded_side_by_side(course, environment):
    """As the teachers' page allows once the class is listed: nbgrader fails where two enter a student at once."""
    def again(name):
        return run(["-m", "nbgrader", "autograde", name, "--student", "ada", "--force"], environment, course)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(again, NAMES[2:4]))
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        assert all(book.find_submission(name, "ada").score > 0 for name in NAMES[2:4])


def test_grades_as_csv_and_feedback_as_pages(graded, course, environment):
    graded(NAMES[0], "ada"), graded("ex5_ablation", "bob")
    run(["-m", "nbgrader", "export", "--to", "grades.csv"], environment, course)
    with (course / "grades.csv").open(encoding="utf-8") as file:
        rows = {(row["assignment"], row["student_id"]): row for row in csv.DictReader(file)}
    assert len(rows) == 2 * len(NAMES)
    ada, bob = rows[NAMES[0], "ada"], rows["ex5_ablation", "bob"]
    assert float(ada["score"]) == float(ada["max_score"]) and ada["last_name"] == "Lovelace"
    assert float(bob["score"]) == 0 < float(bob["max_score"])
    run(["-m", "nbgrader", "generate_feedback", "ex5_ablation", "--student", "bob"], environment, course)
    assert "NotImplementedError" in (course / "feedback/bob/ex5_ablation/ex5_ablation.html").read_text("utf-8")


def test_work_that_was_handed_in_is_not_overwritten(graded, course):
    graded(NAMES[0], "ada")
    make.check_gradebook(course, 0)
    with pytest.raises(SystemExit, match="handed in for variant 0"):
        make.check_gradebook(course, 3)


@pytest.mark.parametrize("name", NAMES)
def test_a_source_is_complete(name):
    notebook = source(name)
    MetadataValidator().validate_nb(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code), "stored without outputs"
    assert max(sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in code) <= 40
    managed = [cell.metadata.nbgrader for cell in notebook.cells if "nbgrader" in cell.metadata]
    assert {meta.schema_version for meta in managed} == {3}
    ids = [meta.grade_id for meta in managed if meta.grade]
    assert sum("-visible" in i for i in ids) >= 3 and sum("-hidden" in i for i in ids) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_what_is_handed_out(handed_out, name):
    notebook = nbformat.read(handed_out / name / f"{name}.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells)
    assert "SOLUTION" not in text and "HIDDEN" not in text
    stubs = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("solution")]
    assert all("raise NotImplementedError()" in cell.source or "YOUR ANSWER HERE" in cell.source for cell in stubs)
    pictures = re.findall(r"!\[([^]]{40,})\]\((pictures/[^)]+)\)", text)
    assert len(pictures) == text.count("![") == 1 and all((handed_out / name / file).is_file() for _, file in pictures)
    assert (handed_out / "README.md").is_file()


def cells(name, variant=0, until=None):
    """The code cells of a source that matter, in order, by name, up to the last test behind the answer `until`."""
    found, reached = {}, False
    for cell in source(name).cells:
        figure = any(tag.startswith("figure:") for tag in cell.metadata.get("tags", []))
        if cell.cell_type == "code" and cell.id != "setup" and not figure:
            if reached and cell.metadata.get("nbgrader", {}).get("solution"):
                break
            found[cell.id] = cell.source.replace("VARIANT = 0 ", f"VARIANT = {variant} ")
            reached = reached or cell.id == until
    return found


def failing(code, stubs=()):
    """Run cells one after the other, as a kernel would, and name the tests that fail, or print what costs points.

    Of other cells `stubs` may fail, and what builds on them.
    """
    names, failed = {}, set()
    for cell, text in code.items():
        try:
            with warnings.catch_warnings(record=True) as warned, redirect_stderr(io.StringIO()) as printed:
                warnings.filterwarnings("ignore", category=DeprecationWarning)  # as in a kernel
                exec(compile(text, cell, "exec"), names)
            if cell.endswith(("visible", "hidden")) and (warned or printed.getvalue()):
                failed.add(cell)
        except Exception as error:
            if cell.endswith(("visible", "hidden")):
                failed.add(cell)
            elif not isinstance(error, NotImplementedError if cell in stubs else NameError) or not stubs:
                raise
    return failed, names


MISTAKES = [
    ("ex1_metrics", "pair-auroc", "0.5 * np.mean(differences == 0)", "np.mean(differences == 0)", "visible hidden"),
    ("ex1_metrics", "regions", "for i in (-1, 0, 1) for j in (-1, 0, 1)", "for i in (-1, 1) for j in (-1, 1)",
     "hidden"),
    ("ex1_metrics", "regions", "if 0 <= row < height", "if row < height", "hidden"),
    ("ex1_metrics", "pro-at", "maps >= threshold", "maps > threshold", "hidden"),
    ("ex1_metrics", "pro-at", "[found[numbers == k].mean() for k in range(1, numbers.max() + 1)]",
     "[np.mean([found[numbers == k].mean() for k in range(1, numbers.max() + 1)])] if mask.any() else []", "hidden"),
    ("ex1_metrics", "aupro", "np.interp(limit, fpr, pro)", "pro[inside][-1]", "visible hidden"),
    ("ex1_metrics", "blind", "devious[0] = defects[0]", "devious[:] = defects", "visible"),
    ("ex2_bottleneck", "halve", "padding=1, bias=False", "padding=1", "visible"),
    ("ex2_bottleneck", "halve", "nn.ReLU()", "nn.Identity()", "hidden"),
    ("ex2_bottleneck", "mff", "self.reduce1(f1), self.reduce2(f2)", "self.reduce2(f2), self.reduce1(f1)", "hidden"),
    ("ex2_bottleneck", "block", "(self.bn2(self.conv2(x)) + shortcut).relu()", "self.bn2(self.conv2(x)) + shortcut",
     "hidden"),
    ("ex2_bottleneck", "ocbe", ", Residual(512, 512))", ")", "visible hidden"),
    ("ex3_decoder", "transposed", '", x, weight)', '", x, weight.flip(0))', "hidden"),
    ("ex3_decoder", "block", " + self.downsample(x)", "", "hidden"),
    ("ex3_decoder", "student", "return g1, g2, g3", "return g3, g2, g1", "visible hidden"),
    ("ex3_decoder", "step", "    optimizer.zero_grad()\n", "", "hidden"),
    ("ex4_loss_and_map", "losses", "t.flatten(1), s.flatten(1)", "t, s", "hidden"),
    ("ex4_loss_and_map", "distance", "np.linspace(0, image.shape[axis] - 1, size[axis])",
     "(np.arange(size[axis]) + 0.5) * image.shape[axis] / size[axis] - 0.5", "visible hidden"),
    ("ex4_loss_and_map", "smooth", '"symmetric"', '"reflect"', "hidden"),
    ("ex4_loss_and_map", "smooth", "4 * sigma", "3 * sigma", "hidden"),
    ("ex4_loss_and_map", "whole", "sum(maps)", "np.prod(maps, axis=0)", "visible hidden"),
    ("ex5_ablation", "run-once", "**for_model, seed=seed", "**for_model", "hidden"),
    ("ex5_ablation", "paired", "np.sqrt(len(differences))", "len(differences)", "visible hidden"),
    ("ex6_threshold", "functions", "alarm = scores > threshold", "alarm = scores >= threshold", "visible hidden"),
    ("ex6_threshold", "promise", "threshold_for(chosen_with, 0.1)", "threshold_for(scores[labels == 0], 0.05)",
     "hidden"),
    ("ex6_threshold", "best", "per_miss * fn + per_alarm * fp", "per_miss * fp + per_alarm * fn", "visible hidden"),
]


@pytest.mark.parametrize(("name", "answer", "right", "wrong", "caught"), MISTAKES)
def test_a_common_mistake_is_caught(name, answer, right, wrong, caught):
    code = cells(name, until=answer)
    assert code[answer].count(right) == 1
    code[answer] = code[answer].replace(right, wrong)
    assert failing(code)[0] == {f"{answer}-{test}" for test in caught.split()}


BY_HAND = {"ex1_metrics": ("regions-by-hand", ("pairs-by-hand", "regions-by-hand")),
           "ex2_bottleneck": ("shapes", ("shapes",)), "ex3_decoder": ("by-hand", ("by-hand",)),
           "ex4_loss_and_map": ("by-hand", ("by-hand",)), "ex6_threshold": ("by-hand", ("by-hand",))}


@pytest.mark.parametrize("name", BY_HAND)
def test_last_years_numbers_do_not_fit(name):
    last, answers = BY_HAND[name]
    code = cells(name, variant=7, until=last)
    failed, old = failing(cells(name, until=last))
    assert not failed
    for answer in answers:
        variables = re.match(r"((?:\w+ = )+)None", code[answer].splitlines()[0])[1].split(" = ")[:-1]
        code[answer] = "\n".join(f"{variable} = {np.asarray(old[variable]).tolist()}" for variable in variables)
    assert {f"{answer}-hidden" for answer in answers} <= failing(code)[0]


@pytest.mark.parametrize("name", NAMES)
def test_solutions_hold_for_another_class(name):
    failed, names = failing(cells(name, variant=7, until="paired" if name == "ex5_ablation" else None))
    assert names["VARIANT"] == 7 and not failed


def test_the_bundle_brings_the_kit_and_asks_for_no_other_versions(made, environment, tmp_path):
    folder = made / "offline"
    assert (folder / "notebooks/00_quickstart.ipynb").is_file() and (folder / "README.md").is_file()
    assert "SOLUTION" not in (folder / f"notebooks/exercises/{NAMES[0]}/{NAMES[0]}.ipynb").read_text("utf-8")
    install = ["-m", "pip", "install", "--no-index", "--find-links", folder / "wheels"]
    pinned = (Path(sys.prefix) / ".ready").exists()  # `make` installs with the constraints, others need not
    run([*install, "--dry-run", "-r", folder / "requirements.txt",
         *(["-c", folder / "constraints.txt"] if pinned else [])], environment)
    run([*install, "--no-deps", "--target", tmp_path, "rdlib"], environment)
    script = ("import rdlib; from rdlib.encoder import TeacherEncoder; from rdlib.course import agree; "
              "print(rdlib.__file__, TeacherEncoder().conv1.weight.abs().mean().item() > 0)")
    path, loaded = run(["-c", script], environment | {"PYTHONPATH": str(tmp_path)}, tmp_path).split()
    assert Path(path).is_relative_to(tmp_path) and loaded == "True"


@pytest.mark.parametrize(("got", "expected", "message"), [
    (None, 1, "n is None: nothing was written there yet"),
    (2, 3, r"(?s)n: .*Expected 3.0 but got 2.0.*Look\."),
    ([1, 2], [1, 2, 3], r"(?s)n: .*shape.*\[2\].*\[3\]"),
    (1, [1, 1], r"(?s)n: .*shape"),
    (torch.tensor([[1.0, 5.0]]), [[1, 2]], r"(?s)n: .*Mismatched elements: 1 / 2.*difference: 3.0 at index \(0, 1\)"),
    ("many", 1, "n should be numbers, not str"),
    (float("nan"), 1, r"(?s)n: .*Expected 1.0 but got nan"),
    (float("nan"), float("nan"), "(?s)n: .*nan"),
])
def test_a_message_says_what_is_wrong(got, expected, message):
    with pytest.raises(AssertionError, match=message):
        agree("n", got, expected, "Look.")


def test_what_agrees_is_silent():
    agree("n", torch.ones(2, requires_grad=True) + 1e-7, [1, 1])
    agree("n", True, 1)
    with pytest.raises(AssertionError, match=r"Expected 1.0 but got 1.1"):
        agree("n", 1.1, 1)
