"""Export the complete pipeline to ONNX, from image to score, and run the file with onnxruntime.

The graph contains everything that `predict` does: normalization, teacher, bottleneck, student, distances, upsampling,
fusion, smoothing, region of interest and score. It does not contain reading and resizing (`rdlib.images.read_image`) or
the comparison with the threshold; the file says both in words, by the template card.txt. onnxruntime 1.14 and later run
it. Both need `pip install 'rdlib[export]'`.
"""
import copy
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from torch import Tensor, nn

from rdlib.anomaly_map import blur_matrix, check_finite, fuse, image_score, scale_maps
from rdlib.detector import Config, Distillation, Scorer, accepted_range, checked_images, checked_sides
from rdlib.images import Images
from rdlib.threshold import Threshold, agreed_size
from rdlib.utils.arrays import as_array
from rdlib.utils.errors import WeightsError, check_choice, checked
from rdlib.utils.files import written_atomically
from rdlib.utils.hardware import neutral
from rdlib.utils.seal import UNSEALED, check_seal, seal
from rdlib.utils.version import __version__
from rdlib.weights import check_values

OPSET, IR_VERSION = 18, 8  # both run from onnxruntime 1.14 on, see card.txt
CARD = Path(__file__).with_name("card.txt")  # what those must know who have nothing but the file


