"""Describe an exported file to people and programs that have nothing but the file."""
from pathlib import Path

from rdlib.detector import Distillation, accepted_range
from rdlib.utils.version import __version__

TEMPLATE = Path(__file__).with_name("card.txt")


def model_card(model: Distillation, size: tuple[int, int]) -> dict[str, str]:
    """Describe input, output and decision of an exported model for images of size (H, W), as short texts by name."""
    card = dict(line.split(": ", 1) for line in TEMPLATE.read_text(encoding="utf-8").splitlines())
    low, high = accepted_range(model.config.value_range)
    if model.config.white is None:
        del card["white"]
    if model.threshold is None:
        card = {name: text for name, text in card.items() if "threshold" not in name}
        card["decision"] = "none: no threshold was saved with the model"
    return {name: text.format(
        model=type(model).__name__, version=__version__, config=model.config, low=low, high=high, height=size[0],
        width=size[1], region="the whole image" if model.roi is None else "a part of the image; the map is 0 outside",
        threshold=model.threshold) for name, text in card.items()}
