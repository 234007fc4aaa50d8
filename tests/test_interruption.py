"""Ctrl-C and SIGTERM in training, what they leave, files that cannot be written, and models of unfinished training."""
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from test_items import FLOATS, known
from test_training import Images, equal, weights

import rdlib
from rdlib import CSVLog, ReverseDistillation, Threshold, evaluate, fit, last_run
from rdlib.detector import eval_mode
from rdlib.training import Callback
from rdlib.training.features import LiveFeatures

FULL = OSError("run.ckpt could not be written: the disk is full. Free some space, or choose a place on another disk.")
STARTED = "Interrupted: the step is being finished. Interrupt again to stop at once."


def images(n=6):
    return Images(torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0)))


def train(epochs=3, model=None, data=None, **options):
    """6 images in batches of 3 are 2 steps an epoch. Returns the run, the error, and the model."""
    model = model or ReverseDistillation("resnet18", weights=None)
    try:
        return fit(model, data or images(), epochs, **{"batch_size": 3, "progress": False} | options), None, model
    except BaseException as error:
        return None, error, model


def at(step, action):
    """A callback that acts once, after a step."""
    def callback(run):
        if run.step == step:
            action()
    return callback


def interrupt(number=signal.SIGINT):
    signal.raise_signal(number)


@pytest.fixture(autouse=True)
def default_handlers():
    """Handlers as in a script, restored afterwards."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    for number, _ in before:
        signal.signal(number, signal.default_int_handler)
    yield
    assert all(signal.getsignal(number) is signal.default_int_handler for number, _ in before), "not restored"
    for number, handler in before:
        signal.signal(number, handler)


# --- what an interruption does


@pytest.mark.parametrize(("number", "ema"), [(signal.SIGINT, 0.5), (signal.SIGTERM, None)])
def test_the_step_is_finished_and_the_run_is_kept(tmp_path, monkeypatch, capsys, number, ema):
    """The signal arrives inside the third step's optimizer."""
    whole, expected = (out := train(ema=ema))[0], weights(out[2])
    path, adam = tmp_path / "run.ckpt", torch.optim.Adam.step

    def step(self, *arguments):
        steps.append(1)
        if len(steps) == 3:
            interrupt(number)
        return adam(self, *arguments)

    steps = []
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        _, error, model = train(ema=ema, checkpoint=path, progress=ema is None)
    assert isinstance(error, KeyboardInterrupt) and capsys.readouterr().err.count(STARTED) == (ema is None)
    assert str(error) == ("Training was interrupted after 1 of 3 epochs (3 steps). rdlib.last_run() returns the run. "
                          f"The same call goes on from {path}.")
    run = error.run
    assert run is last_run() and run.model is model and run.interrupted and not model.training
    assert run.losses == whole.losses[:3] and run.epoch == 1 and run.average is None
    assert equal(weights(model), stopped_after(3, ema)), "the average is in place"
    assert model.config.unfinished == "after 1 of 3 epochs (3 steps)"
    resumed, error, model = train(ema=ema, checkpoint=path, model=model)
    assert error is None and resumed.losses == whole.losses and equal(weights(model), expected)
    assert model.config.unfinished is None and not resumed.interrupted


def stopped_after(step, ema):
    """Weights of a run that a callback has stopped."""
    def stop(run):
        run.stop = run.step == step

    _, error, model = train(ema=ema, callbacks=[stop])
    assert error is None and model.config.unfinished is None, "a run that a callback stops is complete"
    return weights(model)


def test_no_checkpoint_no_word_of_one():
    error = train(callbacks=[at(1, interrupt)])[1]
    assert str(error) == "Training was interrupted after 0 of 3 epochs (1 step). rdlib.last_run() returns the run."


def test_a_script_may_ask_for_the_run():
    run, error, model = train(callbacks=[at(4, interrupt)], on_interrupt="return")
    assert error is None and run.interrupted and run.step == 4 and run is last_run()
    assert model.config.unfinished == "after 2 of 3 epochs (4 steps)"
    with pytest.raises(ValueError, match="no on_interrupt 'stop'. Choose one of: raise, return"):
        fit(ReverseDistillation("resnet18", weights=None), images(), 1, on_interrupt="stop")


