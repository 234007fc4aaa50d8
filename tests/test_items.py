"""Data sets of other people: what `fit` and `evaluate` take, in which order it is read, and what they refuse."""
import pickle
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from test_training import Images, equal, train, weights
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    random_split,
)

from rdlib import ForwardStudent, MemoryBank, ReverseDistillation, evaluate, fit, load_dataset
from rdlib.datasets.items import augments, check_dataset, labelled_item
from rdlib.datasets.samples import AnomalyDataset
from rdlib.detector import Scorer
from rdlib.evaluation import EvaluateEvery, Report
from rdlib.training import EarlyStopping, epoch_chunks
from rdlib.utils.errors import DataError

SIZE = (64, 64)
BYTES = torch.randint(0, 256, (6, 3, *SIZE), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
FLOATS = BYTES.float() / 255
DEFECTS = ["good", "hole", "good", "cut", "good", "cut"]


@dataclass
class Stored:
    """A sample whose image and mask are given."""

    image: torch.Tensor
    defect: str = "good"
    name: str = "an image"
    rows: int = 0  # of defect pixels

    def load(self, size):
        mask = torch.zeros(size, dtype=torch.bool)
        mask[:self.rows] = True
        return self.image, mask


def known(images=FLOATS, defects=None, transform=None):
    """An `AnomalyDataset` of given images; image i is defective in its first i rows if `defects` names a kind."""
    defects = defects or ["good"] * len(images)
    samples = [Stored(image, defect, f"{i:02d}.png", i * (defect != "good"))
               for i, (image, defect) in enumerate(zip(images, defects, strict=True))]
    return AnomalyDataset(samples, SIZE, transform=transform)


TRAINING_SETS = {
    "a list": lambda: list(FLOATS), "a tuple": lambda: tuple(FLOATS), "bytes": lambda: list(BYTES),
    "doubles": lambda: [(image.double() / 255) for image in BYTES],
    "arrays": lambda: [image.permute(1, 2, 0).numpy() for image in BYTES],
    "tensors": lambda: TensorDataset(FLOATS), "tensors and labels": lambda: TensorDataset(FLOATS, torch.arange(6)),
    "pairs": lambda: [(image, "a caption") for image in BYTES], "known": lambda: known(), "bytes known":
    lambda: known(BYTES), "a subset": lambda: Subset(list(FLOATS.flip(0)), range(5, -1, -1)),
    "a subset of a subset": lambda: Subset(Subset(known(), [5, 4, 3, 2, 1, 0]), torch.arange(5, -1, -1)),
    "joined": lambda: ConcatDataset([list(FLOATS[:2]), TensorDataset(FLOATS[2:4]), Subset(known(), [4, 5])])}


@pytest.fixture(scope="module")
def expected():
    """The losses and weights of a run on a data set of named tuples, and the memory bank of the same images."""
    model = MemoryBank("resnet18", None, size=20).fit(Images(FLOATS), progress=False)
    return train(1, Images(FLOATS)), model.bank


@pytest.mark.parametrize("name", TRAINING_SETS)
def test_all_kinds_of_data_sets_train_bit_for_bit_alike(name, expected):
    data = TRAINING_SETS[name]()
    (run, result), bank = expected
    again, same = train(1, data)
    assert again.losses == run.losses and equal(result, same)
    assert again.settings["cached"] is True, "none of these augments"
    assert torch.equal(MemoryBank("resnet18", None, size=20).fit(data, progress=False).bank, bank)


def test_gray_images_are_repeated():
    gray = FLOATS[:, :1]
    assert train(1, list(gray))[0].losses == train(1, list(gray.expand(-1, 3, -1, -1)))[0].losses


class Stream(IterableDataset):
    def __iter__(self):
        return iter(FLOATS)

    def __len__(self):
        return 6


class Unreadable(Dataset):
    def __len__(self):
        return 6


FILES = r'load_dataset\("folder:PATH"\) or folder_dataset\(good=...\)'
NO_DATA_SETS = {
    "a loader": (lambda: DataLoader(known(), 2), "This DataLoader has no length and indices.*loader.dataset"),
    "a stream": (Stream, "This Stream has no length and indices"),
    "a loader of a stream": (lambda: DataLoader(Stream()), "This (DataLoader|Stream) has no length and indices"),
    "a batch": (lambda: FLOATS, r"This Tensor has no .*list\(batch\)"),
    "an image": (lambda: FLOATS[0], "This Tensor has no"), "an array": (lambda: FLOATS.numpy(), "This ndarray has no"),
    "both parts": (lambda: load_dataset("synthetic/weave", size=64), "This AnomalyData has no .*pass data.train or"),
    "nothing": (lambda: None, "This NoneType has no|test set has no images"), "a number": (lambda: 3, "This int has"),
    "a dictionary": (lambda: {"train": FLOATS}, "This dict has no item at index 0"),
    "a table": (lambda: pd.DataFrame({"file": ["a.png"]}), "This DataFrame has no item at index 0"),
    "no items": (Unreadable, "This Unreadable has no item at index 0"),
    "a name": (lambda: "synthetic/weave", rf"This str has no length and indices of images.*{FILES}"),
    "a path": (lambda: Path("images"), rf"This \w+Path has no length and indices of images.*{FILES}"),
    "paths": (lambda: ["a.png", "b.png"], f"a str, has no image to use: a str, not one tensor or array.*{FILES}"),
    "paths with labels": (lambda: [(Path("a.png"), 1)], rf"image to use: a \w+Path, not one tensor.*{FILES}"),
    "dictionaries": (lambda: [{"image": image} for image in FLOATS], "a dict, has no image to use"),
    "Pillow's images": (lambda: [Image.new("RGB", SIZE)] * 3, f"Image, has no image to use: a Image, not one.*{FILES}"),
    "empty tuples": (lambda: [()] * 3, "a tuple, has no image to use"),
    "batches": (lambda: [FLOATS, FLOATS], "a Tensor, has no image to use"),
    "whole numbers": (lambda: list(BYTES.long()), "has no image to use: .*int64"),
    "channels last": (lambda: list(FLOATS.permute(0, 2, 3, 1)), "has no image to use")}


@pytest.mark.parametrize("name", NO_DATA_SETS)
def test_anything_else_is_refused_and_told_the_contract(name):
    make, words = NO_DATA_SETS[name]
    uses = [lambda data: fit(ReverseDistillation("resnet18", None), data, 1, progress=False),
            MemoryBank("resnet18", None).fit]
    if name != "a loader":
        uses.append(lambda data: evaluate(ReverseDistillation("resnet18", None), data, progress=False))
        uses.append(EvaluateEvery)
    for use in uses:
        with pytest.raises(ValueError, match=f"(?s){words}") as caught:
            use(make())
        assert "A data set is an AnomalyDataset" in str(caught.value) or make() is None


@pytest.mark.parametrize("name", NO_DATA_SETS)
def test_early_stopping_refuses_the_same_before_the_first_step(name):
    make, words = NO_DATA_SETS[name]
    steps = []
    with pytest.raises(ValueError, match=f"(?s){words}"):
        train(1, callbacks=[EarlyStopping(make()), lambda run: steps.append(run.step)])
    assert not steps


def test_evaluation_every_n_epochs_needs_images_with_labels_from_the_start():
    for data, words in (([], "test set has no images"), (list(FLOATS), "has no label"), (None, "This NoneType has no"),
                        ((item for item in known()), "This generator has no")):
        with pytest.raises(ValueError, match=words):
            EvaluateEvery(data)


def test_images_of_several_sizes_are_refused():
    for use in (lambda data: train(1, data), MemoryBank("resnet18", None).fit):
        with pytest.raises(ValueError, match="the first is 64 x 64 pixels, another 96 x 96"):
            use([torch.zeros(3, 64, 64), torch.zeros(3, 64, 64), torch.zeros(3, 96, 96)])


# transform=

def brighter(image):
    return image * 0.5 + 0.25


def noisy(image):
    return (image + 0.1 * torch.rand(1) + 0.1 * float(np.random.rand())).clamp(0, 1)


@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: Subset(data, range(6)), lambda data:
                                  ConcatDataset([data]), lambda data: Subset(ConcatDataset([data]), range(6)),
                                  lambda data: data.subset(range(6))])
