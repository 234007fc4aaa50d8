"""The teacher that ships: its file, its card, and that it works where there is no network."""
import hashlib
import json
import re
import socket
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from rdlib import ReverseDistillation, load_dataset
from rdlib.encoder import TeacherEncoder
from rdlib.errors import WeightsError
from rdlib.weights import EMBEDDED, embedded_teacher

CARD = (Path(__file__).parents[1] / "data" / "teacher" / "README.md").read_text(encoding="utf-8")


def test_the_file_is_small_half_precision_and_the_one_on_the_card():
    path = embedded_teacher()
    assert path.name == EMBEDDED and path.stat().st_size <= 6_000_000
    assert {value.dtype for value in load_file(path).values()} == {torch.float16}
    assert hashlib.sha256(path.read_bytes()).hexdigest() in CARD


def test_it_says_what_made_it():
    with safe_open(embedded_teacher(), "pt") as file:
        about = json.loads(file.metadata()["about"])
    assert {"recipe", "bank", "images_seen", "precision"} <= set(about)
    assert f"{about['images_seen']:,}" in CARD


def test_it_gives_the_features_on_the_card():
    """Mean and deviation of each feature map of the first gear, 128 x 128."""
    model = ReverseDistillation("resnet18", weights="embedded")
    with torch.no_grad():
        teacher, _ = model.eval()(load_dataset("synthetic/gear", size=128).train[0].image[None])
    recorded = re.findall(r"^\| f(\d) \| ([\d.]+) \| ([\d.]+) \|", CARD, re.M)
    assert [int(k) for k, _, _ in recorded] == [1, 2, 3]
    for (_, mean, deviation), feature in zip(recorded, teacher, strict=True):
        assert feature.mean().item() == pytest.approx(float(mean), rel=2e-3)
        assert feature.std().item() == pytest.approx(float(deviation), rel=2e-3)


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
    monkeypatch.setattr("rdlib.files.__file__", str(tmp_path / "rdlib" / "files.py"))
    with pytest.raises(WeightsError, match=f"lacks its teacher: {EMBEDDED}.*Install the kit anew.*random_calibrated"):
        TeacherEncoder()
