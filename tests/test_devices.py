"""The same results on every device: tensors of an accelerator, several threads, the arithmetic of float32."""
import copy
import json
import os
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
from accelerator import accelerator
from torch.utils.data import TensorDataset

import rdlib
from rdlib import (
    ForwardStudent,
    MemoryBank,
    ReverseDistillation,
    bootstrap_intervals,
    course,
    evaluate,
    figures,
    fit,
    metrics,
    threshold_from_both,
    threshold_from_good,
)
from rdlib.deploy import doctor
from rdlib.detector import eval_mode
from rdlib.reproduction.store import provenance
from rdlib.threshold import distinct
from rdlib.utils import hardware

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
DRAW = torch.Generator().manual_seed(0)
LABELS, SCORES = torch.arange(40) % 2, torch.rand(40, generator=DRAW)
MAPS, MASKS = torch.rand(40, 8, 8, generator=DRAW), torch.rand(40, 8, 8, generator=DRAW) > 0.9
FPR, HEIGHT = torch.linspace(0, 1, 5), torch.linspace(0, 1, 5).sqrt()
IMAGES = torch.rand(6, 3, 32, 32, generator=DRAW)
CALLS = {
    "auroc": lambda x: metrics.auroc(x(LABELS), x(SCORES)),
    "average_precision": lambda x: metrics.average_precision(x(LABELS), x(SCORES)),
    "f1_max": lambda x: metrics.f1_max(x(LABELS), x(SCORES)),
    "aupro": lambda x: metrics.aupro(x(MASKS), x(MAPS)),
    "aupro_per_image": lambda x: metrics.aupro_per_image(x(MASKS), x(MAPS)),
    "pro_curve": lambda x: metrics.pro_curve(x(MASKS), x(MAPS)),
    "label_regions": lambda x: metrics.label_regions(x(MASKS[0])),
    "region_shares": lambda x: metrics.region_shares(x(MASKS)),
    "region_shares of a list": lambda x: metrics.region_shares(list(x(MASKS))),
    "area_up_to": lambda x: metrics.area_up_to(x(FPR), x(HEIGHT), 0.3),
    "curve_up_to": lambda x: metrics.curve_up_to(x(FPR), x(HEIGHT), 0.3),
    "distinct": lambda x: distinct(x(SCORES)),
    "threshold_from_good": lambda x: threshold_from_good(x(SCORES), x(MAPS)),
    "threshold_from_good of lists": lambda x: threshold_from_good(list(x(SCORES)), list(x(MAPS))),
    "threshold_from_both": lambda x: threshold_from_both(x(LABELS), x(SCORES), x(MAPS)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_functions_of_arrays_take_tensors_of_any_device(call, monkeypatch):
    expected = call(torch.Tensor.numpy)
    with accelerator(monkeypatch) as device:
        np.testing.assert_equal(call(lambda x: x.to(device)), expected)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("convert", [lambda x: x.bfloat16(), lambda x: x.clone().requires_grad_()],
                         ids=["bfloat16", "with gradient"])
def test_functions_of_arrays_take_tensors_of_any_kind(convert, call):
    def converted(x):
        return convert(x) if x.is_floating_point() else x
    np.testing.assert_equal(call(converted), call(lambda x: converted(x).detach().float().numpy() if
                                                  x.is_floating_point() else x.numpy()))


def test_the_stand_in_refuses_what_a_device_refuses(monkeypatch):
    with accelerator(monkeypatch) as device:
        there = SCORES.to(device)
        assert there.device.type == "mps" and torch.zeros(2, device=device).device.type == "mps"
        assert (there + 1).cpu().numpy()[0] == SCORES[0] + 1
        for wrong in (lambda: np.asarray(there), lambda: there + SCORES, lambda: there.double()):
            with pytest.raises((TypeError, RuntimeError)):
                wrong()


def build(cls):
    return cls("resnet18", "random", sigma=2)


@pytest.mark.parametrize("cls", [ReverseDistillation, ForwardStudent, MemoryBank])
def test_a_model_works_on_an_accelerator(cls, tmp_path, monkeypatch):
    """Training, evaluation, decision and file work there, and end near the CPU's numbers: only the layout differs."""
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    masks = (IMAGES[:, 0] > 0.9) & (labels[:, None, None] > 0)

    def result(device):
        model = build(cls).to(device)
        if cls is MemoryBank:
            model.fit(list(IMAGES.to(device)), progress=False)
        else:
            for epochs in (1, 2):
                fit(model, list(IMAGES.to(device)), epochs, batch_size=3, ema=0.9, progress=False,
                    checkpoint=tmp_path / f"{device}.ckpt")
        report = evaluate(model, TensorDataset(*(x.to(device) for x in (IMAGES, labels, masks))), progress=False)
        figures.gallery(report, n=1)
        bootstrap_intervals(report, 5)
        model.threshold = threshold_from_good(*reversed(model.predict(IMAGES.to(device))), rate=0.5)
        model.decide(list(IMAGES.to(device)))
        model.save(tmp_path / "model.safetensors")
        loaded = rdlib.load(tmp_path / "model.safetensors").to(device)
        assert torch.equal(*(m.predict(IMAGES)[1].cpu() for m in (model, loaded)))
        model.set_roi(torch.ones(32, 32).to(device) > 0)
        assert model.predict(IMAGES)[0].device.type == torch.device(device).type
        return report.scores

    expected = result("cpu")
    with accelerator(monkeypatch) as device:
        np.testing.assert_allclose(result(device), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("start, end", [("cpu", "mps"), ("mps", "cpu")])
def test_a_run_resumes_on_another_device(start, end, tmp_path, monkeypatch):
    """The memory layout and the kind of Adam differ. The second epoch's losses still are those of one device."""
    def losses(device, epochs, file):
        return fit(build(ReverseDistillation).to(device), list(IMAGES), epochs, batch_size=3, progress=False,
                   checkpoint=tmp_path / file).losses
    expected = losses("cpu", 2, "whole")
    with accelerator(monkeypatch):
        losses(start, 1, "half")
        np.testing.assert_allclose(losses(end, 2, "half"), expected, rtol=0.01)


@pytest.mark.parametrize("cls", [ReverseDistillation, ForwardStudent, MemoryBank])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
                         ids=["deepcopy", "pickle"])
def test_a_copy_of_a_model_predicts_the_same(copied, cls):
    model = build(cls)
    if cls is MemoryBank:
        model.fit(list(IMAGES), progress=False)
    model.threshold = threshold_from_good(*reversed(model.predict(IMAGES)), rate=0.5)
    other = copied(model)
    assert torch.equal(model.predict(IMAGES)[1], other.predict(IMAGES)[1]) and other.threshold == model.threshold
    assert repr(other) == repr(model)


def test_threads_that_predict_together_leave_batchnorm_and_modes_alone():
    """One thread ends while others are in the middle; in train mode, BatchNorm would change scores and statistics."""
    model = build(ReverseDistillation).train()
    model.ocbe.eval()
    modes, before = [m.training for m in model.modules()], copy.deepcopy(model.state_dict())
    expected = copy.deepcopy(model).predict(IMAGES)[1]
    together = Barrier(2, timeout=60)

    def short():
        with eval_mode(model, model.device):
            together.wait()  # the other one is inside
        together.wait()

    def long():
        with eval_mode(model, model.device):
            together.wait()
            together.wait()  # the first one has left
            return model.training, model.predict(IMAGES)[1]

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(short), pool.submit(long)
        first.result(), second.result()
    training, scores = second.result()
    assert not training and torch.equal(scores, expected)
    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(found[1], expected) for found in pool.map(model.predict, [IMAGES] * 8))
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_threads_restore_the_default_dtype_together():
    together = Barrier(2, timeout=60)

    def short():
        with hardware.neutral():
            together.wait()
        together.wait()

    def long():
        with hardware.neutral():
            together.wait()
            together.wait()
            return torch.get_default_dtype()

    try:
        torch.set_default_dtype(torch.float64)
        with ThreadPoolExecutor(2) as pool:
            pool.submit(short)
            assert pool.submit(long).result() == torch.float32
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_an_error_restores_the_mode():
    model = build(ReverseDistillation).train()
    with pytest.raises(ValueError, match="images"):
        model.predict(torch.zeros(1, 3, 33, 33))
    assert model.training and model.student.training and not model.teacher.training


MODES = {
    "": ("cpu", "matrix products ieee, convolutions ieee"),
    "torch.set_float32_matmul_precision('high')": ("cuda", "matrix products tf32, convolutions tf32"),
    "torch.set_float32_matmul_precision('highest')": ("cuda", "matrix products ieee, convolutions tf32"),
    "torch.set_float32_matmul_precision('medium')": ("cpu", "matrix products bf16, convolutions ieee"),
    "torch.backends.cuda.matmul.allow_tf32 = True": ("cuda", "matrix products tf32, convolutions tf32"),
    "torch.backends.cudnn.allow_tf32 = False": ("cuda", "matrix products ieee, convolutions ieee"),
    "torch.backends.fp32_precision = 'ieee'": ("cuda", "matrix products ieee, convolutions ieee"),
    "torch.backends.cuda.matmul.fp32_precision = 'tf32'": ("cuda", "matrix products tf32, convolutions tf32"),
    "torch.backends.cudnn.conv.fp32_precision = 'ieee'": ("cuda", "matrix products ieee, convolutions ieee"),
    "hardware.has_fast_bf16 = lambda device: False": ("cuda", "matrix products ieee, convolutions ieee"),
    "torch.backends.cudnn.allow_tf32 = True": ("mps", "matrix products ieee, convolutions ieee"),
}


def test_the_arithmetic_of_float32_is_told_for_the_old_and_the_new_settings():
    """Each setting in its own process, since torch refuses to mix them."""
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this torch has the old settings only")
    code = ("import os, sys, torch\nfrom rdlib.utils import hardware\nhardware.has_fast_bf16 = lambda device: True\n"
            "for line in sys.stdin.read().splitlines():\n    setting, device = line.split('|')\n"
            "    if os.fork() == 0:\n        exec(setting)\n"
            "        print(hardware.float32_mode(torch.device(device)), flush=True)\n        os._exit(0)\n"
            "    os.wait()")
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    lines = "\n".join(f"{setting}|{device}" for setting, (device, _) in MODES.items())
    found = subprocess.run([sys.executable, "-c", code], input=lines, capture_output=True, text=True, check=True)
    assert dict(zip(MODES, found.stdout.splitlines(), strict=True)) == {key: said for key, (_, said) in MODES.items()}


def test_old_versions_of_torch_tell_the_arithmetic_too(monkeypatch):
    monkeypatch.setattr(hardware, "has_fast_bf16", lambda device: True)
    old = type("Backends", (), {"cudnn": type("Cudnn", (), {"allow_tf32": True})})
    monkeypatch.setattr(torch, "backends", old)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert hardware.float32_mode(torch.device("cuda")) == "matrix products tf32, convolutions tf32"
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "highest")
    old.cudnn.allow_tf32 = False
    assert hardware.float32_mode(torch.device("cuda")) == "matrix products ieee, convolutions ieee"