def test_a_transform_is_applied_in_every_epoch_and_never_cached(wrap):
    expected = train(2, list(brighter(FLOATS)), cache=False)[0]
    data = wrap(known(transform=brighter))
    assert augments(data)
    run = train(2, data)[0]
    assert run.settings["cached"] is False and run.losses == expected.losses != train(2, cache=False)[0].losses


def test_a_set_that_denies_it_still_augments_if_it_has_a_transform():
    class Denies(AnomalyDataset):
        augmented = False

    assert augments(Denies([], SIZE, transform=noisy)) and not augments(Denies([], SIZE))


def test_random_transforms_follow_seed_and_epoch_stopped_or_not(tmp_path):
    def stop(run):
        run.stop = run.step == 3

    seen = []
    data = known(transform=lambda image: seen.append(noisy(image)) or seen[-1])
    whole, expected = train(2, data)
    assert len({image.sum().item() for image in seen}) >= 12, "each image is changed otherwise in each epoch"
    train(2, data, checkpoint=tmp_path / "run.ckpt", callbacks=[stop])
    resumed, result = train(2, data, checkpoint=tmp_path / "run.ckpt")
    assert resumed.losses == whole.losses and equal(result, expected)
    assert train(2, known(transform=noisy), num_workers=1)[0].losses == whole.losses
    assert train(2, data, seed=1)[0].losses != whole.losses


