"""The synthetic-defect designer: kind, strength, place and scene of a procedural defect, and a model's word on it."""
import ipywidgets as widgets

from rdlib import synthetic
from rdlib.datasets.samples import AnomalyData
from rdlib.detector import Distillation
from rdlib.synthetic.paint import as_image
from rdlib.widgets.interactive import InteractiveModel
from rdlib.widgets.parts import LABEL, MapPanels, Panel, choice, follow, side_by_side, slider, whole
from rdlib.widgets.picture import draw_outlines, photo

SIZE = 256  # pixels a side, without a model


def defect_designer(category: str = "gear", model: Distillation | None = None,
                    data: AnomalyData | None = None) -> "DefectDesigner":
    """Sliders over a synthetic defect. Static twin: `figures.designed_defects`.

    Args:
        category: of `rdlib.synthetic.CATEGORIES`.
        model, data: a model trained on that category, and its data: then map and score are shown too.

    Raises:
        ValueError: an unknown category, or a model without its data.
    """
    synthetic.check("category", category, synthetic.CATEGORIES)
    if (model is None) != (data is None):
        raise ValueError("A model needs the data that it was trained on: defect_designer(category, model, data).")
    return DefectDesigner(category, InteractiveModel(model, data) if model else None)


class DefectDesigner(widgets.VBox):
    """See `defect_designer`."""

    def __init__(self, category: str, interactive: InteractiveModel | None = None):
        self.category, self.interactive = category, interactive
        self.size = interactive.data.train.size[0] if interactive else SIZE
        self.kind = choice("kind", synthetic.DEFECTS[category], synthetic.DEFECTS[category][0])
        self.strength = slider("strength", 0.7, 0.05, 1, 0.05, "From barely visible to obvious.")
        self.seed = whole("scene (seed)", 1, 0, 99, "Another scene, and another place.")
        self.by_seed = widgets.Checkbox(True, description="the seed chooses the place", style=LABEL, indent=False)
        self.x, self.y = slider("right", 0.5, 0, 1, 0.01), slider("down", 0.5, 0, 1, 0.01)
        self.panels = MapPanels() if interactive else None
        self.picture = Panel("picture", "The picture; the exact mask of its defect is outlined.")
        self.words, self.call = widgets.HTML(), widgets.HTML()
        follow([self.kind, self.strength, self.seed, self.by_seed, self.x, self.y], self.update)
        super().__init__([side_by_side(widgets.VBox([self.kind, self.strength, self.seed]),
                                       widgets.VBox([self.by_seed, self.x, self.y])),
                          self.panels or self.picture, self.words, self.call])
        self.update()

    def update(self) -> None:
        """Draw the defect as the controls say, and ask the model, if there is one."""
        movable = self.kind.value in synthetic.DAMAGE  # a faulty part stays its part
        self.by_seed.disabled = not movable
        self.x.disabled = self.y.disabled = not movable or self.by_seed.value
        place = None if self.x.disabled else (self.x.value, self.y.value)
        scene = {"size": self.size, "seed": self.seed.value, "defect": self.kind.value,
                 "strength": self.strength.value, "place": place}
        image, mask = synthetic.render(self.category, **scene)
        words = f"The mask has {int(mask.sum())} pixels, {mask.mean():.2%} of the picture."
        if not mask.any():
            words = "There is nothing to see: the place lies off the object, or the defect is too faint."
        if not movable:
            words += " This defect is a faulty part; the seed chooses which one."
        self.words.value = words
        arguments = ", ".join(f"{name}={value!r}" for name, value in scene.items() if value is not None)
        self.call.value = f"<code>rdlib.synthetic.render({self.category!r}, {arguments})</code>"
        if self.interactive:
            self.panels.show(self.interactive.view_of(as_image(image), self.interactive.settings, mask))
        else:
            self.picture.show(draw_outlines(photo(image), mask.astype("float32"), 2.0, mask))
