"""The training loop: protocol, determinism, stopping and resuming, the feature cache, and what goes wrong."""
import json
import random
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import Generic, TypeVar

import numpy as np
import pytest
import torch
from parity import assert_close, batch, official_outputs, official_state
from torch.utils.data import Dataset, Subset, TensorDataset

from rdlib import ForwardStudent, ReverseDistillation, fit
from rdlib.datasets.items import augments
from rdlib.datasets.samples import AnomalyDataset, Item
from rdlib.losses import positional_cosine_loss
from rdlib.training.checkpoint import load_optimizer
from rdlib.training.features import CachedFeatures, LiveFeatures
from rdlib.training.loop import epoch_chunks
from rdlib.utils.errors import CheckpointError
from rdlib.utils.hardware import available_memory, has_fast_bf16, resolve_precision
from rdlib.utils.seal import UNSEALED, seal


class Images(Dataset):
    """A training set of given images."""

    def __init__(self, images, augmented=False):
        self.images, self.augmented, self.reads = images, augmented, 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.reads += 1
        blank = torch.zeros(self.images.shape[-2:], dtype=torch.bool)
        return Item(self.images[index], 0, blank, index, blank)


class Jittered(Images):
    """The same, a little brighter or darker each time, by all three generators that augmentations draw from."""

    def __init__(self, images):
        super().__init__(images, augmented=True)

    def __getitem__(self, index):
        item = super().__getitem__(index)
        change = torch.rand(1).item() + np.random.rand() + random.random()
        return item._replace(image=item.image + 0.1 * change)


def images(n=10, size=64):
    return Images(torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0)))


def weights(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def train(epochs=3, data=None, **options):
    model = ReverseDistillation("resnet18", weights=None)
    run = fit(model, images() if data is None else data, epochs, **{"batch_size": 4, "progress": False} | options)
    return run, weights(model)


def test_fit_is_the_official_training(tmp_path):
    """`fit` itself, not only the pieces it is made of, goes through the recorded losses."""
    for part in ("encoder", "bn", "decoder"):
        torch.save(official_state("resnet18", part), tmp_path / f"{part}.pth")
    torch.save({p: official_state("resnet18", p) for p in ("bn", "decoder")}, tmp_path / "checkpoint.pth")
    model = ReverseDistillation("resnet18", weights=tmp_path / "encoder.pth", normalize=False)
    model.load_official(tmp_path / "checkpoint.pth")
    run = fit(model, Images(batch(0)), epochs=1, batch_size=4, progress=False)
    assert_close(run.losses, official_outputs("resnet18")["train_losses_float64"][:1], tolerance=1e-5)


def test_the_defaults_are_the_official_protocol():
    import inspect
    defaults = {name: p.default for name, p in inspect.signature(fit).parameters.items()}
    official = {"epochs": 200, "batch_size": 16, "lr": 0.005, "betas": (0.5, 0.999), "loss": "flattened",
                "precision": "float32"}
    assert official.items() <= defaults.items()


def test_same_seed_same_weights_bit_for_bit():
    (first, a), (second, b) = train(seed=3), train(seed=3)
    assert first.losses == second.losses and equal(a, b)
    assert not equal(a, train(seed=4)[1])


def test_fit_draws_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    train(epochs=1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("stop_after", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4, 8))])
def test_stopped_after_any_step_and_resumed_is_one_run(tmp_path, stop_after):
    """10 images in batches of 4 are 3 steps an epoch, so these stops lie inside and at the end of epochs."""
    whole, expected = train()

    def stop(run):
        run.stop = run.step == stop_after

    path = tmp_path / "run.ckpt"
    part, _ = train(callbacks=[stop], checkpoint=path)
    assert part.step == stop_after
    resumed, result = train(checkpoint=path)
    assert resumed.losses == whole.losses and equal(result, expected)


