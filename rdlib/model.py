"""Build the complete reverse-distillation model (paper Fig. 3): teacher E, bottleneck OCBE and student D."""
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
from rdlib.ocbe import BOTTLENECKS, FrozenEmbedding, build_bottleneck, calibrate_frozen, load_layer4
from rdlib.official import OFFICIAL_OCBE, OFFICIAL_STUDENT, read_official, rename_official
from rdlib.threshold import Threshold
from rdlib.utils.errors import WeightsError, check_choice
from rdlib.utils.files import written_atomically
from rdlib.utils.hardware import neutral
from rdlib.weights import check_fit, check_values, initialize, load_strictly


@dataclass(kw_only=True)
class ReverseConfig(DistillationConfig):
    """The settings of a `ReverseDistillation`: those of `DistillationConfig`, and the bottleneck."""

    bottleneck: str = "mff_oce"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("bottleneck", self.bottleneck, BOTTLENECKS)


class OfTheClass(classmethod):
    """A class method that returns a new instance; calling it on an instance raises TypeError."""

    def __get__(self, instance: object, owner: type | None = None) -> Callable:
        """Return the method of the class or, for an instance, a function that raises TypeError."""
        return super().__get__(None, owner) if instance is None else self._refuse

    def _refuse(self, *args, **options) -> None:
        name = self.__func__.__name__
        raise TypeError(f"{name} returns a new model and does not change this one. Call it on the class: "
                        f"model = ReverseDistillation.{name}(path).")


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

    config: ReverseConfig

    @neutral()
    def __init__(self, backbone: str = "resnet18", weights: str | Path | None = "auto", *,
                 bottleneck: str = "mff_oce", scales: Sequence[int] = SCALES, sigma: float = 4.0, fusion: str = "add",
                 score: str = "max", normalize: bool = True, seed: int = 0):
        config = ReverseConfig(backbone=backbone, bottleneck=bottleneck, scales=scales, sigma=sigma, fusion=fusion,
                               score=score, normalize=normalize)
        generator = self._build(config, weights, seed)
        if isinstance(self.ocbe, FrozenEmbedding):
            if bottleneck == "pre":
                load_layer4(self.ocbe, backbone, weights)
            else:
                calibrate_frozen(self.ocbe, self.teacher, generator)

    def _build(self, config: ReverseConfig, weights: str | Path | None, seed: int) -> torch.Generator:
        """Build the networks and initialize bottleneck and student. Return the generator that was used."""
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

    def save(self, path: str | Path) -> None:
        """Save all weights, the settings and the threshold atomically to one .safetensors file.

        Raises WeightsError for weights that are NaN or infinite.
        """
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
    def load(cls: "type[ReverseDistillation]", path: str | Path) -> "ReverseDistillation":
        """Build the model that `save` wrote, in eval mode: `model = ReverseDistillation.load(path)`.

        Raises WeightsError if the file is missing, damaged or no model of this kit, or if weights are NaN or infinite.
        Raises TypeError if it is called on an instance.
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
            raise WeightsError(f"{path} holds no rdlib model. For a teacher's weights, use "
                               "ReverseDistillation(weights=path). For an official checkpoint, use "
                               "model.load_official(path).")
        try:
            config = ReverseConfig(**json.loads(metadata["rdlib"]))
            weights = config.weights
            model = cls.__new__(cls)  # not through __init__, which would look for weights that the file replaces
            model._build(config, weights=None, seed=0)
            config.weights = model.teacher.weights = weights
            if "threshold" in metadata:
                model.threshold = Threshold(**json.loads(metadata["threshold"]))
        except (TypeError, ValueError) as error:
            raise WeightsError(f"{path} was saved with settings or a threshold that this version of the kit does not "
                               f"know ({error}). Update the kit, or save the model again.") from error
        load_strictly(model, state, str(path))
        return model.eval()

    def load_official(self, path: str | Path) -> "ReverseDistillation":
        """Load OCBE and student from a checkpoint {"bn": ..., "decoder": ...} of the official code. Return self.

        Such a file has no teacher: build the model with weights="imagenet". Layers that the official OCBE never uses
        are ignored, and so are keys with "memory", as in the official test script. The threshold becomes None.

        Raises WeightsError if the file is missing, unreadable or does not fit, if it contains NaN or infinity, or if
        the model's bottleneck is not "mff_oce".
        """
        if self.config.bottleneck != "mff_oce":
            raise WeightsError(f"An official checkpoint contains the full OCBE, but this model's bottleneck is "
                               f"'{self.config.bottleneck}'. Build it with bottleneck='mff_oce'.")
        checkpoint = read_official(Path(path))
        parts = [(self.ocbe, rename_official(checkpoint["bn"], OFFICIAL_OCBE), f"{path}, 'bn'"),
                 (self.student, rename_official(checkpoint["decoder"], OFFICIAL_STUDENT), f"{path}, 'decoder'")]
        for part in parts:
            check_fit(*part)  # both parts, before one is changed
        for part in parts:
            load_strictly(*part)
        self.threshold = None  # it was chosen for the weights that have just been replaced
        return self
