"""Costs: parameters against the published design, operations against arithmetic by hand."""
import json
import shutil
import time

import complexity
import psutil
import pytest
import torch
from complexity import count_flops, count_parameters, images_per_second, load_costs, measure_and_store
from torch import nn

from rdlib import ReverseDistillation
from rdlib.utils.hardware import peak_memory_mib
from rdlib.variants.baselines import ForwardStudent


@pytest.mark.parametrize("backbone, ocbe, student", [("resnet18", 11.68, 3.70), ("wide_resnet50_2", 58.89, 24.92)])
def test_parameters_are_the_designs(backbone, ocbe, student):
    """In millions, rounded."""
    model = ReverseDistillation(backbone, weights=None)
    assert round(count_parameters(model.ocbe) / 1e6, 2) == ocbe
    assert round(count_parameters(model.student) / 1e6, 2) == student
    assert count_parameters(model.ocbe) == sum(p.numel() for p in model.ocbe.parameters())


def test_frozen_parameters_count_and_statistics_do_not():
    forward = ForwardStudent("resnet18", None)
    assert count_parameters(forward.teacher) == sum(p.numel() for p in forward.student.parameters()) == 2_782_784


def test_one_layers_operations_by_hand():
    first = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
    assert count_flops(first, (256, 256)) == 2 * (128 * 128 * 64) * (3 * 7 * 7)
    up = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.ConvTranspose2d(8, 5, 2, stride=2, bias=False))
    assert count_flops(up, (16, 16)) == 2 * 16 * 16 * 8 * 3 + 2 * (16 * 16 * 8) * (5 * 2 * 2)


def test_a_whole_models_operations_by_hand():
    """Every convolution multiplies and adds once for each weight and position: of the output, or of the input if it is
    transposed."""
    model, total = ReverseDistillation("resnet18", weights=None).eval(), []

    def add(layer, inputs, output):
        positions = (inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output).shape[-2:].numel()
        total.append(2 * positions * layer.weight.numel())

    hooks = [layer.register_forward_hook(add) for layer in model.modules()
             if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    with torch.no_grad():
        model(torch.rand(1, 3, 64, 96))
    for hook in hooks:
        hook.remove()
    assert count_flops(model, (64, 96)) == sum(total)
    assert model.device.type == "cpu", "the model is left where it was"


def test_speed_counts_images_and_leaves_out_the_first_call():
    calls = []

    def predict(images):
        calls.append(len(images))
        time.sleep(0.2 if len(calls) == 1 else 0.02)

    speed = images_per_second(predict, torch.zeros(4, 3, 8, 8), seconds=0.2)
    assert 60 < speed <= 200 and len(calls) > 2


def test_costs_are_measured_stored_and_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(complexity, "RESULTS", tmp_path)
    assert complexity.main(["--report"]) == 1 and "holds no costs" in capsys.readouterr().err
    threads = torch.get_num_threads()
    measure_and_store("resnet18", "cpu", 64, "float32", 1, tmp_path / "costs")
    torch.set_num_threads(threads)
    found = json.loads((tmp_path / "costs" / "resnet18-cpu-64-float32.json").read_text(encoding="utf-8"))
    assert found["parameters"] == {"teacher": 2_782_784, "ocbe": 11_680_000, "student": 3_703_168}
    assert found["flops"] == count_flops(ReverseDistillation("resnet18", weights=None), (64, 64))
    assert found["peak_memory_mb"] > 0
    (line,) = load_costs(tmp_path / "costs").to_dict(orient="records")
    assert (line["ocbe, M weights"], line["student, M weights"], line["threads"]) == (11.68, 3.70, 1)
    assert line["GFLOP per image"] == pytest.approx(8.65 / 16, abs=0.06) and line["images/s"] > 1
    assert complexity.main(["--report"]) == 0 and "11.68" in capsys.readouterr().out
    assert "11.68" in (tmp_path / "tables" / "complexity.csv").read_text(encoding="utf-8")


def test_the_stored_table_of_costs_is_that_of_its_results(tmp_path, monkeypatch):
    shutil.copytree(complexity.RESULTS / "costs", tmp_path / "costs")
    stored = complexity.RESULTS / "tables"
    monkeypatch.setattr(complexity, "RESULTS", tmp_path)
    assert complexity.main(["--report"]) == 0
    for name in ("complexity.csv", "complexity.md"):
        assert (tmp_path / "tables" / name).read_text("utf-8") == (stored / name).read_text("utf-8")


def test_peak_memory_is_this_processs_in_mib():
    held = psutil.Process().memory_info().rss / 2**20
    assert 0.99 * held <= peak_memory_mib(torch.device("cpu")) < 50 * held
