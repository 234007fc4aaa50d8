"""Save a model to one .safetensors file, with a JSON text that describes it, and load it again."""
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rdlib.detector.config import Config
from rdlib.detector.scorer import Scorer
from rdlib.encoder import TeacherEncoder, fingerprint
from rdlib.threshold import Threshold
from rdlib.utils.errors import WeightsError
from rdlib.utils.files import written_atomically
from rdlib.utils.hardware import neutral
from rdlib.utils.seal import UNSEALED, check_seal, seal
from rdlib.utils.version import __version__
from rdlib.weights import check_values, load_strictly

Model = TypeVar("Model", bound="Saved")
FORMAT = 3  # of the description; other numbers are refused


class OfTheClass(classmethod):
    """A class method that returns a new instance; calling it on an instance raises TypeError."""

    def __get__(self, instance: object, owner: type | None = None) -> Callable:
        """Return the method of the class or, for an instance, a function that raises TypeError."""
        return super().__get__(None, owner) if instance is None else self._refuse

    def _refuse(self, *args, **options) -> None:
        raise TypeError("load returns a new model. Call it on the class: model = ReverseDistillation.load(path).")


class Saved(Scorer, nn.Module):
    """A mixin that saves and loads a model."""

    settings: type[Config] = Config
    teacher: TeacherEncoder
    roi: Tensor | None  # (H, W) bool, True where defects are looked for; None is everywhere
    resized: tuple[str, ...] = ("roi",)  # buffers whose shape is the file's
    _layers: dict[str, Any]
    _build: Callable
    set_roi: Callable[[Tensor | None], None]

    def describe(self) -> dict:
        """Describe the model for its file: class, format, version, settings, fingerprint of the weights, threshold."""
        return {"class": type(self).__name__, "format": FORMAT, "version": __version__, "config": asdict(self.config),
                "weights": fingerprint(self), "threshold": asdict(self.threshold) if self.threshold else None}

    def layers(self) -> dict[str, tuple]:
        """Return class, dtype's kind and shape of all weights by their names."""
        return {key: (type(value), getattr(value, "shape", None), "float" in str(getattr(value, "dtype", "")))
                for key, value in self.state_dict().items() if key not in self.resized}

    def check_layers(self, use: str) -> None:
        """Raise WeightsError if layers were changed after the model was built; `use` is what it cannot be: "saved"."""
        now, built = self.layers(), self._layers
        if changed := [key for key in (*built, *now) if now.get(key) != built.get(key)]:
            raise WeightsError(f"The model cannot be {use}: its layers were changed after it was built, such as by "
                               f"folding BatchNorm, wrapping or quantizing ('{changed[0]}'). Use it unchanged.")

    def save(self, path: str | Path) -> None:
        """Save weights, settings, threshold and region of interest atomically to one .safetensors file.

        Warns if training was interrupted or failed; the file says so as well.

        Raises WeightsError for weights that are NaN or infinite, or if layers were changed after the model was built.
        """
        self.check_layers("saved")
        self.check_threshold()
        self.warn_if_unfinished("saved")
        state = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}
        check_values(state, f"{path} was not written")
        with written_atomically(path) as temporary:
            save_file(state, temporary, metadata={"rdlib": json.dumps(UNSEALED | self.describe())})
            seal(temporary)

    @OfTheClass
    @neutral()
    def load(cls: type[Model], path: str | Path) -> Model:
        """Build the model that `save` wrote, in eval mode on the CPU: `model = ReverseDistillation.load(path)`.

        `rdlib.load(path)` finds the class by itself. Raises WeightsError if the file is missing, damaged, of another
        class or no model of this kit, or if weights are NaN or infinite. Raises TypeError if it is called on an
        instance.
        """
        path = Path(path)
        about = read_description(path)
        if about["class"] not in [base.__name__ for base in cls.__mro__]:
            raise WeightsError(f"{path} holds a {about['class']}, no {cls.__name__}. Use rdlib.load(path).")
        state, model = load_file(path), cls.__new__(cls)  # not by __init__, which needs weights that the file replaces
        try:
            config = cls.settings(**about["config"])
            weights, threshold = config.weights, about["threshold"]
            model._build(config, None, 0)
            model.seed = None
            for name in {*model.resized} & {*state}:
                setattr(model, name, state[name].float() if state[name].is_floating_point() else state[name])
            load_strictly(model, state, str(path))
            model.set_roi(model.roi)  # checks it
            model.config.weights = model.teacher.weights = weights
            model.threshold = None if threshold is None else Threshold(**threshold)
            model.check_threshold()
        except (TypeError, ValueError, LookupError) as error:
            raise _unknown(path, error) from error
        return model.eval()


def read_description(path: Path) -> dict:
    """Read the description of a saved model, see `Saved.describe`, and check the file's SHA-256.

    Raises WeightsError if the file is missing, damaged, no model of this kit, or of another format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("rdlib")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as a saved model ({error}). Check the path, or save it again with "
                           "model.save(path). An exported .onnx file is opened with OnnxDetector(path).") from error
    if text is None:
        raise WeightsError(f"{path} holds no rdlib model. Use ReverseDistillation(weights=path) or load_official().")
    try:
        about = json.loads(text)
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}, not {FORMAT}")
        about["class"] = str(about["class"])
    except (TypeError, ValueError, LookupError, RecursionError) as error:
        raise _unknown(path, error) from error
    check_seal(path)
    return about


def _unknown(path: Path, error: Exception) -> WeightsError:
    return WeightsError(f"{path} was saved with settings or a threshold that this version of the kit does not know, or "
                        f"is damaged ({error!s:.300}). Update the kit, or save the model again.")
