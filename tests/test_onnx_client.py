"""A stranger with the .onnx file, numpy, Pillow and onnxruntime follows its notes and decides as the kit does."""
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from rdlib import OnnxDetector, ReverseDistillation, export_onnx
from rdlib.threshold import Threshold

CLIENT = """
import sys
for name in ("torch", "torchvision", "rdlib", "onnx"):
    sys.modules[name] = None  # an import of these raises
import json
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
notes = session.get_modelmeta().custom_metadata_map
size = int(notes["image_width"]), int(notes["image_height"])
threshold = float(notes["score_threshold"])

def prepare(path):
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I"):
        image = Image.fromarray(np.asarray(image, np.float32) / np.float32(notes["white"].split(":")[0]))
        return np.stack([np.asarray(image.resize(size, Image.Resampling.BILINEAR)) * 255] * 3)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))
    return pixels.transpose(2, 0, 1)

images = np.stack([prepare(path) for path in sys.argv[2:]]).astype(np.float32) / 255
maps, scores = session.run(["maps", "scores"], {"images": images})
print(json.dumps({"scores": scores.tolist(), "anomalous": [score >= threshold for score in scores.tolist()],
                  "pixels": (maps >= float(notes["pixel_threshold"])).sum((1, 2)).tolist()}))
"""


def drawn(mode, size, seed):
    """A smooth random image, so that resizing changes it as it changes a photograph."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 9, 4), dtype=np.uint8)
    image = Image.fromarray(coarse, "RGBA").resize(size, Image.Resampling.BICUBIC)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
    return image.convert("RGB").convert(mode) if mode in ("L", "RGB", "P") else image.convert(mode)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Images of many modes and sizes, one of them to be rotated by EXIF."""
    folder = tmp_path_factory.mktemp("images")
    for seed, (mode, size) in enumerate([("RGB", (96, 64)), ("RGB", (301, 200)), ("L", (50, 40)), ("RGBA", (128, 99)),
                                         ("LA", (77, 64)), ("P", (200, 64)), ("I;16", (120, 90)), ("RGB", (64, 64))]):
        drawn(mode, size, seed).save(folder / f"{seed}.png")
    rotated = Image.Exif()
    rotated[0x0112] = 6
    drawn("RGB", (150, 100), 9).save(folder / "9.jpg", quality=95, exif=rotated)
    return sorted(folder.iterdir())


def test_a_client_without_torch_reaches_the_same_decisions(files, tmp_path):
    model = ReverseDistillation("resnet18", weights=None, sigma=2)
    model.set_trained((64, 96), (0, 1), white=65535)
    maps, scores = model.predict(files)
    ordered = scores.sort().values
    at = int((ordered[3:7] - ordered[2:6]).argmax()) + 2  # the widest gap, so that rounding decides nothing
    model.threshold = Threshold(score=float(ordered[at] + ordered[at + 1]) / 2, pixel=float(maps.median()), good=1,
                                size=(64, 96), rule="by hand", alarms=0)
    export_onnx(model, tmp_path / "model.onnx")
    done = subprocess.run([sys.executable, "-c", CLIENT, tmp_path / "model.onnx", *files], text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    client, wanted = json.loads(done.stdout), model.decide(files)
    assert client["anomalous"] == wanted.anomalous.tolist() == OnnxDetector(tmp_path / "model.onnx").decide(
        files).anomalous.tolist()
    assert len({*client["anomalous"]}) == 2
    np.testing.assert_allclose(client["scores"], wanted.scores, rtol=1e-5)
    pixels = (wanted.maps >= model.threshold.pixel).sum((1, 2))
    np.testing.assert_allclose(client["pixels"], pixels, atol=5)