def test_results_runs_and_doctor_tell_the_arithmetic_of_float32(monkeypatch):
    said = "matrix products ieee, convolutions ieee"
    device = torch.device("cpu")
    assert provenance(device)["float32"] == said
    run = fit(build(ReverseDistillation), list(IMAGES), 1, batch_size=3, progress=False)
    assert run.settings["float32"] == said
    monkeypatch.setattr(doctor, "best_device", lambda: device)
    monkeypatch.setattr(doctor, "is_reachable", lambda url: False)
    assert any(f"float32: {said}" in line for line in doctor.report_lines())


def cells(name):
    """Return the code cells of a notebook by their ids."""
    found = json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))["cells"]
    return {cell["id"]: "".join(cell["source"]) for cell in found if cell["cell_type"] == "code"}


@pytest.mark.parametrize(("layout", "fused"), [(torch.channels_last, True), (torch.contiguous_format, False)])
def test_the_plain_loop_of_the_notebook_is_fit_on_every_device(layout, fused, monkeypatch):
    """Bit for bit, in the layout and with the Adam of CPU and CUDA, or of MPS."""
    for module in ("utils.hardware", "training.loop", "detector.base"):
        monkeypatch.setattr(f"rdlib.{module}.memory_format", lambda device: layout)
    for module in ("utils.hardware", "training.loop"):
        monkeypatch.setattr(f"rdlib.{module}.has_fused_adam", lambda device: fused)
    monkeypatch.setitem(course.PROFILES, "cpu", replace(course.PROFILES["cpu"], size=64))
    monkeypatch.delenv("RDLIB_PROFILE", raising=False)
    code, space = cells("06_training.ipynb"), {}
    for cell in ("cell-02", "cell-04", "cell-06", "cell-08", "cell-10"):
        exec(code[cell], space)
    assert space["plain_losses"] == space["run"].losses and len(space["run"].losses) == 8


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.rglob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_fetch_predictions_from_the_device(path):
    lines = [line for code in cells(path).values() for line in code.splitlines()
             if re.search(r"\.(predict|decide)\(.*\.numpy\(\)", line)]
    assert all(".cpu().numpy()" in line for line in lines), lines
