"""Worker processes: the same bits however they are started, once a run, with little to import and nothing to keep."""
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from test_training import Images, Jittered, images, train
from torch.utils.data import get_worker_info

from rdlib import ReverseDistillation, evaluate
from rdlib.datasets.items import Seeded, check_dataset, image_item
from rdlib.datasets.samples import AnomalyDataset, ArraySample
from rdlib.datasets.workers import read_batches
from rdlib.training import features

STARTED = [method for method in multiprocessing.get_all_start_methods() if method != "fork"]
SCRIPT = '''
import os, random, sys, time
import numpy as np
import torch
from rdlib.datasets.items import Seeded, check_dataset
from rdlib.datasets.samples import AnomalyDataset, ArraySample
from rdlib.datasets.workers import read_batches

def noted(image):
    """Write down who reads, and what it has imported for that."""
    heavy = [name for name in ("pandas", "matplotlib", "sklearn", "scipy.stats", "torchvision") if name in sys.modules]
    with open("log", "a") as file:
        file.write(f"{os.getpid()} {' '.join(heavy)}\\n")
    return (image + 0.1 * (torch.rand(1) + np.random.rand() + random.random())).float()

def arrays(n, side, transform=None):
    pixels = np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    return AnomalyDataset([ArraySample(p, str(i)) for i, p in enumerate(pixels)], (side, side), transform=transform)

if __name__ == "__main__":
    from rdlib import ReverseDistillation, fit
    torch.multiprocessing.set_start_method(sys.argv[1])
    print(os.getpid())
    for workers in (0, 2):
        began = time.perf_counter()
        run = fit(ReverseDistillation("resnet18", weights=None), arrays(3, 32, noted), 5, batch_size=2,
                  num_workers=workers, progress=False)
        print(time.perf_counter() - began, *run.losses)
    if sys.platform != "win32":
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    data = arrays(1000, 32)
    tensors = [data[i].image for i in range(1000)]
    for read in (data, tensors):
        batches = read_batches(Seeded(read, 0), 100, check_dataset(read), 1)
        print(torch.equal(torch.cat([item.image for item in batches]), torch.stack(tensors)))
    print(torch.multiprocessing.get_sharing_strategy())
'''


@pytest.fixture(scope="module", params=[
    each if each == "spawn" else pytest.param(each, marks=pytest.mark.slow) for each in STARTED])