def test_a_transform_leaves_masks_and_kept_images_alone():
    data = known(FLOATS, ["good", "hole"] * 3, transform=lambda image: image.zero_())
    assert not data[5].image.any() and data[5].mask.sum() == 5 * 64
    data.transform = None
    assert torch.equal(data[5].image, FLOATS[5]) and torch.equal(data.samples[5].image, FLOATS[5])


@pytest.mark.parametrize("result", [FLOATS[0].numpy(), None, "an image", FLOATS[:2]])
def test_a_transform_with_a_result_that_is_no_image_is_refused(result):
    with pytest.raises(ValueError, match="Item 0 of the data set, a Item, has no image to use"):
        train(1, known(transform=lambda image: result))


def test_a_transform_may_return_another_dtype_or_size():
    expected = train(1, known(transform=torch.clone))[0].losses
    assert train(1, known(transform=lambda image: image.double()))[0].losses == expected
    assert train(1, known(transform=lambda image: (255 * image).round().byte()))[0].losses == expected
    data = known(FLOATS, DEFECTS, transform=lambda image: image[:, :32])
    assert train(1, data)[0].model.image_size == (32, 64)
    with pytest.raises(ValueError, match="Resize them together"):
        evaluate(ReverseDistillation("resnet18", None), data, progress=False)


def test_a_data_set_shows_itself_in_a_few_lines():
    assert repr(known(FLOATS, DEFECTS)) == ("AnomalyDataset\n  items: 6 images (2 cut, 3 good, 1 hole), with masks\n"
                                            "  size: 64 x 64")
    assert "without masks" in repr(AnomalyDataset([], (32, 64), has_masks=False)) and known()._repr_html_()


# subset and split

def test_a_subset_has_the_items_in_the_order_asked_for():
    data = known(FLOATS, ["good", "hole", "good", "cut", "good", "cut"], transform=brighter)
    data[3]  # the whole set keeps this image
    for indices in ([3, 0, 5], np.array([3, 0, -1]), torch.tensor([3, 0, 5]), range(3, 6), np.arange(6) > 2, []):
        part, places = data.subset(indices), list(np.arange(6)[np.asarray(indices, None if len(indices) else int)])
        assert part.defect_types == [data.defect_types[i] for i in places] and part.size == SIZE
        for i, place in enumerate(places):
            assert torch.equal(part[i].image, data[place].image) and torch.equal(part[i].mask, data[place].mask)
            assert part[i].index == i
    with pytest.raises(IndexError):
        data.subset([6])
    with pytest.raises(IndexError):
        data.subset([True, False])


def test_a_subset_of_a_kind_of_its_own_stays_of_this_kind():
    class Darker(AnomalyDataset):
        def __getitem__(self, index):
            item = super().__getitem__(index)
            return item._replace(image=item.image / 2)

    part = Darker(known().samples, SIZE, has_masks=False).subset([4])
    assert torch.equal(part[0].image, FLOATS[4] / 2) and not part.has_masks


