"""Callbacks that ship: their hooks, what they measure, and that they leave training alone."""
import csv

import numpy as np
import pytest
import torch
from test_items import FLOATS, known
from test_training import Images, equal, images, train
from torch.utils.data import DataLoader

from rdlib import ReverseDistillation, evaluate, fit, load_dataset
from rdlib.evaluation import EvaluateEvery
from rdlib.losses import LOSSES
from rdlib.training import Callback, CSVLog, EarlyStopping
from rdlib.utils.errors import CheckpointError

HELD_OUT = FLOATS[:5]


class Log(Callback):
    """Notes when it is called."""

    def __init__(self, every=1):
        self.every, self.told = every, []

    def on_start(self, run):
        self.told.append(("start", run.step, run.model.training))

    def on_epoch(self, run):
        self.told.append(("epoch", run.step, run.model.training))

    def on_end(self, run):
        self.told.append(("end", run.step, run.model.training))


def test_hooks_are_called_at_the_start_after_epochs_and_at_the_end(tmp_path):
    log, sparse, steps = Log(), Log(every=2), []
    train(3, callbacks=[log, sparse, lambda run: steps.append(run.step)], checkpoint=tmp_path / "run.ckpt")
    assert [what[:2] for what in log.told] == [("start", 0), ("epoch", 3), ("epoch", 6), ("epoch", 9), ("end", 9)]
    assert [what[:2] for what in sparse.told] == [("start", 0), ("epoch", 6), ("end", 9)]
    assert steps == list(range(1, 10)) and not log.told[-1][2]
    resumed = Log()
    train(4, callbacks=[resumed], checkpoint=tmp_path / "run.ckpt")
    assert [what[:2] for what in resumed.told] == [("start", 9), ("epoch", 12), ("end", 12)]


def test_what_has_started_is_ended_also_after_an_error():
    class Fails(Log):
        def on_start(self, run):
            raise RuntimeError("no place on the disk")

    first, failing, last = Log(), Fails(), Log()
    with pytest.raises(RuntimeError, match="no place"):
        train(1, callbacks=[first, failing, last])
    assert [what[0] for what in first.told] == ["start", "end"] and not failing.told and not last.told


@pytest.mark.parametrize("ema", [None, 0.9])
def test_callbacks_leave_training_alone(tmp_path, ema):
    plain, expected = train(2, ema=ema)
    before = torch.get_rng_state()
    watched, result = train(2, ema=ema, callbacks=[
        EarlyStopping(list(HELD_OUT)), CSVLog(tmp_path / "log.csv"), EvaluateEvery(known(FLOATS), 1)])
    assert torch.equal(before, torch.get_rng_state())
    assert watched.losses == plain.losses and equal(result, expected)


@pytest.mark.parametrize("options", [{}, {"ema": 0.9}, {"loss": "positional"}, {"precision": "bf16"}])
def test_early_stopping_measures_the_loss_of_the_run(options):
    seen = {}

    def look(run):
        if run.at_epoch_end:
            was_training = run.model.training
            with run.averaged(), torch.no_grad():
                teacher, student = run.model.eval()(HELD_OUT)
                seen[run.epoch] = LOSSES[options.get("loss", "flattened")](teacher, student).item()
            run.model.train(was_training)

    stopping = EarlyStopping(list(HELD_OUT), patience=5)
    train(2, callbacks=[stopping, look], **options)
    assert stopping.history == pytest.approx(seen, rel=0.05 if "precision" in options else 1e-5)
    assert list(stopping.history) == [1, 2]


class Given(EarlyStopping):
    """Early stopping on losses that are given by epoch."""

    def __init__(self, losses, **options):
        super().__init__(list(HELD_OUT), **options)
        self.losses = losses

    def on_epoch(self, run):
        self.history[run.epoch] = self.losses[run.epoch - 1]
        self._stop(run)


@pytest.mark.parametrize(("losses", "patience", "every", "expected"), [
    ([5, 4, 3, 2, 1, 0], 1, 1, 6), ([5, 4, 4, 2, 1, 0], 1, 1, 3), ([5, 4, 5, 5, 1, 6], 2, 1, 4),
    ([5, 6, 4, 6, 3, 4], 2, 1, 6), ([9, 5, 9, 6, 9, 7], 4, 2, 6), ([9, 5, 9, 6, 9, 4], 2, 2, 4)])
def test_the_run_stops_when_the_loss_has_not_fallen_for_some_epochs(losses, patience, every, expected):
    run, _ = train(6, list(FLOATS[:4]), callbacks=[Given(losses, patience=patience, every=every)])
    assert run.epoch == expected and run.step == expected


