"""The recipe of the embedded teacher at its smallest: images by seed, a run that survives a stop, weights that load."""
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from rdlib.encoder import TeacherEncoder

RECIPE = Path(__file__).parents[1] / "data" / "teacher"
FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def recipe():
    """The recipe's modules: (bank, train), of a bank of four classes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(RECIPE))
        import bank
        import train

        patch.setattr(bank, "SHARES", {"spectral": 1, "leaves": 1, "objects": 1, "blend": 1})
        yield bank, train


def small(bank, train):
    """A bank and a recipe that take seconds: four steps of learning, two of refining, one of sharpening, two of
    spreading."""
    stages = (replace(train.LEARN, steps=4, phases=((32, 6, 0.5), (64, 4, 0.5))),
              replace(train.REFINE, steps=2, phases=((32, 8, 1.0),)),
              replace(train.SHARPEN, steps=1, phases=((32, 8, 1.0),)),
              replace(train.SPREAD, steps=2, phases=((32, 8, 1.0),)))
    return bank.Bank(unit=1, images=4, masks=6, size=64), train.Recipe(stages)


def test_images_follow_from_their_seeds_alone(recipe):
    bank, _ = recipe
    from generators import FAMILIES
    for family in FAMILIES:
        images = bank.draw_images(family, 3, 2, 48, seed=5)
        assert images.shape == (2, 3, 48, 48) and images.dtype == np.uint8
        assert np.array_equal(images, bank.draw_images(family, 3, 2, 48, seed=5))
        assert not np.array_equal(images[0], images[1])
        assert not np.array_equal(images, bank.draw_images(family, 4, 2, 48, seed=5))
        assert not np.array_equal(images, bank.draw_images(family, 3, 2, 48, seed=6))


def test_the_families_look_as_they_did_when_the_teacher_learnt_them(recipe):
    """Mean and deviation, 0 to 255, of an image of eight classes each; drawn with floats, so not to the bit."""
    bank, _ = recipe
    from generators import FAMILIES
    recorded = json.loads((FIXTURES / "teacher_bank.json").read_text(encoding="utf-8"))
    found = {family: [[image.mean(), image.std()] for number in range(8)
                      for image in bank.draw_images(family, number, 1, 48, seed=5)] for family in FAMILIES}
    assert found.keys() == recorded.keys()
    for family in FAMILIES:
        assert np.allclose(found[family], recorded[family], atol=0.05), family


def test_masks_are_regions(recipe):
    bank, _ = recipe
    for i in range(40):
        mask = bank.draw_mask(np.random.default_rng(i), 64)
        assert mask.max() > 200 and 0 < mask.mean() / 255 < 0.6


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    """The weights of a run that nothing stopped; its bank lies beside them."""
    bank, train = recipe
    stock, plan = small(bank, train)
    folder = tmp_path_factory.mktemp("whole")
    bank.render(folder / "bank", stock, progress=False)
    run = train.Training(plan, stock)
    assert train.train(run, folder / "bank", folder / "state", progress=False)
    run.export(folder / "whole.safetensors")
    return folder / "whole.safetensors"


# Within stages and between them. In 5 the first stage's end, of which the last begins, is in the state alone.
@pytest.mark.parametrize("stop", [5, 7, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 4, 6, 8))])
def test_a_killed_run_ends_with_the_same_weights(recipe, whole, tmp_path, stop):
    bank, train = recipe
    stock, plan = small(bank, train)
    run = train.Training(plan, stock)
    for i, _ in enumerate(run.run(whole.with_name("bank"))):
        if i == stop - 1:
            run.save(tmp_path / "state")
        if i == stop:
            break  # killed: this step is lost
    run = train.Training(plan, stock)
    run.load(tmp_path / "state")
    assert run.step == stop and train.train(run, whole.with_name("bank"), tmp_path / "state", progress=False)
    run.export(tmp_path / "parts.safetensors")
    assert whole.read_bytes() == (tmp_path / "parts.safetensors").read_bytes()


def test_a_run_ends_with_a_teacher(recipe, whole):
    _, train = recipe
    assert whole.stat().st_size <= 6_000_000
    with safe_open(whole, "pt") as file:
        about = json.loads(file.metadata()["about"])
    assert (about["version"], about["step"], about["images_seen"]) == (train.VERSION, 9, 2 * 6 + 2 * 4 + 5 * 8)
    features = TeacherEncoder("resnet18", weights=whole)(torch.randn(2, 3, 64, 64))
    assert [tuple(f.shape) for f in features] == [(2, 64, 16, 16), (2, 128, 8, 8), (2, 256, 4, 4)]
    assert all(f.isfinite().all() and f.std() > 0 for f in features)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_takes_the_same_first_step(recipe, tmp_path):
    bank, train = recipe
    stock, plan = small(bank, train)
    bank.render(tmp_path / "bank", stock, progress=False)
    first = [next(train.Training(plan, stock, "float32", device).run(tmp_path / "bank")) for device in ("cpu", "cuda")]
    assert first[1] == pytest.approx(first[0], rel=1e-3)
    run = train.Training(plan, stock, device="cuda")
    assert train.train(run, tmp_path / "bank", tmp_path / "state", progress=False)
    run.export(tmp_path / "teacher.safetensors")
    TeacherEncoder("resnet18", weights=tmp_path / "teacher.safetensors")


def test_a_state_from_another_memory_layout_gives_its_moments_the_own_one(recipe, tmp_path, monkeypatch):
    bank, train = recipe
    stock, plan = small(bank, train)
    bank.render(tmp_path / "bank", stock, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(train, "memory_format", lambda device: torch.contiguous_format)
        run = train.Training(plan, stock)
        next(run.run(tmp_path / "bank"))
        run.save(tmp_path / "state")
    other = train.Training(plan, stock)
    other.load(tmp_path / "state")
    for mine, theirs in zip(other.network.parameters(), run.network.parameters(), strict=True):
        for name in ("exp_avg", "exp_avg_sq") if mine in other.optimizer.state else ():
            assert torch.equal(other.optimizer.state[mine][name], run.optimizer.state[theirs][name])
            assert other.optimizer.state[mine][name].stride() == mine.stride()
    assert any(p.stride() != q.stride() for p, q in
               zip(other.network.parameters(), run.network.parameters(), strict=True))


def test_a_state_of_another_recipe_is_refused(recipe, tmp_path):
    bank, train = recipe
    stock, plan = small(bank, train)
    train.Training(plan, stock).save(tmp_path / "state")
    with pytest.raises(ValueError, match="another recipe"):
        train.Training(train.Recipe(plan.stages[:1]), stock).load(tmp_path / "state")


def squares_in_noise(camera, **options):
    """A batch of 32 crops of noise, most with a foreign square, under this camera."""
    from augment import make_batch
    draw = torch.Generator().manual_seed(0)
    images = (255 * torch.rand(32, 3, 64, 64, generator=draw)).byte()
    masks = torch.zeros(32, 1, 64, 64, dtype=torch.uint8)
    masks[:, :, 20:44, 20:44] = 255
    return make_batch(images, masks, torch.arange(32), 32, camera, draw, **options)


@pytest.mark.usefixtures("recipe")
def test_the_foreign_region_is_where_the_image_changed():
    from train import LEARN
    batch = squares_in_noise(LEARN.camera)
    assert (batch.foreign.amax((1, 2, 3)) == 0).any()
    assert (batch.visible[batch.foreign == 0] < 1e-6).all()
    assert (batch.share <= batch.foreign).all() and batch.images.isfinite().all()


@pytest.mark.usefixtures("recipe")
def test_twins_differ_by_faint_grain_alone():
    from augment import STD, twins
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(16, 3, 64, 64, generator=draw)
    more, pairs = twins(images, draw)
    both = torch.cat([images, more])
    grain = (both[pairs[:, 1]] - both[pairs[:, 0]]) * torch.tensor(STD).view(1, 3, 1, 1)
    deviation = grain.std((1, 2, 3))
    assert len(pairs) == 10 and deviation.min() > 0.0029 and deviation.max() < 0.0301
    plain = both[pairs[8:, 0]]
    assert (plain.std((2, 3)) < 1e-6).all() and (images.std((2, 3)) > 0.5).all()


@pytest.mark.usefixtures("recipe")
def test_features_that_ignore_grain_have_twins_at_no_distance():
    from network import pair_distance
    feature = torch.randn(4, 8, 5, 5)
    feature[2], feature[3] = 3 * feature[0], -feature[1]  # length does not count, direction does
    assert torch.allclose(pair_distance(feature, torch.tensor([[0, 2], [1, 3]])), torch.tensor([0.0, 2.0]), atol=1e-6)


@pytest.mark.usefixtures("recipe")
def test_the_ratio_counts_what_is_visible_in_the_region_alone():
    from network import log_ratio
    former, foreign, visible = torch.randn(1, 8, 4, 4), torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    foreign[..., :4, :4] = 1
    visible[..., :2, :] = 0  # the upper row of places looks as before
    changed = former.clone()
    changed[:, :, 0, 0] *= -1  # in the region, invisible
    changed[:, :, 3, 3] *= -1  # visible, outside
    nothing = log_ratio(torch.tensor([0.1]), changed, former, foreign, visible)
    assert nothing == pytest.approx(math.log(0.11) - math.log(0.02), abs=1e-4)
    changed[:, :, 1, :2] *= -1
    found = log_ratio(torch.tensor([0.1]), changed, former, foreign, visible)
    assert found == pytest.approx(math.log(0.11) - math.log(2.02), abs=1e-4)


def test_a_stage_may_begin_between_two_others(recipe, tmp_path):
    bank, train = recipe
    stock, plan = small(bank, train)
    bank.render(tmp_path / "bank", stock, progress=False)
    run, reached = train.Training(plan, stock), {}
    for _ in run.run(tmp_path / "bank"):
        if run.step in (4, 7):  # what stages 1 and 3 come to
            reached[run.step] = {k: v.half().float() for k, v in run.average.items()}
        if run.step == 7:
            break
    old, optimizer = run.network, run.optimizer
    run._enter(3)
    assert run.network is not old and run.optimizer is not optimizer and run.begun == 7
    for key, value in run.network.trunk.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value, (reached[4][key] + reached[7][key]) / 2)
    assert not torch.equal(run.network.which.weight, old.which.weight)  # heads are new


@pytest.mark.usefixtures("recipe")
def test_concentration_is_the_number_of_directions_in_a_logarithm():
    from network import concentration
    line = torch.zeros(2, 6, 4, 4)
    line[:, 0] = torch.tensor([1.0, -1.0]).view(2, 1, 1)
    assert concentration(3 * line) == pytest.approx(0, abs=1e-5)
    # each direction as often as the others
    even = torch.eye(6)[torch.arange(12) % 6].view(1, 12, 1, 6).permute(0, 3, 1, 2)
    assert concentration(even) == pytest.approx(-math.log(5), abs=1e-5)  # six corners about their middle span five
    two = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]]).T.view(1, 2, 2, 2)
    assert concentration(two) == pytest.approx(-math.log(2), abs=1e-5)


@pytest.mark.usefixtures("recipe")
def test_both_views_are_photographed_alike():
    from train import SHARPEN
    batch = squares_in_noise(SHARPEN.camera, both=True)
    distant = torch.nn.functional.max_pool2d(batch.foreign, 9, 1, 4) == 0  # lenses blur across the border
    difference = (batch.images - batch.before).abs().mean(1, keepdim=True)
    assert (difference[distant] < 1e-5).all() and (difference[batch.visible > 0.1] > 0.01).float().mean() > 0.9
