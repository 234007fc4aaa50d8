"""Load a saved model of any class."""
from pathlib import Path

from rdlib.detector import Detector
from rdlib.detector.saving import read_description
from rdlib.model import ReverseDistillation
from rdlib.utils.errors import WeightsError, checked
from rdlib.variants.baselines import ForwardStudent, MemoryBank

CLASSES: dict[str, type[Detector]] = {cls.__name__: cls for cls in (ReverseDistillation, ForwardStudent, MemoryBank)}


@checked
def load(path: str | Path) -> Detector:
    """Load the model of any class that `model.save(path)` wrote, in eval mode on the CPU.

    Raises WeightsError if the file is missing, damaged, no model of this kit, or of a class that is not the kit's.
    """
    name = read_description(Path(path))["class"]
    if name not in CLASSES:
        raise WeightsError(f"{path} holds a {name}, none of {', '.join(CLASSES)}. Load it with {name}.load(path).")
    return CLASSES[name].load(path)