def test_a_run_goes_on_in_another_memory_layout(tmp_path, monkeypatch):
    """As if it had begun on a device whose convolutions want the other layout."""
    path = tmp_path / "run.ckpt"
    with monkeypatch.context() as patch:
        for module in ("training.loop", "detector.base"):
            patch.setattr(f"rdlib.{module}.memory_format", lambda device: torch.contiguous_format)
        train(epochs=2, checkpoint=path)
        expected, _ = train(epochs=4)
    resumed, _ = train(epochs=4, checkpoint=path)
    assert resumed.losses == pytest.approx(expected.losses, rel=0.01)


def test_loaded_moments_lie_in_memory_as_their_parameters_do():
    def adam(layout):
        weight = torch.nn.Parameter(torch.ones(4, 3, 2, 2).contiguous(memory_format=layout))
        return torch.optim.Adam([weight]), weight

    before, weight = adam(torch.contiguous_format)
    weight.grad = torch.arange(48.0).view(4, 3, 2, 2)
    before.step()
    after, other = adam(torch.channels_last)
    load_optimizer(after, before.state_dict())
    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(after.state[other][name], before.state[weight][name])
        assert after.state[other][name].stride() == other.stride() != weight.stride()
    assert after.state[other]["step"] == 1


def test_more_epochs_later_are_the_same_run(tmp_path):
    path = tmp_path / "run.ckpt"
    train(epochs=2, checkpoint=path)
    assert equal(train(epochs=3, checkpoint=path)[1], train(epochs=3)[1])


def test_resuming_keeps_to_the_cache_it_began_with(tmp_path):
    path = tmp_path / "run.ckpt"
    train(epochs=1, cache=False, checkpoint=path)
    run, _ = train(epochs=2, cache=True, checkpoint=path)
    assert run.settings["cached"] is False


def test_a_killed_run_keeps_its_last_checkpoint(tmp_path):
    path = tmp_path / "run.ckpt"

    def die(run):
        if run.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(callbacks=[die], checkpoint=path, checkpoint_every=1)
    assert equal(train(checkpoint=path)[1], train()[1])
    assert [file.name for file in tmp_path.iterdir()] == ["run.ckpt"]


def test_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "run.ckpt"
    train(epochs=1, checkpoint=path)
    with pytest.raises(CheckpointError, match="lr: 0.005 there, 0.001 here"):
        train(lr=0.001, checkpoint=path)
    with pytest.raises(CheckpointError, match="teacher"):
        fit(ReverseDistillation("resnet18", weights=None, seed=1), images(), 1, batch_size=4, checkpoint=path,
            progress=False)


def test_checkpoint_of_other_images_is_refused(tmp_path):
    path = tmp_path / "run.ckpt"
    train(epochs=1, checkpoint=path)
    other = images()
    other.images[0] += 0.5
    for data in (other, images(size=96), Jittered(images().images)):
        with pytest.raises(CheckpointError, match="image"):
            train(data=data, checkpoint=path)


def test_checkpoint_that_has_gone_further_is_refused(tmp_path):
    """Its weights are not those of a shorter run, and must not be reported as such."""
    path = tmp_path / "run.ckpt"
    train(epochs=2, checkpoint=path)
    with pytest.raises(CheckpointError, match="already holds 2 epochs, more than the 1 asked for"):
        train(epochs=1, checkpoint=path)


def test_callbacks_may_be_any_iterable():
    steps = []
    train(epochs=2, callbacks=(f for f in [lambda run: steps.append(run.step)]))
    assert steps == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
def test_damaged_checkpoint(tmp_path, content):
    path = tmp_path / "run.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"run\.ckpt.*Delete it"):
        train(checkpoint=path)
    assert path.read_bytes() == content


