"""One class against the rest: who is normal, how many there are, and the very pixels of the files."""
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets, transforms

from rdlib import load_dataset
from rdlib.datasets.load import CLASSES
from rdlib.utils.errors import DataError

# How many images of each digit scikit-learn has.
DIGIT_COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.mark.parametrize("digit", range(10))
def test_digits(digit):
    data = load_dataset(f"digits/{digit}")
    n_test = [count // 3 for count in DIGIT_COUNTS]
    assert len(data.train) == DIGIT_COUNTS[digit] - n_test[digit] and set(data.train.defect_types) == {"good"}
    assert Counter(data.test.defect_types) == {"good" if i == digit else str(i): n for i, n in enumerate(n_test)}
    assert data.test.labels == [int(defect != "good") for defect in data.test.defect_types]
    assert data.name == f"digits/{digit}" and not data.normalize and not data.test.has_masks
    assert data.train.size == data.test.size == (32, 32) and not data.test[0].mask.any()


def test_the_pixels_of_digits():
    digits = load_digits()
    threes = digits.images[digits.target == 3]
    data = load_dataset("digits/3", size=8)
    expected = torch.from_numpy(np.rint(threes[[0, 1, 3, 4, 6]] * 255 / 16) / 255).float()
    for item, image in zip((data.train[i] for i in range(5)), expected, strict=True):
        assert item.image.shape == (3, 8, 8) and item.image.dtype == torch.float32
        assert all(torch.equal(channel, image) for channel in item.image)
    tested = [item.image[0] for item in data.test if item.label == 0]
    assert torch.equal(tested[0], torch.from_numpy(np.rint(threes[2] * 255 / 16) / 255).float()) and len(tested) == 61
    assert max(item.image.max() for item in data.test) == 1 and min(item.image.min() for item in data.test) == 0


def test_train_and_test_of_digits_share_no_image():
    parts = [load_dataset(f"digits/{digit}", size=8) for digit in range(10)]
    trained = [item.image.numpy().tobytes() for data in parts for item in data.train]
    tested = [item.image.numpy().tobytes() for item in parts[0].test]
    assert len(trained) + len(tested) == 1797
    together = Counter(trained) + Counter(tested)
    digits = Counter(np.repeat((np.rint(image * 255 / 16) / 255).astype(np.float32)[None], 3, 0).tobytes()
                     for image in load_digits().images)
    assert together == digits  # every image is in one of the two, once


def test_digits_are_the_same_every_time_and_shorter_on_request():
    one, other = load_dataset("digits/7"), load_dataset("digits/7", n_train=5, seed=3)
    assert len(other.train) == 5 and all(torch.equal(one.train[i].image, other.train[i].image) for i in range(5))
    assert load_dataset("digits/7", size=(24, 40)).train[0].image.shape == (3, 24, 40)


@pytest.fixture(scope="module")
def mnist_root(shared):
    """The folder that holds MNIST/raw."""
    if not (shared / "data" / "MNIST" / "raw").is_dir():
        pytest.skip(f"no {shared}/data/MNIST/raw: it is not part of the project")
    return shared / "data"


@pytest.fixture(scope="module")
def raw(mnist_root):
    """The bytes of MNIST's files, without torchvision: (N, 28, 28) images and (N,) classes of train and t10k."""
    def read(name, header):
        return np.frombuffer((mnist_root / "MNIST" / "raw" / name).read_bytes(), np.uint8, offset=header)

    return {part: (read(f"{part}-images-idx3-ubyte", 16).reshape(-1, 28, 28), read(f"{part}-labels-idx1-ubyte", 8))
            for part in ("train", "t10k")}


@pytest.mark.parametrize("digit", [0, 3])
def test_mnist(mnist_root, raw, digit):
    data = load_dataset(f"mnist/{digit}", mnist_root, size=28)
    (images, classes), (test_images, test_classes) = raw["train"], raw["t10k"]
    assert len(data.train) == (classes == digit).sum() == {0: 5923, 3: 6131}[digit]
    assert data.test.defect_types == ["good" if c == digit else str(c) for c in test_classes]
    assert len(data.test) == 10_000
    assert data.test.labels == (test_classes != digit).astype(int).tolist() and sum(data.test.labels) > 8000
    assert data.name == f"mnist/{digit}" and not data.normalize and not data.test.has_masks
    for part, expected in ((data.train, images[classes == digit]), (data.test, test_images)):
        for i in range(0, len(part), 7):
            image = part[i].image
            assert image.shape == (3, 28, 28) and np.array_equal((image * 255).round(), np.stack([expected[i]] * 3))


def test_mnist_is_resized_as_in_the_official_protocol(mnist_root, raw):
    official = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    data = load_dataset("mnist/8", mnist_root)
    for i in range(0, 10_000, 997):
        expected = official(Image.fromarray(raw["t10k"][0][i])).expand(3, -1, -1)
        assert data.test[i].image.shape == (3, 32, 32) and torch.equal(data.test[i].image, expected)


def cifar(root, monkeypatch):
    """A CIFAR-10 of 5 x 4 training and 4 test images at `root`, which torchvision takes for whole."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, shift in [(f"data_batch_{i}", i) for i in range(1, 6)] + [("test_batch", 0)]:
        labels = [3, 0, 5, 3]
        data = np.stack([np.repeat([10 * label + shift, 100, 200], 1024) for label in labels]).astype(np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": labels}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": CLASSES["cifar10"]}))
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(datasets.cifar, "check_integrity", lambda path, md5: True)


@pytest.mark.parametrize("name", ["cifar10/3", "cifar10/cat", "cifar10/CAT"])
def test_cifar10(tmp_path, monkeypatch, name):
    cifar(tmp_path, monkeypatch)
    data = load_dataset(name, tmp_path)
    assert data.name == "cifar10/cat" and data.normalize and len(data.train) == 10
    assert data.test.defect_types == ["good", "airplane", "dog", "good"] and data.test.labels == [0, 1, 1, 0]
    colours = [[round(255 * channel.mean().item()) for channel in item.image] for item in (data.train[0], data.test[2])]
    assert colours == [[31, 100, 200], [50, 100, 200]]  # red, green, blue
    assert data.train[0].image.shape == (3, 32, 32)


def test_class_names_are_torchvisions():
    assert CLASSES["fashion_mnist"][3] == "Dress" and CLASSES["fashion_mnist"][0] == "T-shirt/top"
    assert all(len(names) == 10 for names in CLASSES.values())


@pytest.mark.parametrize("name", ["fashion_mnist/0", "fashion_mnist/T-shirt/top", "fashion_mnist/t-shirt/TOP"])
def test_fashion_mnist_by_name(tmp_path, name):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, classes in (("train", [0, 9, 0]), ("t10k", [9, 0])):
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, len(classes), *classes]))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(
            bytes([0, 0, 8, 3, 0, 0, 0, len(classes), 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(784 * len(classes)))
    data = load_dataset(name, tmp_path)
    assert data.name == "fashion_mnist/T-shirt/top" and not data.normalize
    assert len(data.train) == 2 and data.test.defect_types == ["Ankle boot", "good"]


@pytest.mark.parametrize("name", ["digits", "digits/", "digits/10", "mnist/three", "mnist/-1", "cifar10/lion",
                                  "fashion_mnist/10", "mnist/3.0"])
def test_unknown_classes_are_answered_with_those_there_are(name, tmp_path, monkeypatch):
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path))
    names = CLASSES[name.split("/")[0]]
    with pytest.raises(ValueError, match=f"Choose one of: 0, 1, .*{names[-2]}, {names[-1]}"):
        load_dataset(name)
    assert not list(tmp_path.iterdir())  # nothing was fetched for it


@pytest.mark.parametrize(("name", "place"), [("mnist/3", "MNIST/raw"), ("fashion_mnist/3", "FashionMNIST/raw"),
                                             ("cifar10/3", "")])
def test_what_is_missing_says_what_to_do(tmp_path, name, place):
    root = tmp_path / "gone"
    with pytest.raises(DataError) as caught:
        load_dataset(name, root)
    words = str(caught.value)
    assert str(root / place) in words and "https://" in words and 'load_dataset("digits/3")' in words
    assert "license" in words and len(words.splitlines()) == 5 and not root.exists()


def test_damaged_files_are_named(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte").write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 28, 0, 0, 0, 28]) + b"short")
    with pytest.raises(DataError, match=r"(?s)MNIST could not be read from .*MNIST/raw.*digits/3"):
        load_dataset("mnist/3", tmp_path)


def idx(path, values):
    """An IDX file of bytes, as MNIST's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + sizes + values.astype(np.uint8).tobytes())


@pytest.mark.parametrize("labels, test_labels, words", [
    ([3, 10, 4], [3, 4], r"hold 3 images and 3 labels, with the classes \[3, 4, 10\]; they need one label an image, "
                         "0 to 9"),
    ([3, 4, 3], [3, 200], r"hold 2 images and 2 labels, with the classes \[3, 200\]"),
    ([3, 4], [3, 4], "hold 3 images and 2 labels"),
    ([4, 4, 5], [3, 4], r"classes \[4, 5\]; they need .* training images of class 3")])
def test_labels_that_do_not_fit_are_refused(tmp_path, labels, test_labels, words):
    for part, numbers, images in (("train", labels, 3), ("t10k", test_labels, 2)):
        idx(tmp_path / f"MNIST/raw/{part}-images-idx3-ubyte", np.zeros((images, 28, 28)))
        idx(tmp_path / f"MNIST/raw/{part}-labels-idx1-ubyte", np.array(numbers))
    with pytest.raises(DataError, match=f"Files of mnist.*{words}.*Download them again"):
        load_dataset("mnist/3", tmp_path)


def test_an_old_processed_file_that_is_no_tensor_is_named(tmp_path):
    (tmp_path / "MNIST/processed").mkdir(parents=True)
    for name in ("training.pt", "test.pt"):
        (tmp_path / "MNIST/processed" / name).write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    with pytest.raises(DataError, match="(?s)MNIST could not be read from .*digits/3"):
        load_dataset("mnist/3", tmp_path)