def test_a_split_holds_out_a_share_by_seed():
    data = known(FLOATS[torch.arange(60) % 6])
    rest, part = data.split(0.25)
    names = [[sample.name for sample in half.samples] for half in (rest, part)]
    assert [len(half) for half in names] == [45, 15] and names == [sorted(names[0]), sorted(names[1])]
    assert sorted(sum(names, [])) == sorted(sample.name for sample in data.samples)
    assert names[1] == [sample.name for sample in data.split(0.25)[1].samples]
    assert names[1] != [sample.name for sample in data.split(0.25, seed=1)[1].samples]
    for n, fraction in ((60, 0), (60, 1), (60, -0.5), (60, 20), (1, 0.5), (60, 0.001), (0, 0.5)):
        with pytest.raises(ValueError, match=rf"fraction (must be a number )?in \(0, 1\).*got {fraction}( of {n})?\."):
            data.subset(range(n)).split(fraction)


def test_kept_images_are_not_pickled():
    data = known(transform=brighter)
    before = len(pickle.dumps(data))
    items = list(data)
    assert len(data._kept) == 6 and len(pickle.dumps(data)) == before
    assert torch.equal(pickle.loads(pickle.dumps(data))[2].image, items[2].image)


# evaluate

@pytest.fixture(scope="module")
def model():
    return ReverseDistillation("resnet18", None, sigma=1.0)


@pytest.fixture(scope="module")
def report(model):
    return evaluate(model, known(FLOATS, DEFECTS), progress=False)


def same(report, other, order=slice(None)):
    """Compare everything that does not depend on the names."""
    assert np.array_equal(report.labels[order], other.labels)
    assert np.array_equal(report.masks[order], other.masks)
    np.testing.assert_allclose(report.maps[order], other.maps, atol=1e-5)
    np.testing.assert_allclose(report.scores[order], other.scores, atol=1e-5)
    for i in range(len(other.labels)):
        np.testing.assert_allclose(other.image(i), report.image(np.arange(6)[order][i]), atol=1e-7)


KNOWN_SETS = {
    "a subset": (lambda data: Subset(data, [5, 0, 1]), [5, 0, 1]),
    "a subset of a subset": (lambda data: Subset(Subset(data, [5, 0, 1]), [2, 0]), [1, 5]),
    "a random split": (lambda data: random_split(data, [4, 2], torch.Generator().manual_seed(0))[0], None),
    "joined": (lambda data: ConcatDataset([Subset(data, [1, 2]), data.subset([0])]), [1, 2, 0]),
    "a part of two": (lambda data: Subset(ConcatDataset([data, data]), [7, 0]), [1, 0])}


@pytest.mark.parametrize("name", KNOWN_SETS)
def test_parts_of_a_test_set_keep_names_and_defect_types(name, model, report):
    make, order = KNOWN_SETS[name]
    part = make(known(FLOATS, DEFECTS))
    order = list(part.indices) if order is None else order
    other = evaluate(model, part, progress=False)
    same(report, other, order)
    assert other.defect_types.tolist() == [DEFECTS[i] for i in order]
    assert other.table()["name"].tolist() == [f"{i:02d}.png" for i in order]


def tuples(with_masks=True):
    """The same images as tuples of other people, each with a mask of another form."""
    forms = [lambda m: m, lambda m: m[None], lambda m: m.numpy(), lambda m: 255 * m.byte(), lambda m: m.float(),
             lambda m: m.long()]
    labels = [0, True, np.int64(0), torch.tensor(1), torch.tensor([0]), 1.0]
    items = known(FLOATS, DEFECTS)
    return [(FLOATS[i], labels[i], forms[i](items[i].mask))[:3 if with_masks else 2] for i in range(6)]


class Named:
    """An item of somebody else's class."""

    def __init__(self, image, label, mask=None):
        self.image, self.label, self.mask = image, label, mask


FOREIGN_SETS = {
    "tuples": lambda: tuples(), "lists": lambda: [list(item) for item in tuples()],
    "objects": lambda: [Named(*item) for item in tuples()],
    "tensors": lambda: TensorDataset(FLOATS, torch.tensor([0, 1] * 3),
                                     torch.stack([item.mask for item in known(FLOATS, DEFECTS)])),
    "no masks of good ones": lambda: [(image, label, mask if label else None) for image, label, mask in tuples()],
    "joined": lambda: ConcatDataset([known(FLOATS, DEFECTS).subset([0, 1, 2]), tuples()[3:]]),
    "transformed": lambda: ConcatDataset([known(FLOATS, DEFECTS, transform=torch.clone)])}


