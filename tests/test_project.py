"""The project as a whole: what installs it agrees with itself, and a wheel of it works elsewhere."""
import ast
import inspect
import json
import os
import pickle
import pydoc
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import suite
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from versions import run_with

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINNED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
              if line and not line.startswith("#"))


def requirements():
    """Everything the package asks for, extras included."""
    listed = PROJECT["dependencies"] + [r for extra in PROJECT["optional-dependencies"].values() for r in extra]
    return [Requirement(line) for line in listed]


def test_the_package_has_bounds_and_no_pins():
    for requirement in requirements():
        assert {s.operator for s in requirement.specifier} <= {">=", "<", "!="}, requirement
    admitted = {r.name: r.specifier for r in requirements()}
    assert "2.11.0" in admitted["torch"] and "0.26.0" in admitted["torchvision"]


def test_the_tested_versions_cover_the_bounds():
    pins = {canonicalize_name(name): version for name, version in PINNED.items()}
    for requirement in requirements():
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_every_bound_was_run():
    """`make test-oldest` and `make test-newest` write the table: run them after a change of a bound."""
    table = run_with()
    assert {column.split()[0] for column in table} == {"oldest", "newest"}
    oldest = table["oldest " + PROJECT["requires-python"].removeprefix(">=")]
    for requirement in requirements():
        (bound,) = (each.version for each in requirement.specifier if each.operator == ">=")
        assert Version(oldest[requirement.name]) == Version(bound), requirement
        assert all(column[requirement.name] in requirement.specifier for column in table.values()), requirement


def test_one_version():
    import rdlib
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == rdlib.__version__
    assert f"## {rdlib.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


FIRST_USE = """
import json, pickle, random, sys, threading, time
before, began = set(sys.modules), time.process_time()
import rdlib
seconds = time.process_time() - began
loaded = {"rdlib": sorted(set(sys.modules) - before)}
import torch
states = random.getstate(), torch.get_rng_state().tolist()
pickle.loads(sys.stdin.buffer.read())
loaded["worker"] = sorted(sys.modules)
found = {}
def fetch(name, together):
    together.wait()
    found[name] = getattr(rdlib, name)
for step, names in ("names", rdlib.__all__), ("modules", ["metrics", "figures", "synthetic", "widgets"]):
    together = threading.Barrier(len(names))
    threads = [threading.Thread(target=fetch, args=(name, together)) for name in names]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    loaded[step] = sorted(sys.modules)
homes = {k: v.__module__ if hasattr(v, "__module__") else v.__name__ for k, v in found.items()}
same_state = states == (random.getstate(), torch.get_rng_state().tolist())
print()
print(json.dumps({"seconds": seconds, "loaded": loaded, "homes": homes, "same_state": same_state}))
"""


@pytest.fixture(scope="module")
def first_use():
    """What a new Python has loaded after `import rdlib`, once a data set has come to a worker, once threads have used
    all public names at the same time, and then modules; and where it found them."""
    import rdlib
    dataset = pickle.dumps(rdlib.load_dataset("synthetic/weave", size=64).test)
    done = subprocess.run([sys.executable, "-W", "error::DeprecationWarning:rdlib", "-c", FIRST_USE], input=dataset,
                          capture_output=True, check=True)
    printed, _, results = done.stdout.decode().rstrip().rpartition("\n")
    return {"printed": printed.strip(), **json.loads(results)}


def typed_names():
    """The names that type checkers see in rdlib, with the modules that they are imported from."""
    stub = ast.parse((ROOT / "rdlib/__init__.pyi").read_text(encoding="utf-8"))
    return {alias.name: node.module for node in stub.body for alias in node.names if alias.name != "__version__"}


def test_importing_the_library_takes_no_time(first_use):
    ours = {name.partition(".")[0] for name in first_use["loaded"]["rdlib"]} - sys.stdlib_module_names
    assert ours == {"rdlib"} and first_use["seconds"] < 0.3  # not even torch


@pytest.mark.parametrize(("step", "not_needed"), [
    ("worker", {"torchvision", "scipy", "sklearn", "pandas", "matplotlib"}),
    ("names", {"scipy.stats", "sklearn", "matplotlib"}), ("modules", {"scipy.stats", "sklearn"})])
def test_what_is_slow_to_import_waits_until_it_is_used(first_use, step, not_needed):
    assert "rdlib.datasets.samples" in first_use["loaded"][step] and not not_needed & set(first_use["loaded"][step])


def test_names_are_found_when_first_used_by_many_threads_too(first_use):
    import rdlib
    packages = {name: f"rdlib.{name}" for name in ("figures", "synthetic", "widgets")}
    assert first_use["homes"] == {**typed_names(), **packages, "metrics": "rdlib.metrics"}
    assert typed_names().keys() == {*rdlib.__all__, *packages}