def test_a_resumed_run_stops_where_the_whole_one_does(tmp_path):
    losses, path = [5, 3, 4, 4, 4, 4, 4, 4], tmp_path / "run.ckpt"
    data = list(FLOATS[:4])
    assert train(8, data, callbacks=[Given(losses, patience=3)])[0].epoch == 5
    train(3, data, callbacks=[Given(losses, patience=3)], checkpoint=path)
    stopping = Given(losses, patience=3)
    assert train(8, data, callbacks=[stopping], checkpoint=path)[0].epoch == 5
    assert stopping.history == dict(zip(range(1, 6), losses, strict=False))
    assert train(8, data, callbacks=[Given(losses, patience=3)], checkpoint=path)[0].epoch == 5, "it had stopped"


def test_other_held_out_sets_are_refused_in_words():
    for data, words in (([], "held-out good images; got none"), (DataLoader(known()), "DataLoader has no length"),
                        ([torch.zeros(3, 64, 64), torch.zeros(3, 96, 96)], "at 64 x 64 .* mean nothing at 96 x 96")):
        with pytest.raises(ValueError, match=words):
            train(1, callbacks=[EarlyStopping(data)])
    for options in ({"patience": 0}, {"every": 0}, {"every": 1.5}):
        with pytest.raises(ValueError, match="must be a whole number from 1"):
            EarlyStopping(list(HELD_OUT), **options)
    with pytest.raises(ValueError, match="every must be a whole number from 1"):
        EvaluateEvery(known(), 0)


def test_held_out_images_are_no_training_images():
    run, _ = train(1, list(FLOATS / 2), callbacks=[EarlyStopping(list(FLOATS))])
    assert run.model.config.value_range == (FLOATS.min().item() / 2, FLOATS.max().item() / 2)


@pytest.mark.parametrize(("trained", "held_out", "words"), [
    (FLOATS, FLOATS * 255, "divide by 255"), (FLOATS, FLOATS * 4 - 2, "look normalized"),
    (FLOATS, torch.cat([FLOATS, FLOATS[:1] + 0.1]), "clamp them"), (FLOATS, FLOATS[:, :, :32, :32], "at 32 x 32"),
    (FLOATS * 4 - 2, FLOATS * 255, "The model was trained on values from"),
    (FLOATS * 255, FLOATS * 65535, "The model was trained on values from 0 to 255")])
def test_held_out_images_of_another_range_or_size_are_refused_before_training(trained, held_out, words):
    steps = []
    with pytest.raises(ValueError, match=words):
        train(1, list(trained), callbacks=[EarlyStopping(list(held_out)), lambda run: steps.append(run.step)])
    assert not steps


def test_held_out_images_may_go_beyond_the_first_training_image():
    """The range of the others is not known yet."""
    stopping = EarlyStopping(list(FLOATS * 4 - 2))
    train(1, list(torch.cat([FLOATS[:1] * 3 - 1.5, FLOATS * 4 - 2])), callbacks=[stopping])
    assert list(stopping.history) == [1]


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_the_log_has_a_row_for_every_epoch(tmp_path):
    path, seen = tmp_path / "new" / "log.csv", []
    run, _ = train(3, callbacks=[CSVLog(path), lambda run: seen.append(path.exists() and len(rows(path)))])
    header, *body = rows(path)
    assert header == ["epoch", "loss", "seconds"] and [row[0] for row in body] == ["1", "2", "3"]
    assert [float(row[1]) for row in body] == run.epoch_losses
    seconds = [float(row[2]) for row in body]
    assert 0 < seconds[0] < seconds[1] < seconds[2] == pytest.approx(run.seconds)
    assert seen == [0, 0, 2, 2, 2, 3, 3, 3, 4], "each row is on the disk when its epoch ends"


def test_a_resumed_run_goes_on_with_its_log(tmp_path):
    """The run is killed after a row whose epoch no checkpoint has."""
    path, whole = tmp_path / "log.csv", train(4)[0]

    def die(run):
        if run.step == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(4, callbacks=[CSVLog(path), die], checkpoint=tmp_path / "run.ckpt", checkpoint_every=2)
    before = rows(path)
    assert [row[0] for row in before] == ["epoch", "1", "2", "3"]
    other = tmp_path / "other.csv"
    train(4, callbacks=[CSVLog(path), CSVLog(other)], checkpoint=tmp_path / "run.ckpt", checkpoint_every=2)
    assert rows(path)[:3] == before[:3] and rows(path) == rows(other)
    assert [float(row[1]) for row in rows(path)[1:]] == whole.epoch_losses


def test_a_new_run_begins_a_new_log(tmp_path):
    path = tmp_path / "log.csv"
    for _ in range(2):
        train(1, callbacks=[CSVLog(path)])
        assert len(rows(path)) == 2


