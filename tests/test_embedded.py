"""The teacher that ships: its file, its card, and that it works where there is no network."""
import ast
import hashlib
import json
import re
import socket
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from recording import teacher_crc
from safetensors import safe_open
from safetensors.torch import load_file

import rdlib
from rdlib import ReverseDistillation, load_dataset
from rdlib.encoder import TeacherEncoder
from rdlib.utils.errors import WeightsError
from rdlib.weights import EMBEDDED, embedded_teacher

ROOT = Path(__file__).parents[1]
RECIPE, RESULTS = ROOT / "data" / "teacher", ROOT / "data" / "results" / "teacher"
CARD = (RECIPE / "README.md").read_text(encoding="utf-8")


def test_the_file_is_small_half_precision_and_the_one_on_the_card():
    path = embedded_teacher()
    assert path.name == EMBEDDED and path.stat().st_size <= 6_000_000
    assert {value.dtype for value in load_file(path).values()} == {torch.float16}
    assert hashlib.sha256(path.read_bytes()).hexdigest() in CARD


def test_it_was_made_by_the_recipe_as_it_stands(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPE))
    import bank
    import train
    with safe_open(embedded_teacher(), "pt") as file:
        about = json.loads(file.metadata()["about"])
    recipe = train.Recipe()
    assert about["recipe"] == json.loads(json.dumps(asdict(recipe))) and about["bank"] == bank.Bank().record
    assert (about["version"], about["step"], about["precision"]) == (train.VERSION, recipe.steps, "bf16")
    assert f"{about['images_seen']:,}, in {about['step']:,} steps" in CARD


def test_the_numbers_on_the_card_are_those_on_record():
    """Of every teacher that was judged on held-out classes, its own row, to the printed digit."""
    found = {name: json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["teachers"]
             for name in ("validate", "rehearse")}
    shipped = teacher_crc(TeacherEncoder())
    assert all(rows["embedded"]["teacher_crc"] == shipped for rows in found.values())

    def shown(values, metrics):
        return " | ".join(f"{values[metric]:.3f}" for metric in metrics)
    metrics = ("image AUROC", "pixel AUROC", "AUPRO")
    for name, row in found["validate"].items():
        ratios = ", ".join(f"{ratio:.1f}" for ratio in row["line over grain"])
        assert f"| {ratios} | {shown(row, metrics)} |" in CARD
        ways = ", ".join(f"{number:.0f}" for number in row["directions"])
        learnt = shown(found["rehearse"][name], metrics) if name in found["rehearse"] else " | | "
        assert f"| {ways} | {learnt.strip()} |" in CARD, name


def test_recipe_and_benchmark_share_no_code():
    """Neither imports the other, whatever helpers of theirs have the same name."""
    def imported(path):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                yield from [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
    recipe = {path: set(imported(path)) for path in RECIPE.glob("*.py")}
    benchmark = {path: set(imported(path)) for path in (Path(rdlib.__file__).parent / "synthetic").glob("*.py")}
    assert len(recipe) >= 9 and len(benchmark) >= 8
    assert not [path for path, names in recipe.items() if any(name.startswith("rdlib.synthetic") for name in names)]
    own = {path.stem for path in recipe}
    assert not [path for path, names in benchmark.items() if own & {name.split(".")[0] for name in names}]


def test_it_gives_the_features_on_the_card():
    """Mean and standard deviation of each feature map of the first gear, 128 x 128."""
    model = ReverseDistillation("resnet18", weights="embedded")
    with torch.no_grad():
        teacher, _ = model.eval()(load_dataset("synthetic/gear", size=128).train[0].image[None])
    recorded = re.findall(r"^\| f(\d) \| ([\d.]+) \| ([\d.]+) \|", CARD, re.M)
    assert [int(k) for k, _, _ in recorded] == [1, 2, 3]
    for (_, mean, std), feature in zip(recorded, teacher, strict=True):
        assert feature.mean().item() == pytest.approx(float(mean), rel=2e-3)
        assert feature.std().item() == pytest.approx(float(std), rel=2e-3)


def test_its_features_are_neither_dead_nor_wild():
    model = ReverseDistillation("resnet18")
    data = load_dataset("synthetic/capsule", size=128, n_train=4).train
    with torch.no_grad():
        teacher, _ = model.eval()(torch.stack([data[i].image for i in range(4)]))
    for feature in teacher:
        assert torch.isfinite(feature).all() and 0.05 < feature.std() < 20
        alive = feature.amax((0, 2, 3)) > 1e-3
        assert alive.float().mean() > 0.8


def test_it_is_the_default_and_needs_no_network(monkeypatch):
    def no_network(*args, **kwargs):
        raise AssertionError("the embedded teacher asked for the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    default, named = TeacherEncoder(), TeacherEncoder("resnet18", weights="embedded")
    assert all(torch.equal(a, b) for a, b in zip(default.buffers(), named.buffers(), strict=True))


def test_a_library_without_its_weights_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("rdlib.utils.files.__file__", str(tmp_path / "rdlib" / "files.py"))
    with pytest.raises(WeightsError, match=f"lacks its teacher: {EMBEDDED}.*Reinstall the kit.*random_calibrated"):
        TeacherEncoder()