def test_the_library_can_be_looked_into(monkeypatch):
    import rdlib
    everything = {}
    exec("from rdlib import *", everything)
    assert everything.keys() - {"__builtins__"} == set(rdlib.__all__)
    assert {*rdlib.__all__, "__version__", "figures", "synthetic", "widgets"} < set(dir(rdlib))
    assert not {"importlib", "TYPE_CHECKING"} & set(dir(rdlib))
    assert "batch_size" in inspect.signature(rdlib.fit).parameters
    with pytest.raises(AttributeError, match="^module 'rdlib' has no attribute 'fot'$"):
        _ = rdlib.fot
    with pytest.raises(ImportError, match="cannot import name 'fot' from 'rdlib'"):
        from rdlib import fot  # noqa: F401
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # as where they are not installed
    for name in [name for name in sys.modules if name.startswith("rdlib.widgets")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(vars(rdlib), "widgets", raising=False)
    assert "fit(model" in pydoc.render_doc(rdlib) and "widgets" not in dir(rdlib)
    with pytest.raises(ImportError, match="pip install ipywidgets"):
        _ = rdlib.widgets.defect_explorer


def test_environment_yml_installs_the_kit_and_nothing_of_its_own():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert listed[0].removeprefix("python").startswith(PROJECT["requires-python"])
    assert listed[1] == "pip" and len(listed) == 3
    (line,) = listed[2]["pip"]
    extras = re.fullmatch(r"--editable \.\[([\w,]+)\]", line).group(1).split(",")
    assert extras == ["notebooks", "export"] and set(extras) <= set(PROJECT["optional-dependencies"])


def test_colab_gets_what_it_lacks_and_keeps_its_own_jupyter():
    extras = {name: set(listed) for name, listed in PROJECT["optional-dependencies"].items()}
    names = {Requirement(line).name for line in extras["colab"]}
    assert extras["export"] <= extras["colab"] and {"anywidget", "seaborn"} <= names
    assert {re.sub(r"  #.*", "", line) for line in extras["colab"]} <= extras["export"] | extras["notebooks"]
    needed = names | {Requirement(line).name for line in PROJECT["dependencies"]}
    assert not needed & {"ipykernel", "ipython", "ipywidgets", "jupyterlab", "notebook", "pyzmq", "tornado"}


def test_hooks_workflow_and_make_lint_run_the_same_tools():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    entries = {hook["entry"].removeprefix(".venv/bin/").split()[0] for hook in hooks[0]["hooks"]}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert entries == set(re.findall(r"\$\(BIN\)/(\S+)", makefile.split("\nlint:")[1].split("\n\n")[0]))
    (job,) = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"].values()
    commands = " ".join(step.get("run", "") for step in job["steps"])
    assert all(tool in commands for tool in (*entries, "pytest"))
    assert set(re.search(r"\.\[([\w,]+)\]", commands)[1].split(",")) <= set(PROJECT["optional-dependencies"])
    classified = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert all(f"{version}.0" in classified for version in job["strategy"]["matrix"]["python"])


def test_files_that_are_run_first_are_there():
    there = {path.name for folder in ("tests", "notebooks") for path in (ROOT / folder).iterdir()}
    assert set(suite.LONGEST) <= there


def test_models_are_trained_in_a_folder_of_the_session():
    from rdlib.datasets.downloads import data_root
    assert data_root().name.startswith("rdlib-tests-") and data_root().is_dir()


def test_importing_the_library_is_quiet_and_leaves_the_generators_alone(first_use):
    assert first_use["printed"] == "" and first_use["same_state"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The kit's wheel, built from a copy: an old build folder would leak into it."""
    folder, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("rdlib", "data/teacher", "data/reference"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source], check=True,
                   capture_output=True)
    (wheel,) = folder.glob("rdlib-*.whl")
    return wheel


def test_a_wheel_holds_the_library_its_weights_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as packed:
        held = {name: packed.read(name) for name in packed.namelist() if not name.startswith("rdlib-")}
    files = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "rdlib").rglob("*")
             if path.is_file() and "__pycache__" not in path.parts}
    files |= {f"rdlib/{name}": ROOT / "data" / name for name in (
        "teacher/resnet18_procedural.safetensors", "teacher/README.md", "reference/published.csv")}
    assert set(held) == set(files)
    assert not [name for name, path in files.items() if held[name] != path.read_bytes()]


@pytest.fixture(scope="module")
def elsewhere(wheel):
    """The Python of a clean environment in which the kit's wheel is installed: the kit itself is found nowhere else."""
    folder = wheel.parent
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index",
                    wheel], check=True)
    # torch and the rest, 5 GB, are lent by this environment; its own (editable) rdlib is not, being no plain folder.
    site = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True,
                          capture_output=True, text=True).stdout.strip()
    (Path(site) / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


@pytest.mark.slow
def test_a_wheel_works_from_another_folder(elsewhere, tmp_path):
    script = ("import rdlib, torch; print(rdlib.__file__); "
              "data = rdlib.load_dataset('synthetic/weave', size=64, n_train=8); "
              "model = rdlib.ReverseDistillation('resnet18', weights='embedded'); "
              "rdlib.fit(model, data.train, 1, batch_size=4, progress=False); "
              "print(tuple(model.predict(data.test[0].image[None])[0].shape))")
    done = subprocess.run([elsewhere, "-E", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    where, shape = done.stdout.splitlines()
    assert Path(where).is_relative_to(elsewhere.parents[1]) and shape == "(1, 64, 64)"
