"""Reverse distillation, whole (paper Fig. 3): teacher E, bottleneck OCBE, student D, and what they say of an image."""
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rdlib.anomaly_map import SCALES
from rdlib.decoder import StudentDecoder
from rdlib.detector import Distillation, DistillationConfig, Features
from rdlib.ocbe import BOTTLENECKS, build_bottleneck, calibrate_frozen, load_layer4
from rdlib.official import OFFICIAL_OCBE, OFFICIAL_STUDENT, read_official, rename_official
from rdlib.threshold import Threshold
from rdlib.utils.errors import WeightsError
from rdlib.utils.files import written_atomically
from rdlib.utils.hardware import neutral
from rdlib.weights import check_fit, check_values, initialize, load_strictly


@dataclass(kw_only=True)
class ReverseConfig(DistillationConfig):
    """`DistillationConfig`, and what the student looks through."""

    bottleneck: str = "mff_oce"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bottleneck not in BOTTLENECKS:
            raise ValueError(f"There is no bottleneck '{self.bottleneck}'. Choose one of: {', '.join(BOTTLENECKS)}.")


class OfTheClass(classmethod):
    """A class method that makes an instance, and would do nothing to the one that it is called on."""

    def __get__(self, instance: object, owner: type | None = None) -> Callable:
        """The method of the class; of an instance, a function that raises TypeError."""
        return super().__get__(None, owner) if instance is None else self._refuse

    def _refuse(self, *args, **options) -> None:
        name = self.__func__.__name__
        raise TypeError(f"{name} makes a new model and would leave this one as it is. Keep what it returns: "
                        f"model = ReverseDistillation.{name}(path).")


class ReverseDistillation(Distillation):
    """A frozen teacher, and a student that must restore the teacher's features from a one-class embedding.

    `parameters()` are those of OCBE and student alone.

    Args:
        backbone: "resnet18", "resnet34", "resnet50" or "wide_resnet50_2" (the paper's).
        weights: the teacher's, see `TeacherEncoder`. The default ships with the kit, works offline and is a ResNet-18;
            results like the paper's need "imagenet".
        bottleneck: "mff_oce", the paper's OCBE; "pre", "pre_random" or "oce" for its ablation, see `rdlib.ocbe`.
        scales: which of the three distances the map is made of, 1 fine to 3 coarse; the losses are chosen in `fit`.
        sigma: width of the map's Gaussian smoothing in pixels, 0 for none; 4 is the official choice at 256 x 256.
        fusion: "add" (paper) or "multiply".
        score: "max" of the map (paper), or its "sum", for one-class novelty detection.
        normalize: take off ImageNet's mean and deviation, which ImageNet teachers expect.
        seed: of the student's (and a random teacher's) initial weights.

    Raises:
        ValueError: an unknown backbone, bottleneck, scale, fusion or score, a negative sigma.
        WeightsError: see `TeacherEncoder`; also "pre" with weights that carry no layer4.
    """

    config: ReverseConfig

    @neutral()
    def __init__(self, backbone: str = "resnet18", weights: str | Path | None = "embedded", *,
                 bottleneck: str = "mff_oce", scales: Sequence[int] = SCALES, sigma: float = 4.0, fusion: str = "add",
                 score: str = "max", normalize: bool = True, seed: int = 0):
        config = ReverseConfig(backbone=backbone, bottleneck=bottleneck, scales=scales, sigma=sigma, fusion=fusion,
                               score=score, normalize=normalize)
        generator = self._build(config, weights, seed)
        if bottleneck == "pre":
            load_layer4(self.ocbe, backbone, weights)
        elif bottleneck == "pre_random":
            calibrate_frozen(self.ocbe, self.teacher, generator)

    def _build(self, config: ReverseConfig, weights: str | Path | None, seed: int) -> torch.Generator:
        """Make the networks, with random weights where they learn; returns the generator that drew them."""
        super().__init__(config, weights, seed)
        with torch.device("meta"):
            self.ocbe = build_bottleneck(config.bottleneck, config.backbone)
            self.student = StudentDecoder(config.backbone)
        generator = torch.Generator().manual_seed(seed)
        for part in (self.ocbe, self.student):
            part.to_empty(device="cpu")
            initialize(part, generator)
        return generator

    def trainable_modules(self) -> dict[str, nn.Module]:
        """OCBE and student. A frozen bottleneck is listed too, so that a checkpoint is whole; it has no parameters."""
        return {"ocbe": self.ocbe, "student": self.student}

    def signature(self) -> dict:
        """See `Distillation`."""
        return super().signature() | {"bottleneck": self.config.bottleneck}

    def reconstruct(self, features: Features) -> Features:
        """The student's g1, g2, g3, shaped as the teacher's f1, f2, f3 that go in: D(OCBE(f))."""
        return self.student(self.ocbe(features))

    def student_features(self, images: Tensor | None, teacher: Features) -> Features:
        """`reconstruct`: the reverse student sees the image through the teacher's features alone."""
        return self.reconstruct(teacher)

    def save(self, path: str | Path) -> None:
        """Write weights, the teacher's included, configuration and threshold, if there is one, to one .safetensors
        file, or leave nothing. Raises WeightsError for weights that are NaN or infinite."""
        state = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}
        for key, value in state.items():
            check_values(key, value, f"{path} was not written")
        metadata = {"rdlib": json.dumps(asdict(self.config))}
        if self.threshold:
            metadata["threshold"] = json.dumps(asdict(self.threshold))
        with written_atomically(path) as temporary:
            save_file(state, temporary, metadata=metadata)

    @OfTheClass
    @neutral()
    def load(cls, path: str | Path) -> "ReverseDistillation":
        """The model that `save` wrote, in eval mode: `model = ReverseDistillation.load(path)`.

        Raises WeightsError for a missing, damaged or foreign file, and for weights that are NaN or infinite; TypeError
        where it is called on a model.
        """
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
            model = cls.__new__(cls)  # not through __init__, which would look for weights that the file replaces
            model._build(ReverseConfig(**json.loads(metadata["rdlib"])), weights=None, seed=0)
            if "threshold" in metadata:  # older files have none
                model.threshold = Threshold(**json.loads(metadata["threshold"]))
        except (TypeError, ValueError) as error:
            raise WeightsError(f"{path} was saved with a configuration or threshold that this version of the kit does "
                               f"not know ({error}). Update the kit, or save the model again.") from error
        load_strictly(model, state, str(path))
        return model.eval()

    def load_official(self, path: str | Path) -> "ReverseDistillation":
        """Take OCBE and student from a checkpoint {"bn": ..., "decoder": ...} of the official code; returns self.

        The teacher is not in such a file: build the model with weights="imagenet". The two layers that the official
        OCBE builds and never uses are ignored, and so are keys with "memory", as the official test script does. Raises
        WeightsError where the file does not fit or holds NaN or infinity.
        """
        if self.config.bottleneck != "mff_oce":
            raise WeightsError(f"An official checkpoint holds the full OCBE, and this model's bottleneck is "
                               f"'{self.config.bottleneck}'. Build it with bottleneck='mff_oce'.")
        checkpoint = read_official(Path(path))
        parts = [(self.ocbe, rename_official(checkpoint["bn"], OFFICIAL_OCBE), f"{path}, 'bn'"),
                 (self.student, rename_official(checkpoint["decoder"], OFFICIAL_STUDENT), f"{path}, 'decoder'")]
        for part in parts:
            check_fit(*part)  # both, before either is changed
        for part in parts:
            load_strictly(*part)
        self.threshold = None  # it was chosen for what has just been replaced
        return self