class Pipeline(nn.Module):
    """A traceable form of `predict` for images of one size, in float32 on the CPU."""

    def __init__(self, model: Distillation, size: tuple[int, int]):
        super().__init__()
        self.model = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format)
        rows, columns = (blur_matrix(n, float(model.config.sigma)).float() if model.config.sigma else torch.eye(n)
                         for n in size)
        self.rows, self.columns = nn.Buffer(rows), nn.Buffer(columns.T.contiguous())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Predict maps (B, H, W) and scores (B,) of images (B, 3, H, W), RGB in [0, 1]."""
        config = self.model.config
        teacher, student = self.model(images)
        maps = fuse(scale_maps(teacher, student, images.shape[-2:]), config.fusion, config.scales)
        maps = self.model.inside_roi(self.rows @ maps @ self.columns)
        return maps, image_score(maps, config.score)


@checked
@neutral()
def export_onnx(model: "Scorer", path: str | Path, size: int | tuple[int, int] | None = None, *,
                images: Tensor | None = None, tolerance: float = 1e-4) -> float:
    """Export a model to one .onnx file, and compare the file with PyTorch before it appears.

    The file takes `images` (B, 3, H, W) float32 RGB, with any B. It returns `maps` (B, H, W) and `scores` (B,). What
    else its users must know stands in its metadata, in its `doc_string`, and in the text file PATH.txt beside it. A
    model whose training is unfinished is exported with a warning, and the file says so.

    Args:
        model: `ReverseDistillation` or `ForwardStudent`; it is not changed.
        path: file to write. It is written atomically, and not at all if the comparison fails.
        size: (H, W) or the side of a square in pixels, multiples of 32; default: the size that the model knows.
        images: (N, 3, H, W) floating point for the comparison; default: three images of noise.
        tolerance: largest accepted difference.

    Returns:
        The largest difference of maps and scores: relative for values above 1, absolute for others.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is not installed.
        ValueError: another kind of model or file, `size` is missing, invalid or not the model's, or `images` is empty
            or has another size.
        WeightsError: weights are NaN or infinite.
        RuntimeError: ONNX and PyTorch differ by more than `tolerance`.
    """
    if not isinstance(model, Distillation) or Path(path).suffix != ".onnx":
        raise ValueError("A ReverseDistillation or ForwardStudent can be exported, to an .onnx file; got a "
                         f"{type(model).__name__} and {path}.")
    model.warn_if_unfinished("exported")
    onnx, _ = _import("onnx"), _import("onnxscript")
    height, width = checked_sides(agreed_size(model.image_size, size))
    check_values(model.state_dict(), f"{path} was not written")
    low, high = accepted_range(model.config.value_range)
    if images is None:
        images = low + (high - low) * torch.rand(3, 3, height, width, generator=torch.Generator().manual_seed(0))
    if tuple(images.shape[1:]) != (3, height, width) or not len(images):
        raise ValueError(f"Images to compare on are (N, 3, {height}, {width}), N above 0; got {tuple(images.shape)}.")
    proto, card = _traced(model, (height, width)), jinja2.Template(CARD.read_text(encoding="utf-8"), trim_blocks=True)
    proto.doc_string = card.render(model=model, kind=type(model).__name__, version=__version__, low=low, high=high,
                                   height=height, width=width)
    words = dict(line.split(": ", 1) for line in proto.doc_string.strip().split("\n"))
    about = json.dumps(UNSEALED | model.describe() | {"size": (height, width)})
    onnx.helper.set_model_props(proto, words | {"rdlib": about})
    with written_atomically(path) as temporary, written_atomically(f"{path}.txt") as text:
        text.write_text(proto.doc_string, encoding="utf-8")
        onnx.save(proto, temporary)
        seal(temporary)
        onnx.checker.check_model(temporary, full_check=True)
        difference = max(_difference(model, temporary, images), _difference(model, temporary, images[:1]))
        if not difference <= tolerance:
            raise RuntimeError(f"{path} was not written: it differs from PyTorch by {difference:.2g}, more than "
                               f"{tolerance:.2g}. Try other versions of onnxscript or onnxruntime.")
    return difference


class OnnxDetector(Scorer):
    """An exported model, run by onnxruntime on the CPU, with its image size and threshold.

    Args:
        path: .onnx file that `export_onnx` wrote.

    Raises:
        WeightsError: the file is missing, unreadable or changed, or `export_onnx` did not write it.
        ImportError: onnxruntime is not installed.
    """

    image_size = (0, 0)  # (H, W) that the model was exported for

    @checked
    def __init__(self, path: str | Path):
        runtime = _import("onnxruntime")
        try:
            check_seal(Path(path))
            self.session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            about = json.loads(self.session.get_modelmeta().custom_metadata_map["rdlib"])
            known = {name: about["config"][name] for name in ("value_range", "white", "unfinished")}
            self.threshold = Threshold(**about["threshold"]) if about["threshold"] else None
            self.image_size, self.config = checked_sides(about["size"]), Config(**known)  # checks them
            self.check_threshold()
            self._about = {name: value for name, value in about.items() if name not in UNSEALED}
        except Exception as error:  # errors of onnxruntime have no common base
            raise WeightsError(f"{path} cannot be read as an exported model ({type(error).__name__}: {error}). "
                               "Check the path, or export it again with export_onnx(model, path).") from error

    def describe(self) -> dict:
        """Return the description of the exported model, with its size."""
        return self._about

    @checked
    def predict(self, images: Images, batch_size: int = 32, precision: str = "float32") -> tuple[Tensor, Tensor]:
        """Predict anomaly maps and image scores, as `Detector.predict` does.

        Args:
            images: an image, a batch, or a list of these, see `rdlib.images.as_images`; arrays and tensors have the
                size that the model was exported for.
            batch_size: images at a time.
            precision: "float32" or "auto"; both mean float32 here.

        Returns:
            Maps (B, H, W) and scores (B,), float32 on the CPU; higher is more anomalous.

        Raises:
            ValueError: images of another type, shape, dtype, size or range, or another `precision`.
            DataError: a file is missing or no readable image.
            NotFiniteError: maps or scores are NaN or infinite.
        """
        check_choice("precision of an exported model", precision, ("float32", "auto"))
        batch = checked_images(images, self.image_size, self.config.value_range, self.config.white).float()
        parts = [self.session.run(None, {"images": np.ascontiguousarray(as_array(part))})
                 for part in batch.split(batch_size)]
        maps, scores = (torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True))
        check_finite(maps, scores)
        return maps, scores


def _traced(model: Distillation, size: tuple[int, int]) -> Any:
    """Trace a model into an onnx.ModelProto with its weights."""
    with torch.no_grad():
        program = torch.onnx.export(Pipeline(model, size).eval(), (torch.zeros(2, 3, *size),), dynamo=True,
                                    verbose=False, input_names=["images"], output_names=["maps", "scores"],
                                    opset_version=OPSET, dynamic_shapes={"images": {0: torch.export.Dim("batch")}})
    assert program is not None, "torch returns a program if dynamo=True"
    proto = program.model_proto
    proto.ir_version = IR_VERSION
    graph = proto.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")  # not in this IR version; they would tell the paths of this machine
    return proto


def _import(name: str) -> Any:
    """Import an optional package. Raises ImportError, with the command that installs it, if it is missing."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"Exported models need {name}, which is missing: pip install 'rdlib[export]'.") from error


def _difference(model: Distillation, path: Path, images: Tensor) -> float:
    """Compute the largest difference between onnxruntime and PyTorch in maps and scores, relative above 1.

    Both run on the CPU, since a GPU may round convolutions to TF32.
    """
    wanted, got = copy.deepcopy(model).cpu().predict(images.cpu()), OnnxDetector(path).predict(images)
    return max(float(((a - b).abs() / a.abs().clamp(min=1)).max()) for a, b in zip(wanted, got, strict=True))
