"""Reverse distillation, whole (paper Fig. 3): teacher E, bottleneck OCBE, student D, and what they say of an image."""
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rdlib.anomaly_map import FUSIONS, fuse, gaussian_smooth, image_score, scale_maps
from rdlib.decoder import StudentDecoder
from rdlib.encoder import TeacherEncoder
from rdlib.errors import WeightsError
from rdlib.files import written_atomically
from rdlib.hardware import as_float, autocast, memory_format
from rdlib.ocbe import OneClassBottleneckEmbedding
from rdlib.official import OFFICIAL_OCBE, OFFICIAL_STUDENT, read_official, rename_official
from rdlib.weights import check_fit, initialise, load_strictly

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # what torchvision's networks expect to be taken off RGB in [0, 1] ...
IMAGENET_STD = (0.229, 0.224, 0.225)  # ... and what the rest is divided by

Features = tuple[Tensor, Tensor, Tensor]


@dataclass
class Config:
    """What a saved model needs, besides its weights, to be built again and to predict as it did."""

    backbone: str = "resnet18"
    sigma: float = 4.0  # width of the smoothing, in pixels of the input
    fusion: str = "add"
    normalise: bool = True


class ReverseDistillation(nn.Module):
    """A frozen teacher, and a student that must restore the teacher's features from a one-class embedding.

    `parameters()` are those of OCBE and student alone.

    Args:
        backbone: "resnet18", "resnet34", "resnet50" or "wide_resnet50_2" (the paper's).
        weights: the teacher's, see `TeacherEncoder`. The default ships with the kit, works offline and is a ResNet-18; results
            like the paper's need "imagenet".
        sigma: width of the map's Gaussian smoothing in pixels; 4 is the official choice at 256 x 256.
        fusion: "add" (paper) or "multiply".
        normalise: take off ImageNet's mean and deviation, which ImageNet teachers expect.
        seed: of the student's (and a random teacher's) initial weights.

    Raises:
        ValueError: an unknown backbone or fusion, a negative sigma.
        WeightsError: see `TeacherEncoder`.
    """

    def __init__(self, backbone: str = "resnet18", weights: str | Path | None = "embedded", *,
                 sigma: float = 4.0, fusion: str = "add", normalise: bool = True, seed: int = 0):
        super().__init__()
        if fusion not in FUSIONS or sigma < 0:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)} and sigma at least 0, "
                             f"got '{fusion}' and {sigma}.")
        self.config = Config(backbone, sigma, fusion, normalise)
        self.teacher = TeacherEncoder(backbone, weights, seed=seed)
        with torch.device("meta"):
            self.ocbe = OneClassBottleneckEmbedding(backbone)
            self.student = StudentDecoder(backbone)
        generator = torch.Generator().manual_seed(seed)
        for part in (self.ocbe, self.student):
            part.to_empty(device="cpu")
            initialise(part, generator)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.mean.device

    def teach(self, images: Tensor) -> Features:
        """(B, 3, H, W) images, RGB in [0, 1] -> the teacher's f1 (B, 64e, H/4, W/4), f2 (B, 128e, H/8, W/8),
        f3 (B, 256e, H/16, W/16), without gradient. Raises ValueError for images of another kind."""
        _check_images(images)
        if self.config.normalise:
            images = (images - self.mean) / self.std
        return self.teacher(images)

    def restore(self, features: Features) -> Features:
        """The student's g1, g2, g3, shaped as the teacher's f1, f2, f3 that go in: D(OCBE(f))."""
        return self.student(self.ocbe(features))

    def forward(self, images: Tensor) -> tuple[Features, Features]:
        """(B, 3, H, W) images, RGB in [0, 1] -> teacher (f1, f2, f3) and student (g1, g2, g3), fine to coarse."""
        teacher = self.teach(images)
        return teacher, self.restore(teacher)

    def scale_maps(self, images: Tensor, precision: str = "float32") -> Tensor:
        """Eq. 1 at each scale, before fusion and smoothing: (B, 3, H, W) images -> (B, 3, H, W) distances in [0, 2].

        In eval mode and without gradient, whatever mode the model is in; computed on the model's device. With
        precision="bf16" the networks run in bfloat16; the distances never do, since 1 - cos is a small difference.
        """
        was_training = self.training
        self.eval().to(memory_format=memory_format(self.device))  # nothing to do from the second time on
        try:
            with torch.no_grad():
                with autocast(precision, self.device):
                    teacher, student = self(images.to(self.device))
                return scale_maps([as_float(t) for t in teacher], [as_float(s) for s in student], images.shape[-2:])
        finally:
            self.train(was_training)

    def predict(self, images: Tensor, batch_size: int = 32, precision: str = "float32") -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) images, RGB in [0, 1], any B -> anomaly maps (B, H, W) and image scores (B,), higher is worse.

        The sum of the three scales' distances (or their product), smoothed; the score is its maximum (§3.4). Runs
        `batch_size` images at a time on the model's device, where the results stay; `precision` as in `fit`.
        """
        maps = torch.cat([fuse(self.scale_maps(batch, precision), self.config.fusion)
                          for batch in images.split(batch_size)])
        maps = gaussian_smooth(maps, self.config.sigma)
        return maps, image_score(maps)

    def save(self, path: str | Path) -> None:
        """Write weights, the teacher's included, and configuration to one .safetensors file, or leave nothing."""
        state = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}
        with written_atomically(path) as temporary:
            save_file(state, temporary, metadata={"rdlib": json.dumps(asdict(self.config))})

    @classmethod
    def load(cls, path: str | Path) -> "ReverseDistillation":
        """The model that `save` wrote, in eval mode. Raises WeightsError for a missing, damaged or foreign file."""
        path = Path(path)
        if not path.is_file():
            raise WeightsError(f"There is no model file {path}. Check the path, or train and save a model first.")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                state = {key: file.get_tensor(key) for key in file.keys()}
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path} cannot be read as a saved model ({error}). Save it again with "
                               "model.save(path).") from error
        if "rdlib" not in metadata:
            raise WeightsError(f"{path} holds no rdlib model. For a teacher's weights use "
                               "ReverseDistillation(weights=path); for an official checkpoint, load_official(path).")
        try:
            model = cls(weights=None, **json.loads(metadata["rdlib"]))
        except (TypeError, ValueError) as error:
            raise WeightsError(f"{path} was saved with a configuration that this version of the kit does not know "
                               f"({error}). Update the kit, or save the model again.") from error
        load_strictly(model, state, str(path))
        return model.eval()

    def load_official(self, path: str | Path) -> "ReverseDistillation":
        """Take OCBE and student from a checkpoint {"bn": ..., "decoder": ...} of the official code; returns self.

        The teacher is not in such a file: build the model with weights="imagenet". The two layers that the official
        OCBE builds and never uses are ignored. Raises WeightsError where the file does not fit.
        """
        checkpoint = read_official(Path(path))
        parts = [(self.ocbe, rename_official(checkpoint["bn"], OFFICIAL_OCBE), f"{path}, 'bn'"),
                 (self.student, rename_official(checkpoint["decoder"], OFFICIAL_STUDENT), f"{path}, 'decoder'")]
        for part in parts:
            check_fit(*part)  # both, before either is changed
        for part in parts:
            load_strictly(*part)
        return self


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be (B, 3, H, W), got {tuple(images.shape)}. Repeat grey images to 3 channels.")
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point in [0, 1], got {images.dtype}. Divide 8-bit images by 255.")
    if images.shape[2] % 32 or images.shape[3] % 32:
        raise ValueError(f"The sides of the images must be multiples of 32, since the bottleneck halves them five "
                         f"times; got {images.shape[2]} x {images.shape[3]}. Resize them, 256 x 256 is the paper's.")