def test_cached_features_train_as_fresh_ones_do():
    cached, _ = train(epochs=1, cache=True)
    fresh, _ = train(epochs=1, cache=False)
    assert cached.losses == pytest.approx(fresh.losses, rel=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_teacher_computes_in_the_precision_asked_for(precision):
    """Whether its features are kept or not: the student must not see two teachers."""
    model, data, places = ReverseDistillation("resnet18", weights=None), images(4), [torch.arange(4)]
    live = LiveFeatures(model, data, 0, precision)
    for source in (live, CachedFeatures(live, 4, progress=False)):
        ((_, features),) = source.batches([(0, chunk) for chunk in places])
        assert {f.dtype for f in features} == {torch.bfloat16 if precision == "bf16" else torch.float32}
    cached, fresh = (train(epochs=1, cache=cache, precision=precision)[0] for cache in (True, False))
    assert cached.losses[0] == pytest.approx(fresh.losses[0], rel=1e-5)


def test_augmentation_follows_from_seed_and_epoch():
    """However many processes read the images, and without touching the caller's generators."""
    model, data, chunks = ReverseDistillation("resnet18", weights=None), Jittered(images(6).images), [torch.arange(6)]

    def read(seed, epoch, num_workers=0, part=slice(None)):
        source = LiveFeatures(model, data, seed, "float32", num_workers)
        return torch.cat(list(source.images((epoch, c) for c in chunks[0][part].split(2))))

    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first = read(0, 0)
    assert torch.equal(first, read(0, 0)) and torch.equal(first, read(0, 0, num_workers=2))
    assert torch.equal(first[4:], read(0, 0, num_workers=1, part=slice(4, 6))), "as after a resume within the epoch"
    others = [read(0, 1), read(0, 1, num_workers=1), read(1, 0, num_workers=1)]
    assert torch.equal(others[0], others[1])
    for other in others:
        assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    shifts = (first - data.images).mean((1, 2, 3))
    assert len(shifts.unique()) == 6, "each image is changed otherwise"
    assert torch.equal(before[0], torch.get_rng_state()) and before[2] == random.getstate()
    assert np.array_equal(before[1], np.random.get_state()[1])


@pytest.mark.parametrize("num_workers", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_a_run_on_augmented_images_is_one_run_stopped_or_not(tmp_path, num_workers):
    def augmented(**options):
        return train(2, data=Jittered(images().images), num_workers=num_workers, **options)

    def stop(run):
        run.stop = run.step == 4

    whole, expected = augmented()
    assert whole.settings["cached"] is False and whole.settings["training images"] is None
    augmented(checkpoint=tmp_path / "run.ckpt", callbacks=[stop])
    resumed, result = augmented(checkpoint=tmp_path / "run.ckpt")
    assert resumed.losses == whole.losses and equal(result, expected)


def test_kept_features_of_augmented_images_are_those_that_the_student_sees():
    """A student of images must not be given one version of an image and the teacher's features of another."""
    model, data = ForwardStudent("resnet18", weights=None), Jittered(images(4).images)
    source = CachedFeatures(LiveFeatures(model, data, 0, "float32"), 4, progress=False)
    ((seen, features),) = source.batches([(3, torch.arange(4))])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(features, model.extract_features(seen), strict=True))


def test_part_of_a_data_set_is_kept_as_the_whole_is():
    still, moving = images(), Jittered(images().images)
    assert train(epochs=1, data=Subset(still, range(6)))[0].settings["cached"] is True
    assert train(epochs=1, data=Subset(moving, range(6)))[0].settings["cached"] is False


@pytest.mark.parametrize("base", [Dataset, Subset])
def test_a_set_that_augments_another_is_not_taken_for_it(base):
    """Its images would be kept as they were first read, and the augmentation lost without a word."""
    class Augmenting(base):
        def __init__(self, dataset):
            self.dataset, self.indices = dataset, range(len(dataset))

        def __len__(self):
            return len(self.dataset)

        def __getitem__(self, index):
            item = self.dataset[index]
            return item._replace(image=item.image + 0.1 * torch.rand(1))

    data = Augmenting(images(6))
    assert augments(data) and augments(Subset(data, [0, 1])) and not augments(Subset(Subset(data.dataset, [1, 0]), [1]))
    assert train(epochs=1, data=data)[0].settings["cached"] is False


def test_a_data_set_that_reads_its_items_in_its_own_way_is_taken_to_augment():
    def getitem(self, index):
        return AnomalyDataset.__getitem__(self, index)

    for body, expected in (({}, False), ({"__getitem__": getitem}, True),
                           ({"__getitem__": getitem, "augmented": False}, False)):
        kind = type("Own", (AnomalyDataset,), body)
        assert augments(kind([], (64, 64))) is augments(type("Further", (kind,), {})([], (64, 64))) is expected

    class Typed(AnomalyDataset, Generic[TypeVar("T")]):
        """As a type checker wants it; Generic has a hook for subclasses of its own."""

    assert not augments(Typed[int]([], (64, 64)))


@contextmanager
def double():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SWITCHES = {"autocast": lambda: torch.autocast("cpu", torch.bfloat16), "no_grad": torch.no_grad, "double": double,
            "inference": torch.inference_mode}


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("switch", SWITCHES)
def test_the_callers_switches_change_nothing(switch, cache):
    expected = train(epochs=1, cache=cache)
    model, data = ReverseDistillation("resnet18", weights=None), images()
    with SWITCHES[switch]():
        run = fit(model, data, 1, batch_size=4, cache=cache, progress=False)
        assert torch.get_default_dtype() == (torch.float64 if switch == "double" else torch.float32)
        assert torch.is_grad_enabled() == (switch not in ("no_grad", "inference"))
        assert torch.is_autocast_enabled("cpu") == (switch == "autocast")
    assert run.losses == expected[0].losses and equal(weights(model), expected[1])


@pytest.mark.parametrize(("options", "message"), [
    ({"epochs": 0}, "epochs must be a whole number from 1 to 4294967295; got 0"),
    ({"epochs": -1}, "epochs"), ({"epochs": 1.5}, r"epochs .* got 1\.5"), ({"epochs": "3"}, "epochs .* got '3'"),
    ({"epochs": True}, "epochs"), ({"batch_size": 0}, "batch_size"), ({"batch_size": 2.0}, "batch_size"),
    ({"seed": -1}, "seed must be a whole number from 0"), ({"seed": 1.5}, "seed"), ({"seed": 2**40}, "seed"),
    ({"checkpoint_every": 0}, "checkpoint_every"), ({"num_workers": -1}, "num_workers"),
    ({"loss": ["flattened"]}, r"loss must be a str; got \['flattened'\]"),
    ({"cache": "no"}, "no cache 'no'. Choose one of: True, False, auto"),
    ({"precision": "half"}, "precision 'half'"),
])
def test_arguments_that_make_no_sense_are_refused(options, message):
    model = ReverseDistillation("resnet18", weights=None)
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        fit(model, images(4), **{"epochs": 1, "progress": False} | options)
    assert equal(before, weights(model))


def test_numpys_numbers_are_numbers(tmp_path):
    """A checkpoint is read without pickle, so it holds none of them, nor does the optimizer's part of it."""
    same = {"lr": 0.002, "betas": (0.5, 0.9), "ema": 0.5, "seed": 3, "scales": (1, 2), "schedule": "cosine"}
    train(np.int64(1), checkpoint=tmp_path / "run.ckpt", lr=np.float64(0.002), betas=np.array([0.5, 0.9]),
          ema=np.float64(0.5), seed=np.int64(3), scales=np.array([2, 1]), schedule=np.str_("cosine"))
    assert equal(train(1, checkpoint=tmp_path / "run.ckpt", **same)[1], train(1, **same)[1])


@pytest.mark.parametrize("error", [None, FloatingPointError, KeyboardInterrupt])
def test_callbacks_are_told_when_training_ends(error):
    told = []

    class Watching:
        def __init__(self, name):
            self.name = name

        def __call__(self, run):
            if error and self.name == "second" and run.step == 2:
                raise error

        def on_end(self, run):
            told.append((self.name, run.step, run.model.training))
            if error and self.name == "second":
                raise RuntimeError("the other one is told all the same")

    callbacks = [Watching("first"), Watching("second"), lambda run: None]
    if error:
        with pytest.raises(RuntimeError, match="all the same"):
            train(1, callbacks=callbacks)
    else:
        train(1, callbacks=callbacks)
    assert sorted(told) == [(name, 2 if error else 3, False) for name in ("first", "second")]


def test_auto_cache_reads_each_image_once_unless_it_is_augmented():
    still, moving = images(), images()
    moving.augmented = True
    assert train(data=still)[0].settings["cached"] and not train(data=moving)[0].settings["cached"]
    assert still.reads < 2 * len(still) <= 3 * len(moving) <= moving.reads


def test_auto_cache_gives_way_where_memory_is_short(monkeypatch):
    from types import SimpleNamespace
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1_000_000, total=10**10))
    assert train(epochs=1)[0].settings["cached"] is False