@pytest.mark.parametrize("name", FOREIGN_SETS)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_items_of_others_are_evaluated_like_our_own(name, num_workers, model, report):
    other = evaluate(model, FOREIGN_SETS[name](), num_workers=num_workers, progress=False)
    same(report, other)
    assert other.metrics == pytest.approx(report.metrics, nan_ok=True) and not np.isnan(other.aupro)
    assert len(set(other.table()["name"])) == 6


def test_without_any_mask_there_are_no_pixel_metrics(model, report):
    for items in (tuples(with_masks=False), [item[:2] if item[1] else item for item in tuples()]):
        other = evaluate(model, items, progress=False)
        assert np.isnan(other.pixel_auroc) and np.isnan(other.aupro) and "unknown" not in repr(other)
        assert other.image_auroc == pytest.approx(report.image_auroc)


@pytest.mark.parametrize("missing", [[5], [1, 3]])
def test_an_anomalous_item_without_a_mask_is_unknown(missing, model, report):
    items = [item[:2] if i in missing else item for i, item in enumerate(tuples())]
    for dataset in (items, [Named(*item) for item in items], ConcatDataset([items[:2], items[2:]])):
        other = evaluate(model, dataset, progress=False)
        assert np.flatnonzero(other.unknown.any((1, 2))).tolist() == missing and other.unknown[missing].all()
        rest = [i for i in range(6) if i not in missing]
        assert other.pixel_auroc == pytest.approx(
            roc_auc_score(report.masks[rest].ravel(), report.maps[rest].ravel()), abs=1e-6)
        assert f"{len(missing)} of 6 masks, in part or whole" in repr(other)


def test_items_say_themselves_what_is_unknown(model):
    half = torch.zeros(SIZE, dtype=torch.bool)
    half[:, 32:] = True
    items = [item._replace(unknown=half) for item in known(FLOATS, DEFECTS)]
    other = evaluate(model, items, progress=False)
    assert torch.equal(torch.tensor(other.unknown), half.expand(6, -1, -1))
    assert not (other.masks & other.unknown).any() and other.masks[5].any()
    with pytest.raises(ValueError, match=r"mask of item 0 .* is \(32, 32\).*Resize them together"):
        evaluate(model, [items[0]._replace(unknown=half[:32, :32])], progress=False)


def test_defects_of_a_data_set_without_masks_are_unknown(model):
    """Also where they are joined with images that have masks."""
    blind = AnomalyDataset(known(FLOATS, DEFECTS).samples[:4], SIZE, has_masks=False)
    assert [item.unknown.all().item() for item in blind] == [False, True, False, True]
    joined = ConcatDataset([blind, known(FLOATS, DEFECTS, transform=torch.clone).subset([4, 5])])
    other = evaluate(model, joined, progress=False)
    assert other.unknown[[1, 3]].all() and not other.unknown[[0, 2, 4, 5]].any() and not np.isnan(other.pixel_auroc)


@pytest.mark.parametrize(("items", "words"), [
    (list(FLOATS), "Item 0 of the data set, a Tensor, has no label. A data set"),
    (TensorDataset(FLOATS), "a tuple, has no label"), ([Named(FLOATS[0], None)], "a Named, has no label"),
    ([(FLOATS[0], torch.zeros(2))], "has no label"), ([(FLOATS[0], 3)], "Labels are 0 .* Found 3"),
    ([(FLOATS[0], 0.5)], r"Labels are 0 .* Found 0\.5"), ([(FLOATS[0], "good")], "Labels are 0 .* Found 'good'"),
    ([(FLOATS[0], 1, torch.zeros(32, 32))], r"mask of item 0 .* is \(32, 32\).*\(3, 64, 64\). Resize them together"),
    ([(FLOATS[0], 1, torch.zeros(3, 64, 64))], r"mask of item 0 .* is \(3, 64, 64\)"),
    ([(FLOATS[0], 1, torch.full(SIZE, 7))], "Masks are bool"),
    ([(FLOATS[0], 0), (FLOATS[0, :, :32], 0)], "differ in size")])
