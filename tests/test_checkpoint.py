"""A checkpoint proves itself: damage and what does not fit are refused before anything changes."""
import contextlib
import json
import math
import re

import numpy as np
import pytest
import torch
from test_training import images

import rdlib
from rdlib import ForwardStudent, ReverseDistillation, fit
from rdlib.training import MovingAverage, Run
from rdlib.training.checkpoint import read_checkpoint
from rdlib.utils.arrays import digest
from rdlib.utils.errors import CheckpointError
from rdlib.utils.seal import UNSEALED, seal


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A checkpoint, and the run that wrote it."""
    path = tmp_path_factory.mktemp("checkpoint") / "run.ckpt"
    model = ForwardStudent("resnet18", weights=None)
    return path, fit(model, images(4, 32), 1, checkpoint=path, ema=0.5, progress=False)


def empty(run):
    """A run of the same settings that has not begun, and its optimizer."""
    model, settings = ForwardStudent("resnet18", weights=None), dict(run.settings)
    del settings["cached"], settings["value_range"]
    new = Run(model, 2, run.steps_per_epoch, run.images_per_epoch, settings,
              average=MovingAverage(model.trainable_modules(), 0.5))
    return new, torch.optim.Adam(model.parameters(), lr=settings["lr"], betas=settings["betas"], fused=True)


def content(run, optimizer):
    return digest([run.model.state_dict(), run.average.average.state_dict(), optimizer.state_dict(), run.settings,
                   run.losses, run.seconds, run.notes])


def test_a_changed_bit_anywhere_in_a_checkpoint_is_found(written, tmp_path):
    """Also in what torch does not read, such as the dates in a zip, and in the digest itself."""
    (path, run), draw = written, np.random.default_rng(0)
    whole = bytearray(path.read_bytes())
    digits = re.search(rb'sha256": "\w{64}', whole).end() - 1
    ends = *draw.integers(2000, size=6), *(len(whole) - 1 - np.arange(0, 90, 9))
    places = [digits, *map(int, [*draw.integers(len(whole), size=12), *ends])]
    fresh, optimizer = empty(run)
    before = content(fresh, optimizer)
    for place in places:
        changed = whole.copy()
        changed[place] ^= 1 << int(draw.integers(8)) if place != digits else 1
        (tmp_path / "run.ckpt").write_bytes(changed)
        with pytest.raises(CheckpointError, match=r"run\.ckpt cannot be .*SHA-256 of its bytes is \w{64}, it says "):
            read_checkpoint(tmp_path / "run.ckpt", fresh, optimizer)
        assert content(fresh, optimizer) == before
    read_checkpoint(path, fresh, optimizer)
    assert fresh.losses == run.losses


def moments(change):
    """Change the moments of the first parameter."""
    def changed(state):
        state["optimizer"]["state"][0] = change(state["optimizer"]["state"][0])
    return changed


def put(*keys, value):
    """Put a value into a checkpoint's nested dicts, or take it from them."""
    def changed(state):
        for key in keys[:-1]:
            state = state[key]
        state[keys[-1]] = value(state[keys[-1]]) if callable(value) else value
    return changed


KERNEL, VARIANCE = "student.layer1.0.conv1.weight", "student.layer1.0.bn1.running_var"
WRONG = {
    "losses='abc'": (put("losses", value="abc"), "losses"), "losses=None": (put("losses", value=None), "TypeError"),
    "losses of NaN": (put("losses", value=[math.nan]), "losses"),
    "losses of text": (put("losses", value=["1"]), "losses"),
    "negative losses": (put("losses", value=[-5.0]), "losses"),
    "negative seconds": (put("seconds", value=-1.0), "seconds"),
    "seconds": (put("seconds", value=math.inf), "seconds"), "notes": (put("notes", value=[]), "notes"),
    "settings": (put("settings", value=[]), "AttributeError"),
    "lr": (put("settings", "lr", value=1), "lr: 1 there, 0.005 here"),
    "cached": (put("settings", "cached", value="no"), "choice of cache"),
    "value_range": (put("settings", "value_range", value=[math.nan, 1]), "value_range must .* got nan"),
    "no value_range": (put("settings", "value_range", value=None), "value_range"),
    "networks": (put("networks", value=None), "TypeError"),
    "no networks": (lambda state: state.pop("networks"), "'networks'"),
    "key": (lambda state: state["networks"].pop(KERNEL), f"'networks' has no '{KERNEL}'"),
    "unknown key": (put("networks", "x", value=torch.ones(1)), "'x' is no part"),
    "shape": (put("networks", KERNEL, value=lambda x: x[:1]), f"'{KERNEL}' has shape"),
    "dtype": (put("networks", KERNEL, value=lambda x: x.to(torch.int8)), "has the dtype torch.int8"),
    "NaN": (put("networks", KERNEL, value=lambda x: x * math.nan), f"'{KERNEL}' holds NaN"),
    "variance": (put("networks", VARIANCE, value=lambda x: -x - 1), f"'{VARIANCE}' is a variance but holds negative"),
    "average": (put("networks", "average.n_averaged", value=torch.tensor(9)), "count of averages"),
    "optimizer={}": (put("optimizer", value={}), "param_groups"),
    "optimizer": (put("optimizer", value=None), "TypeError"),
    "decay": (lambda state: state["optimizer"]["param_groups"][0].update(weight_decay=5), "weight_decay=5, this one 0"),
    "groups": (put("optimizer", "param_groups", value=[]), "ValueError"),
    "moment": (moments(lambda old: old | {"exp_avg": old["exp_avg"][:1]}), "moments of parameter 0 do not fit"),
    "moments gone": (moments(lambda old: {"step": old["step"]}), "moments of parameter 0 do not fit"),
    "moments of NaN": (moments(lambda old: old | {"exp_avg": old["exp_avg"] * math.nan}), "'0.exp_avg' holds NaN"),
    "negative": (moments(lambda old: old | {"exp_avg_sq": -old["exp_avg_sq"] - 1}), "'0.exp_avg_sq' is a variance"),
    "steps": (moments(lambda old: old | {"step": torch.tensor(7.0)}), "moments of parameter 0 do not fit"),
    "no step": (moments(lambda old: old | {"step": torch.tensor(0.0)}), "fit it, or 1 steps"),
    "moments of one gone": (lambda state: state["optimizer"]["state"].pop(0), "of 44 parameters; 45 are trained"),
    "no moments": (put("optimizer", "state", value={}), "moments of 0 parameters; 45 are trained"),
    "parameter": (put("optimizer", "state", 999, value={}), "moments of 46 parameters; 45 are trained"),
    "no SHA-256": (None, "it says none")}