@pytest.mark.parametrize("on_interrupt", ["raise", "return"])
def test_a_second_signal_stops_at_once(tmp_path, on_interrupt):
    seen = []
    _, error, model = train(callbacks=[at(3, interrupt), at(3, interrupt), at(3, lambda: seen.append("called"))],
                            on_interrupt=on_interrupt, checkpoint=tmp_path / "run.ckpt")
    assert isinstance(error, KeyboardInterrupt) and error.run.step == 3 and not seen and not model.training
    assert model.config.unfinished == "after 1 of 3 epochs (3 steps)" and not (tmp_path / "run.ckpt").exists()


def test_interrupted_while_features_are_computed(monkeypatch):
    """Nothing is to be finished then, so the first signal ends it."""
    extract, calls = ReverseDistillation.extract_features, []

    def slow(self, batch):
        calls.append(1)
        if len(calls) == 2:
            interrupt()
        return extract(self, batch)

    monkeypatch.setattr(ReverseDistillation, "extract_features", slow)
    _, error, model = train(cache=True)
    assert isinstance(error, KeyboardInterrupt) and error.run.step == 0 and error.run is last_run() and len(calls) == 2
    assert model.config.unfinished is None, "no step has begun"
    calls.clear()
    run, error, _ = train(cache=True, on_interrupt="return")
    assert error is None and run.step == 0 and run.interrupted


def test_a_callback_that_raises_it_carries_the_run():
    def stop():
        raise KeyboardInterrupt

    error = train(callbacks=[at(2, stop)])[1]
    assert isinstance(error, KeyboardInterrupt) and error.run.step == 2 and str(error).startswith("Training was inter")


def test_training_that_diverges_in_the_last_step_is_not_taken_for_an_interruption(monkeypatch):
    data = images()
    data.images[5] = torch.nan
    monkeypatch.setattr(LiveFeatures, "batches", interrupted_first(LiveFeatures.batches))
    for on_interrupt in ("raise", "return"):
        error = train(data=data, cache=False, batch_size=6, on_interrupt=on_interrupt)[1]
        assert isinstance(error, FloatingPointError) and not error.run.interrupted


def interrupted_first(batches):
    def changed(self, schedule):
        interrupt()
        yield from batches(self, schedule)
    return changed