def test_items_that_cannot_be_evaluated_are_refused(items, words, model):
    with pytest.raises(ValueError, match=f"(?s){words}"):
        evaluate(model, items, progress=False)


@pytest.mark.parametrize("options", [
    {"collate_fn": lambda items: torch.stack([item.image for item in items])}, {"collate_fn": torch.stack},
    {"collate_fn": partial(sum, start=0)}, {"batch_size": None, "collate_fn": lambda item: item.image / 2}])
def test_a_loader_with_a_collate_fn_of_its_own_is_refused(options, model, report, tmp_path):
    """It may change the images, and would not be called."""
    loader = DataLoader(known(FLOATS, DEFECTS), **options)
    report.save(tmp_path / "report.npz")
    for use in (lambda: evaluate(model, loader, progress=False), lambda: EvaluateEvery(loader),
                lambda: Report.load(tmp_path / "report.npz", loader)):
        with pytest.raises(ValueError, match="collate_fn would not be called. Let the data set do its work"):
            use()


@pytest.mark.parametrize("options", [{}, {"batch_size": None}, {"collate_fn": torch.utils.data.default_collate},
                                     {"collate_fn": check_dataset(known(FLOATS, DEFECTS), labelled_item)}])
def test_a_loader_with_a_usual_collate_fn_is_evaluated(options, model, report):
    same(report, evaluate(model, DataLoader(known(FLOATS, DEFECTS), **options), progress=False))


class Asked(Scorer):
    """A model that notes how many images it is given at a time."""

    threshold = image_size = None

    def __init__(self):
        self.sizes = []

    def predict(self, images, *_):
        self.sizes.append(len(images))
        return images.mean(1), images.mean((1, 2, 3))


@pytest.mark.parametrize("data", [known(FLOATS, DEFECTS), tuples()])
def test_a_loader_gives_its_data_set_its_order_its_batches_and_workers(data, model, report, monkeypatch):
    from rdlib.datasets import workers as module
    workers = []

    class Watched(DataLoader):
        def __init__(self, *args, **options):
            workers.append(options["num_workers"])
            super().__init__(*args, **options)

    monkeypatch.setattr(module, "DataLoader", Watched)
    shuffled = torch.randperm(6, generator=torch.Generator().manual_seed(3)).tolist()
    loaders = [(Watched(data, 4, num_workers=0), list(range(6)), [4, 2]),
               (Watched(data, 4, num_workers=1, drop_last=True), [0, 1, 2, 3], [4]),
               (Watched(data, 2, num_workers=0, sampler=[5, 3, 3, 0]), [5, 3, 3, 0], [2, 2]),
               (Watched(data, num_workers=0, batch_sampler=BatchSampler([1, 2, 4], 2, False)), [1, 2, 4], [2, 1]),
               (Watched(data, None, num_workers=0), list(range(6)), [1] * 6),
               (Watched(Subset(data, shuffled), 6, num_workers=0), shuffled, [6])]
    for loader, order, sizes in loaders:
        workers.clear()
        same(report, evaluate(model, loader, batch_size=3, num_workers=5, progress=False), order)
        assert workers == [loader.num_workers]
        asked = Asked()
        evaluate(asked, loader, progress=False)
        assert asked.sizes == sizes
    for options in ({"shuffle": True}, {"sampler": SubsetRandomSampler(range(6))}):
        torch.manual_seed(4)
        got = evaluate(model, Watched(data, 2, num_workers=0, **options), progress=False)
        order = [int(np.abs(report.scores - score).argmin()) for score in got.scores]
        assert sorted(order) == list(range(6)) != order
        same(report, got, order)


def test_the_size_must_be_that_of_training(model):
    trained = ReverseDistillation("resnet18", None)
    trained.set_trained((96, 96), (0, 1))
    for data in (known(FLOATS, DEFECTS), tuples(), DataLoader(tuples())):
        with pytest.raises(ValueError, match="96 x 96.*64 x 64"):
            evaluate(trained, data, progress=False)


def test_samples_may_hold_bytes_or_floats():
    for images in (FLOATS, BYTES):
        data = known(images)
        assert torch.equal(data[1].image, FLOATS[1]) and data[1].image.dtype == torch.float32
        data[1].image.zero_()
        assert torch.equal(data[1].image, FLOATS[1]), "whoever draws on an item draws on a copy"