def printed(request, tmp_path_factory):
    """Run the script on one thread. Return the lines that it prints, its folder, and the time to import torch."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    least = time.perf_counter() - began
    done = subprocess.run([sys.executable, "script.py", request.param], cwd=folder, capture_output=True, text=True,
                          encoding="utf-8", env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert not done.returncode and not done.stderr, done.stderr
    return done.stdout.splitlines(), folder, least


def test_a_run_starts_its_workers_once_and_gives_the_same_bits(printed):
    """For 5 epochs, 2 workers start, not 10, and none imports what only networks, tables and figures need."""
    (main, alone, together, *_), folder, least = printed
    (alone, *expected), (together, *losses) = alone.split(), together.split()
    assert len(losses) == 5 and losses == expected
    read = [line.split() for line in (folder / "log").read_text(encoding="utf-8").splitlines()]
    workers = {tuple(line) for line in read if line[0] != main}
    assert len(workers) == 2 and all(len(line) == 1 for line in workers), workers
    assert float(together) < 3 * float(alone) + 6 * least, "10 imports of torch, two at a time, would take longer"


def test_a_thousand_images_need_few_open_files(printed):
    """Of images that the main process has read, and of tensors, each would need an open file of its own."""
    pytest.importorskip("resource", reason="Windows has no such limit")
    assert printed[0][3:] == ["True", "True", torch.multiprocessing.get_sharing_strategy()]


@pytest.mark.parametrize("augmented", [False, True])
def test_the_number_of_workers_changes_no_bit(augmented):
    data = (Jittered if augmented else Images)(images(7, 32).images)
    schedule = [[(epoch, i) for i in part] for epoch in range(3) for part in ((3, 0, 6), (5, 1), (2, 4))]
    expected, *others = (torch.cat([item.image for item in read_batches(Seeded(data, 4), schedule, check_dataset(data),
                                                                        workers)]) for workers in (0, 1, 2))
    assert len(expected) == 21 and all(torch.equal(expected, other) for other in others)
    first, second, third = (part[[1, 4, 5, 0, 6, 3, 2]] for part in expected.split(7))
    assert torch.equal(first, second) is torch.equal(second, third) is not augmented


class Slow(Images):
    def __getitem__(self, index):
        time.sleep(0.02)
        if index == len(self) - 1 and self.augmented:
            raise ValueError("no such image")
        return super().__getitem__(index)


def reading(data, num_workers=2):
    return read_batches(Seeded(data, 0), 1, check_dataset(data), num_workers)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals between processes")
def test_workers_leave_ctrl_c_to_the_main_process():
    """A terminal sends it to all of them, also while they start."""
    batches, seen, handler = reading(Slow(images(20, 32).images)), [], signal.getsignal(signal.SIGINT)
    for item in batches:
        seen.append(item.index.item())
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGINT)
    assert seen == list(range(20)) and not multiprocessing.active_children()
    assert signal.getsignal(signal.SIGINT) is handler and not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_workers_end_with_their_work_also_after_an_error_that_is_kept():
    batches = reading(Slow(images(6, 32).images))
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert not multiprocessing.active_children()
    batches = reading(Slow(images(6, 32).images, augmented=True))
    with pytest.raises(ValueError, match="no such image") as error:
        list(batches)
    assert error.tb and not multiprocessing.active_children(), "its traceback holds what reads the batches"


def test_workers_end_when_a_model_fails_or_training_is_interrupted():
    """A notebook keeps the traceback, and with it all that the frames hold."""
    class Failing(ReverseDistillation):
        def predict(self, *_):
            raise RuntimeError("no memory")

    def interrupt(run):
        raise KeyboardInterrupt

    data = Slow(images(6, 32).images)
    for error, use in ((RuntimeError, lambda: evaluate(Failing("resnet18", None), [(image, 0) for image in data.images],
                                                       batch_size=1, num_workers=1, progress=False)),
                       (KeyboardInterrupt, lambda: train(2, data, cache=False, num_workers=1, callbacks=[interrupt]))):
        with pytest.raises(error) as kept:
            use()
        assert kept.tb and not multiprocessing.active_children()


def test_workers_keep_no_images():
    """Each would keep its own copy of the data set, up to the limit of the main process."""
    pixels = np.zeros((4, 32, 32, 3), np.uint8)
    data = AnomalyDataset([ArraySample(p, "black") for p in pixels], (32, 32),
                          transform=lambda image: image + len(data._kept) / 4 * (get_worker_info() is not None))
    schedule = [[(epoch, i)] for epoch in range(3) for i in range(4)]
    read = read_batches(Seeded(data, 0), schedule, check_dataset(Images(torch.zeros(1, 3, 32, 32))), 1)
    assert [item.image.max().item() for item in read] == [0] * 12
    assert [data[i].index for i in range(4)] == list(data._kept), "the main process does"


def test_batches_for_cuda_are_pinned_and_copied_without_waiting(monkeypatch):
    """With a stand-in for the loader and the images, since the suite needs no GPU."""
    asked = []

    class Loader(torch.utils.data.DataLoader):
        def __init__(self, *args, pin_memory, **options):
            asked.append(pin_memory)
            super().__init__(*args, **options)

    class Pinned:
        def to(self, device, non_blocking):
            asked.append((device.type, non_blocking))
            return self

    monkeypatch.setattr("rdlib.datasets.workers.DataLoader", Loader)
    data = images(2, 32)
    for pinned in (False, True):
        assert len(list(read_batches(Seeded(data, 0), 1, check_dataset(data), 0, pinned))) == 2
    assert asked == [False, True]
    asked.clear()

    def read(dataset, batches, collate, num_workers, pinned):
        asked.append(pinned)
        return [image_item(data.images[0], 0)._replace(image=Pinned())]

    monkeypatch.setattr(features, "read_batches", read)
    for kind in ("cpu", "cuda", "mps"):
        source = features.LiveFeatures(type("Model", (), {"device": torch.device(kind)})(), data, 0, "float32")
        list(source.images([(0, torch.arange(1))]))
    assert asked == [False, ("cpu", False), True, ("cuda", True), False, ("mps", False)]