@pytest.mark.parametrize("name", WRONG)
def test_a_refused_checkpoint_changes_neither_model_nor_run_nor_optimizer(name, written, tmp_path):
    """Each has a right SHA-256, but one thing in it is wrong."""
    (path, run), (change, words) = written, WRONG[name]
    state = torch.load(path, weights_only=True)
    state["sha256"] = json.dumps(UNSEALED)
    with contextlib.suppress(KeyError):
        (change or (lambda state: state.pop("sha256")))(state)
    torch.save(state, tmp_path / "run.ckpt")
    if change:
        seal(tmp_path / "run.ckpt")
    fresh, optimizer = empty(run)
    before = content(fresh, optimizer)
    with pytest.raises(CheckpointError, match=rf"run\.ckpt (cannot be read as|belongs to).*{words}"):
        read_checkpoint(tmp_path / "run.ckpt", fresh, optimizer)
    assert content(fresh, optimizer) == before


def test_a_run_on_fewer_scales_resumes_though_parts_of_it_are_not_trained(tmp_path):
    model = ReverseDistillation("resnet18", weights=None)
    first = fit(model, images(4, 32), 1, scales=(3,), checkpoint=tmp_path / "run.ckpt", progress=False)
    assert len(torch.load(tmp_path / "run.ckpt", weights_only=True)["optimizer"]["state"]) < 60
    run = fit(model, images(4, 32), 2, scales=(3,), checkpoint=tmp_path / "run.ckpt", progress=False)
    assert run.losses[:1] == first.losses and run.epoch == 2


def test_a_model_of_another_seed_does_not_take_over_a_checkpoint(tmp_path):
    path, images = tmp_path / "run.ckpt", list(torch.rand(4, 3, 32, 32))
    models = [ReverseDistillation("resnet18", weights=None, seed=seed) for seed in (0, 1, 0)]
    fit(models[0], images, 1, batch_size=4, checkpoint=path, progress=False)
    with pytest.raises(CheckpointError, match="seed of the weights: 0 there, 1 here"):
        fit(models[1], images, 1, batch_size=4, checkpoint=path, progress=False)
    models[0].save(tmp_path / "model.safetensors")
    for model in (models[2], rdlib.load(tmp_path / "model.safetensors"), models[0]):
        assert fit(model, images, 2, batch_size=4, checkpoint=path, progress=False).epoch == 2


def test_notes_of_callbacks_are_numbers_of_python_in_the_file(tmp_path):
    def note(run):
        run.notes["own"] = {"float": np.float32(0.5), 1: [np.int64(3), ("a", None)], "text": '"sha256": "' + "0" * 64}
    path, images = tmp_path / "run.ckpt", list(torch.rand(4, 3, 32, 32))
    for epochs in (1, 2):
        model = ReverseDistillation("resnet18", weights=None)
        run = fit(model, images, epochs, batch_size=4, checkpoint=path, callbacks=[note], progress=False)
    assert run.notes["own"]["float"] == 0.5
    kept = torch.load(path, weights_only=True)["notes"]["own"]
    assert kept == {"float": 0.5, 1: [3, ("a", None)], "text": '"sha256": "' + "0" * 64}
    with pytest.raises(TypeError, match="A callback keeps a PosixPath|A callback keeps a WindowsPath"):
        fit(ReverseDistillation("resnet18", weights=None), images, 1, batch_size=4, checkpoint=tmp_path / "other.ckpt",
            callbacks=[lambda run: run.notes.update(path=tmp_path)], progress=False)