def test_every_image_once_an_epoch_in_an_order_that_changes():
    data = images(11)
    first, second = (torch.cat(epoch_chunks(data, 4, seed=0, epoch=e)) for e in (0, 1))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(11))
    assert first.tolist() != second.tolist()
    assert [len(chunk) for chunk in epoch_chunks(data, 4, 0, 0)] == [4, 4, 3], "the last small batch is kept"


def test_a_lone_image_is_left_out_where_the_embedding_is_1_x_1():
    data = images(9, size=32)
    run, _ = train(epochs=1, data=data)
    assert run.step == 2 and run.images_per_epoch == 8
    assert [len(chunk) for chunk in epoch_chunks(images(9, size=64), 4, 0, 0)] == [4, 4, 1]
    with pytest.raises(ValueError, match="two or more to a batch"):
        train(data=data, batch_size=1)


def test_the_loss_falls():
    run, _ = train(epochs=12)
    assert run.epoch_losses[-1] < 0.8 * run.epoch_losses[0]
    assert run.epoch == 12 and run.at_epoch_end


def test_the_loss_asked_for_is_the_loss_used():
    seen = []
    model = ReverseDistillation("resnet18", weights=None)
    data = images(4)
    model.train()
    with torch.no_grad():
        seen = positional_cosine_loss(*ReverseDistillation("resnet18", weights=None).train()(data.images)).item()
    run = fit(model, data, 1, batch_size=4, loss="positional", progress=False)
    assert run.losses[0] == pytest.approx(seen, rel=1e-5)


