"""What a student does with drawn defects, against students whose answers are known and against arithmetic by hand."""
import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from torch.nn import functional as F

from rdlib import ReverseDistillation, load_dataset
from rdlib.datasets.samples import ArraySample
from rdlib.reproduction.measures import good_twins, measure_on_twins
from rdlib.variants import ForwardStudent, MemoryBank


@pytest.fixture(scope="module")
def drawn():
    """A good scene and four defective ones."""
    data = load_dataset("synthetic/gear", size=64).test
    return data.subset([0, *np.flatnonzero(np.array(data.labels))[:4]])


@pytest.fixture(scope="module")
def model():
    """A reverse student that is not trained."""
    return ReverseDistillation("resnet18", "random", seed=1).eval()


def features(model, dataset):
    """The teacher's and the student's features of a data set."""
    with torch.no_grad():
        return model(torch.stack([item.image for item in dataset]))


def test_a_twin_is_the_same_scene_without_its_defect(drawn):
    defective, twins = good_twins(drawn)
    assert len(defective) == len(twins) == 4 and set(twins.defect_types) == {"good"}
    for defect, twin in zip(defective, twins, strict=True):
        assert torch.equal(defect.image[:, ~defect.mask], twin.image[:, ~defect.mask])
        assert not torch.equal(defect.image, twin.image) and not twin.mask.any()


def test_a_student_that_equals_the_teacher_imitates_it(drawn):
    copy = ForwardStudent("resnet18", "random", seed=1)
    copy.student.load_state_dict(copy.teacher.state_dict())
    found = measure_on_twins(copy, drawn)
    assert found == pytest.approx({"imitation": 1, "floor": 0}, abs=1e-5)


class Blind(ForwardStudent):
    """A student that gives the teacher's features of the good twin, whatever it sees."""

    def student_features(self, images, teacher):
        twins = torch.stack([item.image for item in self.twins])
        return self.extract_features(twins)


def test_a_student_that_sees_no_defect_is_blind(drawn):
    blind = Blind("resnet18", "random", seed=1)
    blind.twins = good_twins(drawn)[1]
    assert measure_on_twins(blind, drawn) == pytest.approx({"imitation": 0, "floor": 0}, abs=1e-5)


def test_the_measures_are_those_of_a_calculation_by_hand(model, drawn):
    model.train()
    found = measure_on_twins(model, drawn)
    assert model.student.training, "the mode is restored"
    defective, twins = good_twins(drawn)
    (seen, seeing), (own, blind) = features(model.eval(), defective), features(model, twins)
    masks = torch.stack([item.mask for item in defective])

    def inside(teacher, student):
        maps = sum(F.interpolate((1 - F.cosine_similarity(t, s))[:, None], masks.shape[1:], mode="bilinear",
                                 align_corners=True)[:, 0] for t, s in zip(teacher, student, strict=True))
        return maps[masks].mean().item()

    def shift(good, bad):
        good, bad = good.flatten(1).double().numpy(), bad.flatten(1).double().numpy()
        return np.sqrt(np.mean(((bad - good) ** 2).sum(1)) / np.mean(pdist(good, "sqeuclidean")))

    apart = inside(seen, blind)
    expected = {"imitation": 1 - inside(seen, seeing) / apart, "floor": inside(own, blind) / apart}
    with torch.no_grad():
        pairs = {"f3": (own[2], seen[2]), "phi": (model.ocbe(own), model.ocbe(seen)), "g3": (blind[2], seeing[2]),
                 "g2": (blind[1], seeing[1]), "g1": (blind[0], seeing[0])}
    expected |= {f"shift {name}": shift(*pair) for name, pair in pairs.items()}
    assert found == pytest.approx(expected, rel=1e-3) and len({round(value, 6) for value in found.values()}) == 7


def test_other_models_and_data_have_no_measures(model, drawn):
    item = drawn[1]
    arrays = type(drawn)([ArraySample((255 * item.image).byte().permute(1, 2, 0).numpy(), "cut", "a")] * 2, (64, 64))
    assert measure_on_twins(model, arrays) == measure_on_twins(model, drawn.subset([0, 1])) == {}
    assert measure_on_twins(MemoryBank("resnet18", "random"), drawn) == {}
