"""The region of interest: nothing outside it influences anything, and a full one is none."""
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_training import Images, equal, images, weights

from rdlib import ForwardStudent, MemoryBank, ReverseDistillation, fit
from rdlib.losses import LOSSES
from rdlib.threshold import Threshold
from rdlib.utils.errors import CheckpointError

ROI = torch.zeros(64, 64, dtype=torch.bool)
ROI[10:40, 5:33] = ROI[50:60, 44:] = True
PICTURES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(5))
KINDS = {"reverse": lambda: ReverseDistillation("resnet18", sigma=2), "forward": lambda: ForwardStudent(sigma=2),
         "bank": lambda: MemoryBank(size=30, sigma=2), "plain": lambda: ReverseDistillation(sigma=0, normalize=False)}


def changed(pictures, seed=6):
    """The same inside the region of interest, other values outside."""
    other = torch.rand(pictures.shape, generator=torch.Generator().manual_seed(seed))
    return torch.where(ROI, pictures, other)


def trained(kind, roi, data):
    model = KINDS[kind]()
    model.set_roi(roi)
    if kind == "bank":
        return model.fit(data, progress=False)
    fit(model, data, 1, batch_size=4, progress=False)
    return model


@pytest.fixture(scope="module", params=KINDS)
def pair(request):
    """A kind of model, and one of that kind that was trained with the region of interest."""
    return request.param, trained(request.param, ROI, images(6))


def test_pixels_outside_change_neither_training_nor_prediction(pair):
    kind, model = pair
    other = trained(kind, ROI, Images(changed(images(6).images)))
    assert equal(weights(model), weights(other))
    maps, scores = model.predict(PICTURES)
    for ours, theirs in zip(other.predict(changed(PICTURES)), (maps, scores), strict=True):
        assert torch.equal(ours, theirs)
    assert not maps[:, ~ROI].any() and maps[:, ROI].all()
    assert torch.equal(scores, maps[:, ROI].amax(1))
    inside = PICTURES.clone()
    inside[:, :, 20, 20] = 1 - inside[:, :, 20, 20]
    assert not torch.equal(model.predict(inside)[0], maps)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.3, 1.0]))
def test_whatever_stands_outside_has_no_influence(pair, seed, level):
    _, model = pair
    noise = changed(PICTURES, seed) if level else torch.where(ROI, PICTURES, level)
    for ours, theirs in zip(model.predict(noise), model.predict(PICTURES), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_region_is_none_bit_for_bit(kind):
    full, none = (trained(kind, roi, images(6)) for roi in (torch.ones(64, 64, dtype=torch.bool), None))
    without = weights(full)
    without.pop("roi")
    assert equal(without, weights(none))
    for ours, theirs in zip(full.predict(PICTURES), none.predict(PICTURES), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", ["reverse", "forward"])
def test_the_loss_does_not_see_what_lies_outside(kind, loss):
    model = KINDS[kind]().eval()
    free = [LOSSES[loss](*model(batch)).item() for batch in (PICTURES, changed(PICTURES))]
    model.set_roi(ROI)
    bound = [LOSSES[loss](*model(batch)).item() for batch in (PICTURES, changed(PICTURES))]
    assert bound[0] == bound[1] and free[0] != free[1]


def test_outside_is_the_mean_of_normalized_images():
    model = ReverseDistillation("resnet18", None)
    model.set_roi(ROI)
    prepared = model.prepare(PICTURES)
    assert not prepared[:, :, ~ROI].any()
    assert torch.equal(prepared[:, :, ROI], ((PICTURES - model.mean) / model.std)[:, :, ROI])


@pytest.mark.parametrize("mask", [ROI, ROI.numpy(), ROI.float(), 255 * ROI.to(torch.uint8), ROI.int().tolist()])
def test_masks_of_any_kind(mask):
    model = ReverseDistillation("resnet18", None)
    model.set_roi(mask)
    assert model.roi.dtype == torch.bool and torch.equal(model.roi, ROI) and model.image_size == (64, 64)
    model.set_roi(None)
    assert model.roi is None and model.image_size is None


@pytest.mark.parametrize("mask", [torch.zeros(64, 64), torch.ones(3, 64, 64), torch.ones(32, 64), torch.ones(64)])
def test_a_region_that_cannot_be_is_refused(mask):
    model = ReverseDistillation("resnet18", None)
    model.set_trained(64, (0, 1))
    with pytest.raises(ValueError, match="region of interest is a mask .* at least one pixel"):
        model.set_roi(mask)
    assert model.roi is None
    with pytest.raises(ValueError, match="Masks are bool"):
        model.set_roi(torch.rand(64, 64))


def test_images_of_another_size_than_the_region():
    model = ReverseDistillation("resnet18", None)
    model.set_roi(ROI)
    with pytest.raises(ValueError, match="region of interest has the size .64, 64., the images have .96, 64."):
        fit(model, Images(torch.rand(2, 3, 96, 64)), 1, progress=False)
    with pytest.raises(ValueError, match="at 64 x 64 pixels"):  # as before that fit
        model.predict(torch.rand(1, 3, 96, 64))


def test_another_region_is_another_run_and_another_threshold(tmp_path):
    model = ReverseDistillation("resnet18", None)
    model.threshold = Threshold(score=1, pixel=1, size=ROI.shape, rule="chosen before", good=1, alarms=0)
    model.set_roi(ROI)
    assert model.threshold is None
    fit(model, images(4), 1, batch_size=4, checkpoint=tmp_path / "c", progress=False)
    for roi in (None, ~ROI):
        other = ReverseDistillation("resnet18", None)
        other.set_roi(roi)
        assert other.signature() != model.signature()
        with pytest.raises(CheckpointError, match="roi: "):
            fit(other, images(4), 2, batch_size=4, checkpoint=tmp_path / "c", progress=False)