def test_items_may_lie_on_a_gpu_or_carry_gradients():
    item = labelled_item((FLOATS[0].clone().requires_grad_() * 1, 1), 3)
    assert item.label == 1 and item.index == 3 and torch.equal(item.image.detach(), FLOATS[0])
    assert train(1, [image.clone().requires_grad_() for image in FLOATS])[0].losses == train(1, list(FLOATS))[0].losses


# What a model learns about its images

def test_fit_notes_size_and_range_of_all_images_it_has_read():
    data = [image * (0.5 + 0.1 * i) for i, image in enumerate(FLOATS)]
    low, high = min(image.min().item() for image in data), max(image.max().item() for image in data)
    for model in (ReverseDistillation("resnet18", None), ForwardStudent("resnet18", None)):
        for cache in (True, False):
            fit(model, data, 1, batch_size=4, cache=cache, progress=False)
            assert model.config.image_size == SIZE and model.config.value_range == (low, high)
            model.config.value_range = (-9, 9)  # an older range does not stay
    bank = MemoryBank("resnet18", None, size=20)
    for _ in range(2):
        bank.fit(data, batch_size=4, progress=False)
        assert bank.config.image_size == SIZE and bank.config.value_range == (low, high) and bank.threshold is None
        bank.config.value_range = (-9, 9)


@pytest.mark.parametrize("cache", [True, False])
def test_the_range_goes_on_in_a_resumed_run(cache, tmp_path):
    last = epoch_chunks(list(FLOATS), 3, 0, 0)[-1][-1]  # not read before the first epoch's last step
    data = [2 * image if i == last else image for i, image in enumerate(FLOATS)]

    def stop(run):
        run.stop = run.step == 1

    def trained(epochs, callbacks=()):
        model = ReverseDistillation("resnet18", None, normalize=False)
        fit(model, data, epochs, batch_size=3, cache=cache, checkpoint=tmp_path / f"{cache}.ckpt", progress=False,
            callbacks=callbacks)
        return model.config.value_range

    part, whole = trained(1, [stop]), (min(i.min().item() for i in data), max(i.max().item() for i in data))
    assert trained(1) == trained(1) == trained(2) == whole, "also if nothing is left to train"
    assert (part == whole) is cache


def test_a_callback_may_predict_after_the_first_epoch():
    """With images outside [0, 1], the model must know their range by then."""
    seen = []

    def look(run):
        if run.at_epoch_end:
            seen.append(evaluate(run.model, known(4 * FLOATS - 2, DEFECTS), progress=False).scores)

    train(2, list(4 * FLOATS - 2), callbacks=[look])
    assert len(seen) == 2 and not np.array_equal(*seen)


# What cannot be trained

def test_models_without_trainable_parameters_are_refused():
    with pytest.raises(ValueError, match=r"This MemoryBank has no trainable parameters.*model\.fit\(data"):
        fit(MemoryBank("resnet18", None), list(FLOATS), 1, progress=False)
    frozen = ReverseDistillation("resnet18", None).requires_grad_(False)
    before = weights(frozen)
    with pytest.raises(ValueError, match="no trainable parameters.*folded or frozen model, train a new one"):
        fit(frozen, list(FLOATS), 1, progress=False)
    assert equal(before, weights(frozen)) and frozen.config.image_size is None


def test_scales_that_the_map_does_not_read_are_warned_of():
    for scales, own in (((3,), (1, 2, 3)), ((1, 2, 3), (2, 3))):
        model = ReverseDistillation("resnet18", None, scales=own)
        with pytest.warns(UserWarning) as caught:
            fit(model, list(FLOATS), 1, scales=scales, progress=False)
        assert str(scales) in str(caught[0].message) and str(own) in str(caught[0].message) and len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(ReverseDistillation("resnet18", None, scales=(3, 2)), list(FLOATS), 1, scales=(2, 3), progress=False)


def test_an_image_that_is_not_stored_says_so():
    from rdlib.datasets.items import ItemSample
    with pytest.raises(DataError, match=r"7\.png is not at hand"):
        ItemSample("7.png", "good").load(SIZE)