def test_an_error_after_a_signal_is_the_interruption():
    """A signal to all processes may end workers, which torch reports as a RuntimeError."""
    def fail():
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated.")

    for on_interrupt in ("raise", "return"):
        run, error, model = train(callbacks=[at(3, interrupt), at(3, fail)], on_interrupt=on_interrupt)
        assert model.config.unfinished == "after 1 of 3 epochs (3 steps)" and last_run().interrupted
        if on_interrupt == "raise":
            assert isinstance(error, KeyboardInterrupt) and isinstance(error.__cause__, RuntimeError)
            assert str(error).startswith("Training was interrupted after 1 of 3") and error.run is last_run()
        else:
            assert error is None and run is last_run()


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="Windows has no groups of processes")
@pytest.mark.parametrize("waiting", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_signal_to_the_whole_group_finishes_the_step(tmp_path, waiting):
    """It arrives in a callback, or while the main process waits for a batch; the workers go on reading."""
    done = subprocess.run([sys.executable, "-c", GROUP, str(tmp_path / "run.ckpt"), str(waiting)], capture_output=True,
                          text=True, encoding="utf-8", env={**os.environ, "OMP_NUM_THREADS": "1"},
                          start_new_session=True)
    assert "Training was interrupted after" in done.stdout and "The same call goes on from" in done.stdout, done.stderr
    assert (tmp_path / "run.ckpt").exists() and "cause None" in done.stdout


GROUP = """
import os, signal, sys, threading, time
import torch
from rdlib import ReverseDistillation, fit

class Slow(torch.utils.data.Dataset):
    augmented = True
    def __len__(self):
        return 4
    def __getitem__(self, index):
        time.sleep(0.2)
        return torch.full((3, 32, 32), index / 4)

def stop(run):
    if run.step == 1 and sys.argv[2] == "False":
        os.killpg(0, signal.SIGTERM)
        time.sleep(0.5)
    elif run.step == 1:
        threading.Timer(0.3, os.killpg, (0, signal.SIGTERM)).start()

signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    fit(ReverseDistillation("resnet18", weights=None), Slow(), 50, batch_size=2, num_workers=1, progress=False,
        checkpoint=sys.argv[1], callbacks=[stop])
except BaseException as error:
    print(type(error).__name__, error, "cause", error.__cause__)
"""


def test_a_run_that_fails_before_its_first_step_leaves_the_model_as_it_was():
    class Fails(Callback):
        def on_start(self, run):
            raise LookupError("of the callback")

    model = unfinished()
    model.threshold = Threshold(score=1.0, pixel=1.0, size=(32, 32), rule="mine", good=9, alarms=0)
    before = repr(model), weights(model), model.threshold
    run, error, _ = train(model=model, callbacks=[Fails()])
    assert isinstance(error, LookupError) and error.run is last_run()
    assert (repr(model), model.threshold) == (before[0], before[2]) and equal(weights(model), before[1])
    assert model.config.unfinished == "after 1 of 3 epochs (2 steps)"


def test_a_later_run_does_not_change_the_last_run():
    error = train(callbacks=[at(1, interrupt)])[1]
    assert train(1)[1] is None and last_run() is error.run


def test_a_model_that_is_trained_is_not_used_by_another_thread():
    """It would put the model into eval mode in the middle of a step, or compute with half of one."""
    batch = torch.rand(1, 3, 32, 32)

    def called(function):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(function).exception()

    def callback(run):
        own.append(run.model.predict(batch)[1].isfinite().all())
        others.append(called(lambda: run.model.predict(batch)))

    own, others = [], []
    whole, _, expected = train()
    run, error, model = train(callbacks=[callback])
    assert error is None and run.losses == whole.losses and equal(weights(model), weights(expected)) and all(own)
    assert {type(found) for found in others} == {RuntimeError}
    assert re.search(r"used in one thread while another one trains it.*copy\.deepcopy\(model\)", str(others[0]))
    with eval_mode(model, model.device):
        found = called(lambda: fit(model, images(), 1, progress=False))
    assert isinstance(found, RuntimeError) and equal(weights(model), weights(expected))
    assert called(lambda: model.predict(batch)) is None and train(1, model=model)[1] is None


@pytest.mark.parametrize("wrong, words", [(CSVLog, "objects, such as CSVLog(path); got the class CSVLog."),
                                          (3, "a Callable; got 3."), ("log.csv", "a Callable; got 'log.csv'.")])
def test_what_is_no_callback_is_refused_in_words(wrong, words):
    error = train(callbacks=[len, wrong])[1]
    assert isinstance(error, ValueError) and str(error) == f"callbacks must be {words}"


def test_interrupted_in_the_last_step_nothing_is_unfinished(tmp_path):
    """The exception is raised all the same, so that a notebook's next cells do not run."""
    _, error, model = train(callbacks=[at(6, interrupt)], checkpoint=tmp_path / "run.ckpt")
    assert str(error) == "Training was interrupted after 3 of 3 epochs (6 steps). rdlib.last_run() returns the run."
    assert isinstance(error, KeyboardInterrupt) and error.run.epoch == 3 and model.config.unfinished is None


def test_handlers_of_others_stay_and_other_threads_set_none():
    seen = []
    signal.signal(signal.SIGINT, lambda *_: seen.append("mine"))
    run, error, _ = train(1, callbacks=[at(1, interrupt)])
    assert error is None and seen == ["mine"] and not run.interrupted
    signal.signal(signal.SIGINT, signal.default_int_handler)
    handlers = []
    thread = threading.Thread(target=lambda: train(1, callbacks=[lambda run: handlers.append(
        signal.getsignal(signal.SIGINT))]))
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler] * 2


