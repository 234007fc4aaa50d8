"""Build the complete reverse-distillation model (paper Fig. 3): teacher E, bottleneck OCBE and student D."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from rdlib.anomaly_map import SCALES
from rdlib.decoder import StudentDecoder
from rdlib.detector import Distillation, DistillationConfig, Features
from rdlib.ocbe import BOTTLENECKS, FrozenEmbedding, build_bottleneck, calibrate_frozen, load_layer4
from rdlib.official import read_official
from rdlib.utils.errors import WeightsError
from rdlib.utils.hardware import neutral
from rdlib.weights import initialize, load_strictly


@dataclass(kw_only=True)
class ReverseConfig(DistillationConfig):
    """The settings of a `ReverseDistillation`: those of `DistillationConfig`, and the bottleneck."""

    choices = DistillationConfig.choices | {"bottleneck": BOTTLENECKS}
    bottleneck: str = "mff_oce"


class ReverseDistillation(Distillation):
    """A frozen teacher, and a student that reconstructs the teacher's features from a one-class embedding.

    `parameters()` returns the parameters of bottleneck and student. `repr(model)` names the teacher's weights in use.

    Args:
        backbone: "resnet18", "resnet34", "resnet50" or "wide_resnet50_2" (paper).
        weights: the teacher's weights, see `TeacherEncoder`. "auto" takes those that ship with the kit for a ResNet-18,
            else ImageNet's. The paper uses "imagenet".
        bottleneck: "mff_oce", the paper's OCBE; "pre", "pre_random" or "oce" for its ablation, see `rdlib.ocbe`.
        scales: scales that the map is made of, some of 1 (fine), 2 and 3 (coarse); `fit` has its own for the loss.
        sigma: standard deviation of the smoothing in pixels of the input, 0 for none; official code: 4 at 256 x 256.
        fusion: "add" (paper) or "multiply" the scales' maps.
        score: "max" of the map (paper), or its "sum", for one-class novelty detection.
        normalize: whether to normalize images with ImageNet's mean and standard deviation.
        seed: seed of the initial weights of bottleneck and student, and of the teacher's if they are random.

    Raises:
        ValueError: unknown backbone, bottleneck, scale, fusion or score, or a negative sigma.
        WeightsError: weights that cannot be downloaded or read, do not fit, are not finite, or, for "pre", contain no
            layer4.
    """

    settings = ReverseConfig
    config: ReverseConfig

    @neutral()
    def __init__(self, backbone: str = "resnet18", weights: str | Path | None = "auto", *,
                 bottleneck: str = "mff_oce", scales: Sequence[int] = SCALES, sigma: float = 4.0, fusion: str = "add",
                 score: str = "max", normalize: bool = True, seed: int = 0):
        generator = self._build(ReverseConfig(backbone=backbone, bottleneck=bottleneck, scales=scales, sigma=sigma,
                                              fusion=fusion, score=score, normalize=normalize), weights, seed)
        if isinstance(self.ocbe, FrozenEmbedding):
            if bottleneck == "pre":
                load_layer4(self.ocbe, backbone, weights)
            else:
                calibrate_frozen(self.ocbe, self.teacher, generator)

    def _add_networks(self, generator: torch.Generator) -> None:
        """Add bottleneck and student."""
        with torch.device("meta"):
            self.ocbe = build_bottleneck(self.config.bottleneck, self.config.backbone)
            self.student = StudentDecoder(self.config.backbone)
        for part in (self.ocbe, self.student):
            part.to_empty(device="cpu")
            initialize(part, generator)

    def trainable_modules(self) -> dict[str, nn.Module]:
        """Return bottleneck and student. A frozen bottleneck has no parameters but belongs in a checkpoint."""
        return {"ocbe": self.ocbe, "student": self.student}

    def signature(self) -> dict:
        """Return the settings in which a training run and its checkpoint must agree, see `Distillation`."""
        return super().signature() | {"bottleneck": self.config.bottleneck}

    def reconstruct(self, features: Features) -> Features:
        """Reconstruct the teacher's features t1, t2, t3 with the student: s1, s2, s3 of the same shapes."""
        return self.student(self.ocbe(features))

    def student_features(self, images: Tensor | None, teacher: Features) -> Features:
        """Reconstruct the teacher's features, see `reconstruct`; `images` is not used."""
        return self.reconstruct(teacher)

    def load_official(self, path: str | Path) -> "ReverseDistillation":
        """Load OCBE and student from a checkpoint {"bn": ..., "decoder": ...} of the official code. Return self.

        Such a file has no teacher: build the model with weights="imagenet". Layers that the official OCBE never uses
        are ignored, and so are keys with "memory", as in the official test script. The threshold becomes None, and so
        does what the model knew of its training.

        Raises WeightsError if the file is missing, unreadable or does not fit, if it contains NaN or infinity, or if
        the model's bottleneck is not "mff_oce".
        """
        if self.config.bottleneck != "mff_oce":
            raise WeightsError(f"The bottleneck is '{self.config.bottleneck}'. Build it with bottleneck='mff_oce'.")
        both = nn.ModuleDict({"bn": self.ocbe, "decoder": self.student})
        load_strictly(both, read_official(Path(path)), str(path))
        self.threshold = None  # it was chosen for other weights, which `config` describes as well
        for name in ("image_size", "value_range", "white", "version", "unfinished"):
            setattr(self.config, name, None)
        return self
