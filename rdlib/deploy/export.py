"""Leaving PyTorch: the whole way from picture to score as one ONNX graph, and running it with onnxruntime.

Everything `predict` does is inside: normalization, teacher, bottleneck, student, distances, upsampling, fusion,
smoothing, score. Outside stay reading and resizing (`rdlib.images.read_image`), and the comparison with the threshold,
which the file carries along. Needs `pip install 'rdlib[export]'`.
"""
import copy
import json
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from rdlib.anomaly_map import blur_matrix, check_finite, fuse, image_score, scale_maps
from rdlib.detector import Distillation
from rdlib.threshold import Threshold, agreed_size
from rdlib.utils.arrays import as_array
from rdlib.utils.errors import WeightsError
from rdlib.utils.files import written_atomically
from rdlib.utils.hardware import neutral
from rdlib.weights import check_values

OPSET = 18  # what onnxruntime 1.14 and all later ones run


class Pipeline(nn.Module):
    """`predict` in a form that can be traced: (B, 3, H, W) RGB in [0, 1] -> maps (B, H, W), scores (B,); one size."""

    def __init__(self, model: Distillation, size: tuple[int, int]):
        super().__init__()
        self.model = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format)
        rows, columns = (blur_matrix(n, float(model.config.sigma)).float() if model.config.sigma else torch.eye(n)
                         for n in size)
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns.T.contiguous())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Float32 on the CPU, as `Detector.predict` computes it."""
        config = self.model.config
        maps = fuse(scale_maps(*self.model(images), images.shape[-2:]), config.fusion, config.scales)
        maps = self.rows @ maps @ self.columns
        return maps, image_score(maps, config.score)


@neutral()
def export_onnx(model: Distillation, path: str | Path, size: int | tuple[int, int] | None = None, *,
                images: Tensor | None = None, tolerance: float = 1e-4) -> float:
    """Write the model as one .onnx file, with any number of images a batch, and compare it with PyTorch.

    The file takes `images` (B, 3, H, W) float32 RGB in [0, 1] and gives `maps` (B, H, W) and `scores` (B,). Its
    metadata hold, under "rdlib", size, threshold (None where none was chosen) and configuration as JSON.

    Args:
        model: `ReverseDistillation` or `ForwardStudent`; stays as and where it is.
        path: written whole or not at all; not at all if the comparison fails.
        size: (H, W) or the side of a square, multiples of 32. Default: that of the model's threshold.
        images: (N, 3, H, W) to compare on, float32 in [0, 1]; default 3 of noise. They run all at once, then one alone.
        tolerance: of the comparison.

    Returns:
        The greatest difference between the two in maps and scores, relative where their values exceed 1.

    Raises:
        ImportError: what is not installed.
        ValueError: no size, or another than the threshold's; images of another size.
        WeightsError: weights that are NaN or infinite.
        RuntimeError: ONNX and PyTorch differ by more than `tolerance`.
    """
    onnx, _ = _need("onnx"), _need("onnxscript")
    size = agreed_size(model.threshold, size)
    for key, value in model.state_dict().items():
        check_values(key, value, f"{path} was not written")
    if images is None:
        images = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(0))
    if images.shape[2:] != size or not len(images):
        raise ValueError(f"The images to compare on must be (N, 3, {size[0]}, {size[1]}), got {tuple(images.shape)}.")
    proto = _traced(model, size)
    onnx.helper.set_model_props(proto, {"rdlib": json.dumps(_about(model, size))})
    with written_atomically(path) as temporary:
        onnx.save(proto, temporary)
        difference = max(_difference(model, temporary, images), _difference(model, temporary, images[:1]))
        if not difference <= tolerance:
            raise RuntimeError(f"The exported model differs from PyTorch by {difference:.2g}, more than "
                               f"{tolerance:.2g}; {path} was not written. Try other versions of onnxscript or "
                               "onnxruntime.")
    return difference


class OnnxDetector:
    """An exported model, run by onnxruntime on the CPU: predicts as the model did, knows its image size and threshold.

    Raises WeightsError for a file that is missing, unreadable or not of this kit, ImportError without onnxruntime.
    """

    def __init__(self, path: str | Path):
        runtime = _need("onnxruntime")
        if not Path(path).is_file():
            raise WeightsError(f"There is no model file {path}. Check the path, or export a model first.")
        try:
            self.session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            about = json.loads(self.session.get_modelmeta().custom_metadata_map["rdlib"])
            self.image_size: tuple[int, int] = tuple(about["size"])
            self.threshold = Threshold(**about["threshold"]) if about["threshold"] else None
        except Exception as error:  # what onnxruntime raises has no common base
            raise WeightsError(f"{path} cannot be read as an exported model ({type(error).__name__}: {error}). "
                               "Export it again with export_onnx(model, path).") from error

    def predict(self, images: Tensor, batch_size: int = 32, precision: str = "float32") -> tuple[Tensor, Tensor]:
        """As `Detector.predict`: (B, 3, H, W) RGB in [0, 1] -> maps (B, H, W) and scores (B,), float32 on the CPU.

        Raises ValueError for images of another size than the model was exported for, and for precision="bf16";
        NotFiniteError for maps or scores that are NaN or infinite.
        """
        if precision not in ("float32", "auto"):
            raise ValueError(f"An exported model computes in float32; got precision='{precision}'. Leave it out.")
        if tuple(images.shape[1:]) != (3, *self.image_size):
            height, width = self.image_size
            raise ValueError(f"This model was exported for images (B, 3, {height}, {width}), got "
                             f"{tuple(images.shape)}. Resize them, or export it again with size=.")
        parts = [self.session.run(None, {"images": np.ascontiguousarray(as_array(batch))})
                 for batch in images.float().split(batch_size)]
        maps, scores = (torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True))
        check_finite(maps, scores)
        return maps, scores


def _about(model: Distillation, size: tuple[int, int]) -> dict:
    return {"size": size, "threshold": asdict(model.threshold) if model.threshold else None,
            "config": asdict(model.config)}


def _traced(model: Distillation, size: tuple[int, int]):
    """The graph as an onnx.ModelProto, weights included."""
    with torch.no_grad():
        program = torch.onnx.export(Pipeline(model, size).eval(), (torch.zeros(2, 3, *size),), dynamo=True,
                                    verbose=False, input_names=["images"], output_names=["maps", "scores"],
                                    opset_version=OPSET, dynamic_shapes={"images": {0: torch.export.Dim("batch")}})
    return program.model_proto


def _need(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"An exported model needs {name}, which is not installed: pip install 'rdlib[export]', or "
                          "pip install onnx onnxscript onnxruntime.") from error


def _difference(model: Distillation, path: Path, images: Tensor) -> float:
    """The greatest difference of onnxruntime's maps and scores from PyTorch's, relative above 1, both on the CPU: a GPU
    may round convolutions to TF32."""
    wanted, got = copy.deepcopy(model).cpu().predict(images.cpu()), OnnxDetector(path).predict(images)
    return max(float(((a - b).abs() / a.abs().clamp(min=1)).max()) for a, b in zip(wanted, got, strict=True))