def test_handlers_are_restored_after_an_error():
    """The fixture looks."""
    def fail():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        raise LookupError("of the callback")

    assert isinstance(train(callbacks=[at(1, fail)])[1], LookupError)


# --- models of unfinished training


def unfinished():
    return train(data=Images(FLOATS), callbacks=[at(2, interrupt)])[2]


def test_a_failed_run_is_kept_and_its_model_says_so():
    _, error, model = train(callbacks=[at(3, lambda: 1 / 0)])
    assert isinstance(error, ZeroDivisionError) and error.run is last_run() and error.run.step == 3
    assert model.config.unfinished == "after 1 of 3 epochs (3 steps), with ZeroDivisionError"
    bad = images()
    bad.images[5] = torch.nan
    _, error, model = train(data=bad)
    assert isinstance(error, FloatingPointError) and "with FloatingPointError" in model.config.unfinished


def test_refused_before_training_the_model_is_as_it_was(tmp_path):
    run, _, model = train(1)
    before = weights(model)
    (tmp_path / "file").touch()
    for options in ({"checkpoint": tmp_path / "file" / "run.ckpt"}, {"lr": -1.0}, {"scales": (4,)}):
        assert train(model=model, **options)[1] and model.config.unfinished is None and equal(weights(model), before)


def test_repr_evaluate_save_and_export_say_so(tmp_path):
    model = unfinished()
    words = r"unfinished: it ended after 1 of 3 epochs \(2 steps\)"
    assert "\n  unfinished: training ended after 1 of 3 epochs (2 steps)\n" in repr(model)
    with pytest.warns(UserWarning, match=f"{words}. The model is evaluated all the same. Train it to the end"
                      ) as evaluated:
        evaluate(model, known(FLOATS), progress=False)
    with pytest.warns(UserWarning, match=f"{words}. The model is saved") as saved:
        model.save(tmp_path / "m.safetensors")
    assert {warning.filename for warning in [*evaluated, *saved]} == {__file__}, "the line of the caller"
    loaded = rdlib.load(tmp_path / "m.safetensors")
    assert loaded.config.unfinished == model.config.unfinished and "unfinished: training ended after 1" in repr(loaded)
    with pytest.warns(UserWarning, match="The model is evaluated"):
        evaluate(loaded, known(FLOATS), progress=False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_exported_file_says_so(tmp_path):
    pytest.importorskip("onnxscript")
    model = unfinished()
    with pytest.warns(UserWarning, match=r"after 1 of 3 epochs \(2 steps\). The model is exported all the same"):
        rdlib.export_onnx(model, tmp_path / "m.onnx", tolerance=1e-3)
    notes = (tmp_path / "m.onnx.txt").read_text("utf-8")
    assert "\nunfinished: training ended after 1 of 3 epochs (2 steps)\n" in notes
    exported = rdlib.OnnxDetector(tmp_path / "m.onnx")
    assert exported.config.unfinished == model.config.unfinished
    with pytest.warns(UserWarning, match="The model is evaluated"):
        evaluate(exported, known(FLOATS), progress=False)


def test_a_finished_model_says_nothing(tmp_path):
    """Neither afterwards nor in callbacks that evaluate or save while it is trained."""
    class Keep(Callback):
        def on_epoch(self, run):
            run.model.save(tmp_path / f"{run.epoch}.safetensors")
            evaluate(run.model, known(FLOATS), progress=False)

    model = unfinished()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert train(2, model=model, data=Images(FLOATS), callbacks=[Keep()])[1] is None
        model.save(tmp_path / "m.safetensors")
        assert "unfinished" not in repr(model) + repr(rdlib.load(tmp_path / "m.safetensors"))
        evaluate(model, known(FLOATS), progress=False)


# --- files that cannot be written


def test_a_checkpoint_that_cannot_be_written_is_said_before_the_first_step(tmp_path):
    (tmp_path / "file").touch()
    steps = []
    error = train(checkpoint=tmp_path / "file" / "a.ckpt", callbacks=[lambda run: steps.append(run.step)])[1]
    assert isinstance(error, OSError) and "a.ckpt cannot be written: " in str(error) and not steps
    with pytest.raises(OSError, match=r"a\.csv cannot be written: "):
        CSVLog(tmp_path / "file" / "a.csv")


@pytest.mark.parametrize("name", ["loop.write_checkpoint", "callbacks.written_atomically"])
def test_a_disk_that_fills_up_ends_nothing(tmp_path, monkeypatch, name):
    """One warning, whatever the number of failures; the run is returned, and a later success is a file."""
    def full(*_):
        failed.append(1)
        raise FULL

    failed, options = [], {"checkpoint": tmp_path / "run.ckpt", "checkpoint_every": 1}
    log = [CSVLog(tmp_path / "log.csv")] if "callbacks" in name else []
    whole, _, expected = train()
    with monkeypatch.context() as patch, pytest.warns(UserWarning) as caught:
        patch.setattr(f"rdlib.training.{name}", full)
        run, error, model = train(callbacks=log, **({} if log else options))
    assert [str(one.message) for one in caught] == [f"{FULL} Training goes on without this file."]
    assert len(failed) == 3 and error is None
    assert run.losses == whole.losses and equal(weights(model), weights(expected))


def test_interrupted_on_a_full_disk_the_run_is_kept_all_the_same(tmp_path, monkeypatch):
    def full(*_):
        raise FULL

    monkeypatch.setattr("rdlib.training.loop.write_checkpoint", full)
    with pytest.warns(UserWarning, match="disk is full"):
        error = train(callbacks=[at(3, interrupt)], checkpoint=tmp_path / "run.ckpt")[1]
    assert isinstance(error, KeyboardInterrupt) and error.run.step == 3 and "goes on from" not in str(error)


# --- the average, and runs that are not what they seem


@pytest.mark.parametrize("again", [3, 5])
def test_a_resumed_run_that_ends_before_its_first_step_has_the_average_in_place(tmp_path, again):
    """Finished after 3 epochs, or to go on to 5: the checkpoint's live weights are not left in the model."""
    path = tmp_path / "run.ckpt"
    _, _, averaged = train(ema=0.5, checkpoint=path)

    class Fails(Callback):
        def on_start(self, run):
            raise ZeroDivisionError
    _, error, model = train(again, ema=0.5, checkpoint=path, callbacks=[Fails()])
    assert isinstance(error, ZeroDivisionError) and equal(weights(model), weights(averaged))
    assert (model.config.unfinished is None) == (again == 3)


def test_weights_that_diverge_are_unfinished_though_a_callback_stopped(monkeypatch):
    def stop(run):
        run.stop = True
        next(iter(run.model.parameters())).data.fill_(float("nan"))
    _, error, model = train(callbacks=[stop])
    assert isinstance(error, FloatingPointError) and "FloatingPointError" in model.config.unfinished


class Ended(Images):
    """A stream that ends before its time."""

    def __getitem__(self, index):
        return super().__getitem__(index) if index < 3 else next(iter(()))


@pytest.mark.parametrize("use", [lambda model, data: fit(model, data, 2, cache=False, progress=False),
                                 lambda model, data: fit(model, data, 2, cache=True, progress=False),
                                 lambda model, data: evaluate(model, data, progress=False),
                                 lambda model, data: rdlib.MemoryBank("resnet18", None).fit(data)])
def test_a_data_set_that_ends_early_is_an_error(use):
    with pytest.raises(ValueError, match=r"Item \d of the data set raised StopIteration.* needs an image"):
        use(ReverseDistillation("resnet18", weights=None), Ended(images().images))