def test_bf16_trains_to_about_the_same_loss():
    exact, rounded = train(epochs=6)[0], train(epochs=6, precision="bf16")[0]
    assert rounded.losses != exact.losses
    assert rounded.epoch_losses[-1] == pytest.approx(exact.epoch_losses[-1], rel=0.2)


def test_precision_auto_follows_the_hardware(monkeypatch):
    cpu = torch.device("cpu")
    assert resolve_precision("auto", cpu) == ("bf16" if has_fast_bf16(cpu) else "float32")
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True}, raising=False)
    assert resolve_precision("auto", cpu) == "float32"
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (7, 5))
    assert resolve_precision("auto", torch.device("cuda")) == "float32", "a T4 has no bf16"
    with pytest.raises(ValueError, match="Choose one of: float32, bf16, auto"):
        resolve_precision("half", cpu)


def test_memory_that_a_container_leaves(monkeypatch, tmp_path):
    monkeypatch.setattr("rdlib.utils.hardware.CGROUP", tmp_path)
    free = available_memory()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("4000\n")
    assert available_memory() > 0.5 * free > 10_000
    (tmp_path / "memory.max").write_text("10000\n")
    assert available_memory() == 6000
    (tmp_path / "memory").mkdir()  # cgroup v1
    (tmp_path / "memory/memory.limit_in_bytes").write_text("9000\n")
    (tmp_path / "memory/memory.usage_in_bytes").write_text("5000\n")
    assert available_memory() == 4000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_trains_and_predicts_as_the_cpu_does():
    data, results = images(), []
    for device in ("cpu", "cuda"):
        model = ReverseDistillation("resnet18", weights=None).to(device)
        run = fit(model, data, 1, batch_size=4, progress=False)
        results.append((run.losses, model.predict(data.images)[0].cpu()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-2)
    assert torch.allclose(results[0][1], results[1][1], atol=0.05)


def test_nan_stops_with_a_word_and_leaves_the_checkpoint(tmp_path):
    def spoil(run):
        if run.step == 4:
            next(run.model.student.parameters()).data.fill_(torch.nan)

    path = tmp_path / "run.ckpt"
    train(epochs=1, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(FloatingPointError, match=r"became nan in step 5 \(epoch 2\).*smaller lr"):
        train(checkpoint=path, callbacks=[spoil])
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_last_step_that_spoils_the_weights_is_no_end(tmp_path):
    """No loss is computed after it, so nothing else would say so."""
    def spoil(run):
        if run.step == 3:
            next(run.model.student.parameters()).data.fill_(torch.inf)

    with pytest.raises(FloatingPointError, match=r"a weight became NaN or infinite in step 3 \(epoch 1\).*smaller lr"):
        train(1, callbacks=[spoil], checkpoint=tmp_path / "run.ckpt")
    assert not list(tmp_path.iterdir())


def test_nothing_to_train_on():
    with pytest.raises(ValueError, match="0 images"):
        train(data=images(0))
    with pytest.raises(ValueError, match="Choose one of: flattened, positional"):
        train(loss="cosine")
    with pytest.raises(ValueError, match="multiples of 32"):
        train(data=images(4, size=50))


def test_a_run_shows_itself_in_a_few_lines_without_times():
    seen = []
    run, _ = train(epochs=2, callbacks=[lambda run: seen.append(repr(run))])
    assert repr(run) == seen[-1] == ("Run\n  model: ReverseDistillation\n  epochs: 2 of 2\n  steps: 6\n"
                                     f"  images an epoch: 10\n  last loss: {run.losses[-1]:.4f}")
    assert "epochs: 0 of 2\n  steps: 1\n" in seen[0] and len(set(seen)) == 6
    assert "last loss" not in repr(replace(run, losses=[])) and repr(replace(run, seconds=1e6)) == repr(run)
    assert f"last loss</th><td style=\"text-align: left\">{run.losses[-1]:.4f}<" in run._repr_html_()


def test_the_bar_shows_loss_and_speed_on_a_terminal(capsys, monkeypatch):
    train(epochs=1, progress=True)
    assert not capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    train(epochs=1, progress=True)
    shown = capsys.readouterr().err
    assert "training" in shown and "loss=" in shown and "image/s" in shown
    kept = 10 * 4 * (64 * 16**2 + 128 * 8**2 + 256 * 4**2)  # 10 images, float32, three scales
    assert f"teacher features, {kept / 1e6:.1f} MB of memory" in shown


def cosine_and_average(epochs=2, **options):
    return train(epochs, **{"schedule": "cosine", "ema": 0.9} | options)


@pytest.fixture(scope="module")
def uninterrupted():
    """A run with both options, and its weights."""
    return cosine_and_average()


def test_the_learning_rate_follows_torchs_cosine():
    rates, made = [], []

    class Watched(torch.optim.Adam):
        def step(self):
            made.append(self.param_groups[0]["lr"])
            return super().step()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.optim.Adam", Watched)
        train(3, images(9, size=32), lr=0.01, schedule="cosine", batch_size=3)
    other = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(other, T_max=9)
    for _ in range(9):
        rates.append(theirs.get_last_lr()[0])
        other.step()
        theirs.step()
    assert made == pytest.approx(rates, rel=1e-9) and made[0] == 0.01


@pytest.mark.parametrize(("schedule", "ema"), [("constant", 0.9), ("cosine", 0.9), ("constant", 0.3)])
def test_the_average_is_that_of_a_plain_loop(schedule, ema):
    """Weights and BatchNorm statistics after every step, averaged in float64. Its decay grows up to `ema`."""
    average, decays = {}, []

    def follow(run):
        t = run.step - 1
        decays.append(d := min(ema, (1 + t) / (10 + t)))
        for key, value in run.model.state_dict().items():
            average[key] = d * average[key] + (1 - d) * value.double() if key in average else value.double()

    run, result = train(2, ema=ema, callbacks=[follow], schedule=schedule)
    assert len(set(decays[1:])) > 2 and (decays[-1] == ema) == (ema < 0.5), "the loop grows, and ends below 0.5"
    plain, last = train(2, schedule=schedule)
    assert run.losses == plain.losses, "the average only watches"
    for key, value in result.items():
        if key.endswith("num_batches_tracked"):
            assert value == last[key]
        else:
            assert torch.allclose(value.double(), average[key], rtol=1e-4, atol=1e-6), key
    assert not equal(result, last)


@pytest.mark.parametrize("stop_after", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_schedule_and_average_are_one_run_stopped_or_not(tmp_path, uninterrupted, stop_after):
    whole, expected = uninterrupted

    def stop(run):
        run.stop = run.step == stop_after

    path = tmp_path / "run.ckpt"
    _, early = cosine_and_average(callbacks=[stop], checkpoint=path)
    resumed, result = cosine_and_average(checkpoint=path)
    assert resumed.losses == whole.losses and equal(result, expected) and not equal(early, expected)
    assert equal(cosine_and_average(checkpoint=path)[1], expected), "a finished run gives the average again"


def test_a_callback_sees_the_average_and_leaves_the_run_alone():
    seen, live = [], []

    def look(run):
        if run.at_epoch_end:
            before = weights(run.model)
            with run.averaged():
                run.model.predict(images().images[:2])
                seen.append(weights(run.model))
            live.append(equal(before, weights(run.model)) and run.model.training)

    run, result = train(2, ema=0.9, callbacks=[look])
    assert all(live) and equal(result, train(2, ema=0.9)[1])
    floats = {key for key, value in result.items() if value.is_floating_point()}
    assert all(torch.equal(seen[-1][key], result[key]) for key in floats)
    assert all(torch.equal(seen[0][key], value) for key, value in train(1, ema=0.9)[1].items() if key in floats)
    with run.averaged():
        assert equal(weights(run.model), result), "after the run the model is the average already"


def test_without_an_average_the_callback_sees_the_model():
    def look(run):
        before = weights(run.model)
        with run.averaged():
            assert equal(before, weights(run.model))

    train(epochs=1, callbacks=[look])


def test_options_are_off_unless_asked_for():
    import inspect
    defaults = {name: p.default for name, p in inspect.signature(fit).parameters.items()}
    assert (defaults["schedule"], defaults["ema"], defaults["scales"]) == ("constant", None, (1, 2, 3))
    run, _ = train(epochs=1)
    assert run.average is None and run.settings["decay_epochs"] is None


def test_checkpoints_know_schedule_and_average(tmp_path):
    path = tmp_path / "run.ckpt"
    cosine_and_average(1, checkpoint=path)
    with pytest.raises(CheckpointError, match="schedule: cosine there, constant here.*ema: 0.9 there, None here"):
        train(epochs=1, checkpoint=path)
    with pytest.raises(CheckpointError, match="decay_epochs: 1 there, 2 here"):
        cosine_and_average(2, checkpoint=path)
    state = torch.load(path, weights_only=True)
    del state["sha256"], state["networks"]["average.n_averaged"]
    torch.save(state | {"sha256": json.dumps(UNSEALED)}, path)
    seal(path)
    with pytest.raises(CheckpointError, match=r"run\.ckpt cannot be read .* .KeyError: 'average.n_averaged'"):
        cosine_and_average(1, checkpoint=path)


def test_options_of_training_that_there_are_not():
    with pytest.raises(ValueError, match="no schedule 'linear'. Choose one of: constant, cosine"):
        train(schedule="linear")
    for decay in (0, 1, 1.5, -0.1):
        with pytest.raises(ValueError, match=rf"ema must be a number in \(0, 1\); got {decay}"):
            train(ema=decay)


def sized(*sizes):
    return [Item(torch.rand(3, size, size), 0, blank := torch.zeros(size, size, dtype=torch.bool), i, blank)
            for i, size in enumerate(sizes)]


@pytest.mark.parametrize(("data", "message"), [
    (TensorDataset(torch.rand(4, 2, 64, 64)), "a tuple, has no image to use: .*(?s:.)*A data set is an AnomalyDataset"),
    ([item._replace(image=item.image.long()) for item in sized(64, 64)], "has no image to use: .*int64"),
    (torch.utils.data.DataLoader(sized(64, 64)), "DataLoader has no length and indices"),
    (sized(64, 64, 96, 64), "differ in size: the first is 64 x 64 pixels, another 96 x 96"),
], ids=["channels", "whole", "loader", "sizes"])
def test_what_is_no_training_set_is_refused_in_words(data, message):
    with pytest.raises(ValueError, match=message):
        train(1, data=data)