def test_the_log_has_its_rows_after_an_error(tmp_path):
    def fail(run):
        if run.step == 4:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        train(2, callbacks=[CSVLog(tmp_path / "log.csv"), fail])
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"] and len(rows(tmp_path / "log.csv")) == 2


@pytest.mark.parametrize("ema", [None, 0.9])
def test_evaluation_every_n_epochs_is_that_of_the_run_so_far(tmp_path, ema):
    data = known(FLOATS, ["good", "hole"] * 3)
    watch = EvaluateEvery(data, 2)
    train(5, images(4), callbacks=[watch], ema=ema)
    table = watch.table()
    assert table.index.tolist() == [2, 4] and table.index.name == "epoch"
    assert table.columns.tolist() == ["image_auroc", "pixel_auroc", "aupro"]
    shorter = train(4, images(4), ema=ema)[0]
    expected = evaluate(shorter.model, data, progress=False)
    np.testing.assert_allclose(table.loc[4], [expected.image_auroc, expected.pixel_auroc, expected.aupro], rtol=1e-6)


def test_raw_weights_are_evaluated_beside_averaged_ones_also_in_a_resumed_run(tmp_path):
    data, path = known(FLOATS, ["good", "hole"] * 3), tmp_path / "run.ckpt"

    def both():
        return EvaluateEvery(data, 1, averaged=False), EvaluateEvery(data, 1)
    plain, whole, again = EvaluateEvery(data, 1, averaged=False), both(), both()
    train(3, images(4), callbacks=[plain])
    train(3, images(4), callbacks=[*whole], ema=0.9)
    assert whole[0].table().equals(plain.table()) and not whole[1].table().equals(plain.table())
    train(2, images(4), callbacks=[*both()], ema=0.9, checkpoint=path)
    train(3, images(4), callbacks=[*again], ema=0.9, checkpoint=path)
    assert all(one.table().equals(other.table()) for one, other in zip(whole, again, strict=True))


def test_evaluations_go_on_in_a_resumed_run(tmp_path):
    data, path = known(FLOATS, ["good", "hole"] * 3), tmp_path / "run.ckpt"
    whole, first, second = (EvaluateEvery(DataLoader(data, 3), 1) for _ in range(3))
    assert whole.table().empty
    train(2, images(4), callbacks=[whole])
    train(1, images(4), callbacks=[first], checkpoint=path)
    train(2, images(4), callbacks=[second], checkpoint=path)
    assert second.table().equals(whole.table()) and len(first.table()) == 1


def test_two_callbacks_of_a_kind_have_a_history_each_also_in_a_resumed_run(tmp_path):
    sets = known(FLOATS, ["good", "hole"] * 3), known(FLOATS, ["good"] * 3 + ["hole"] * 3)

    def callbacks():
        return [EvaluateEvery(sets[0], 1), EvaluateEvery(sets[1], 1), EarlyStopping(list(FLOATS)),
                EarlyStopping(list(FLOATS / 2))]

    alone = []
    for callback in callbacks():
        train(2, images(4), callbacks=[callback])
        alone.append(callback.history)
    train(1, images(4), callbacks=callbacks(), checkpoint=tmp_path / "run.ckpt")
    resumed = callbacks()
    train(2, images(4), callbacks=resumed, checkpoint=tmp_path / "run.ckpt")
    assert [callback.history for callback in resumed] == alone
    assert alone[0] != alone[1] and alone[2] != alone[3] and all(list(history) == [1, 2] for history in alone)


def test_a_plain_object_with_hooks_is_a_callback():
    class Plain:
        told = ()

        def __call__(self, run):
            pass

        def on_start(self, run):
            self.told += ("start",)

    plain = Plain()
    train(1, Images(FLOATS), callbacks=[plain])
    assert plain.told == ("start",)


def test_callbacks_of_other_images_do_not_take_over_a_history(tmp_path):
    path, other = tmp_path / "run.ckpt", load_dataset("synthetic/gear", size=64).test
    data = load_dataset("synthetic/weave", size=64, n_train=6)
    test, held = data.test.subset([0, 1, -1]), data.test.subset([2, 3])

    def run(*callbacks):
        model = ReverseDistillation("resnet18", weights=None)
        return fit(model, data.train, 1, batch_size=3, checkpoint=path, callbacks=callbacks, progress=False)
    run(EvaluateEvery(test, 1), EarlyStopping(held))
    run(EvaluateEvery(DataLoader(test), 1), EarlyStopping(held))
    for callbacks in ([EvaluateEvery(other.subset([0, 1, -1]), 1)], [EarlyStopping(data.test.subset([4, 5]))]):
        with pytest.raises(CheckpointError, match="on other images. Pass the callbacks their earlier data sets"):
            run(*callbacks)
