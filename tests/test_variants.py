"""What a model may be besides the paper's: other bottlenecks, fewer scales, another score."""
import copy

import numpy as np
import pytest
import torch
from parity import official_state
from safetensors.torch import save_file
from test_training import Images, equal, images, weights
from test_weights import torchvisions
from torchvision.models import get_model

from rdlib import ForwardStudent, MemoryBank, ReverseDistillation, evaluate, fit, load_dataset
from rdlib.anomaly_map import checked_scales, fuse, gaussian_smooth, image_score
from rdlib.encoder import BACKBONES
from rdlib.losses import LOSSES
from rdlib.ocbe import BOTTLENECKS, SingleScaleEmbedding
from rdlib.utils.errors import CheckpointError, NotFiniteError, WeightsError
from rdlib.weights import coloured_noise
from rdlib.widgets.interactive import InteractiveModel

PICTURES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file with a whole ResNet-18, layer4 included, and torchvision's network with its weights."""
    network = torchvisions("resnet18", whole=True)
    path = tmp_path_factory.mktemp("whole") / "resnet18.safetensors"
    save_file(network.state_dict(), path)
    return path, network


@pytest.fixture
def build(whole):
    """A model with a bottleneck, on the whole ResNet's weights."""
    return lambda bottleneck, **options: ReverseDistillation("resnet18", whole[0], bottleneck=bottleneck, **options)


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_every_bottleneck_gives_the_student_the_same_shape(build, bottleneck):
    model = build(bottleneck)
    features = model.extract_features(PICTURES[..., :32])
    assert model.ocbe(features).shape == (3, 512, 2, 1)
    assert [g.shape for g in model.reconstruct(features)] == [f.shape for f in features]
    learnt = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert learnt == ({"student"} if bottleneck.startswith("pre") else {"student", "ocbe"})


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_single_scale_embedding_is_torchvisions_layer4(backbone):
    with torch.device("meta"):
        theirs, ours = get_model(backbone).layer4, SingleScaleEmbedding(backbone).oce
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


def test_pre_is_the_teachers_own_layer4(build, whole):
    f1, f2, f3 = build("pre").extract_features(PICTURES)
    with torch.no_grad():
        expected = whole[1].layer4(f3)
    assert torch.allclose(build("pre").train().ocbe((f1, f2, f3)), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(build("pre_random").ocbe((f1, f2, f3)), expected, atol=0.1)


@pytest.mark.parametrize("name", ["auto", "embedded", None, "random", "random_calibrated", "file"])
def test_pre_needs_weights_that_carry_layer4(name, tmp_path):
    if name == "file":
        name = tmp_path / "cut.pth"
        torch.save(torchvisions("resnet18").state_dict(), name)
    with pytest.raises(WeightsError, match=r"layer4.*(has|contains) none.*[Uu]se .*imagenet"):
        ReverseDistillation("resnet18", name, bottleneck="pre")


def test_pre_from_another_network_is_refused(tmp_path):
    state = torchvisions("resnet18", whole=True).state_dict()
    del state["layer4.1.conv2.weight"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"layer4 of .*w\.pth has no '1.conv2.weight'"):
        ReverseDistillation("resnet18", tmp_path / "w.pth", bottleneck="pre")


def test_pre_random_comes_from_the_seed_and_keeps_a_moderate_scale(build):
    one, same = build("pre_random", seed=1), build("pre_random", seed=1)
    assert equal(weights(one), weights(same))
    noise = coloured_noise(8, 128, torch.Generator().manual_seed(9))
    embedding = one.ocbe(one.teacher(noise))
    assert 0.3 < embedding.std() < 3
    assert one.ocbe.oce[0].bn1.running_var.std() > 0, "calibrated, not torch's default of 1 everywhere"


@pytest.mark.parametrize("bottleneck", ["pre", "pre_random"])
def test_a_frozen_bottleneck_stays_as_it_is_while_the_student_learns(build, bottleneck):
    model = build(bottleneck)
    before, student = weights(model.ocbe), weights(model.student)
    seen = []
    run = fit(model, images(8), 4, batch_size=4, progress=False,
              callbacks=[lambda run: seen.append((run.model.ocbe.training, run.model.student.training))])
    assert equal(weights(model.ocbe), before) and not equal(weights(model.student), student)
    assert set(seen) == {(False, True)} and run.losses[-1] < run.losses[0]


def test_oce_learns_and_sees_the_coarsest_scale_alone(build):
    model = build("oce").eval()
    f1, f2, f3 = model.extract_features(PICTURES)
    with torch.no_grad():
        assert torch.equal(model.ocbe((f1, f2, f3)), model.ocbe((None, None, f3)))
    before = weights(model.ocbe)
    fit(model, images(8), 1, batch_size=4, progress=False)
    assert not equal(weights(model.ocbe), before)


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_saved_and_loaded_bit_for_bit(build, bottleneck, tmp_path):
    model = build(bottleneck, scales=(3, 1), score="sum", sigma=0, fusion="multiply", seed=4)
    fit(model, images(4), 1, batch_size=4, progress=False)
    model.save(tmp_path / "model.safetensors")
    loaded = ReverseDistillation.load(tmp_path / "model.safetensors")
    assert equal(weights(loaded), weights(model)) and loaded.config == model.config
    assert loaded.config.scales == (1, 3) and not any(part.training for part in loaded.modules())
    for ours, theirs in zip(loaded.predict(PICTURES), model.predict(PICTURES), strict=True):
        assert torch.equal(ours, theirs)


def test_an_official_checkpoint_needs_the_full_bottleneck(build, tmp_path):
    torch.save({part: official_state("resnet18", part) for part in ("bn", "decoder")}, tmp_path / "official.pth")
    with pytest.raises(WeightsError, match="'oce'. Build it with bottleneck='mff_oce'"):
        build("oce").load_official(tmp_path / "official.pth")


def test_a_checkpoint_of_another_bottleneck_is_refused(build, tmp_path):
    fit(build("oce"), images(4), 1, batch_size=4, checkpoint=tmp_path / "c", progress=False)
    with pytest.raises(CheckpointError, match="bottleneck: oce there, pre_random here"):
        fit(build("pre_random"), images(4), 2, batch_size=4, checkpoint=tmp_path / "c", progress=False)


@pytest.mark.parametrize("scales", [(1,), (2, 3), (3, 1), (1, 2, 3)])
@pytest.mark.parametrize("fusion", ["add", "multiply"])
def test_the_map_is_made_of_the_chosen_scales(scales, fusion):
    model = ReverseDistillation("resnet18", scales=scales, fusion=fusion, sigma=2)
    every = model.scale_maps(PICTURES)
    assert every.shape == (3, 3, 64, 64), "all three can be looked at"
    join = torch.sum if fusion == "add" else torch.prod
    expected = join(torch.stack([every[:, k - 1] for k in scales]), 0)
    assert torch.allclose(model.predict(PICTURES)[0], gaussian_smooth(expected, 2), atol=1e-6)


def test_all_scales_are_the_sum_to_the_last_bit():
    maps = torch.rand(2, 3, 9, 7)
    assert torch.equal(fuse(maps), maps.sum(1)) and torch.equal(fuse(maps, "multiply"), maps.prod(1))


@pytest.mark.parametrize("scales", [(), (0, 1), (1, 1), (4,)])
def test_scales_that_there_are_not(scales):
    for use in (lambda: ReverseDistillation("resnet18", None, scales=scales), lambda: checked_scales(scales),
                lambda: fit(ReverseDistillation("resnet18", None), images(4), 1, scales=scales, progress=False)):
        with pytest.raises(ValueError, match=r"scales must be some of 1 \(fine\), 2 and 3 \(coarse\)"):
            use()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scales", [(3,), (1, 2)])
def test_training_takes_the_losses_of_the_chosen_scales(loss, scales):
    model, data = ReverseDistillation("resnet18", None), images(4)
    fresh = ReverseDistillation("resnet18", None).train()
    with torch.no_grad():
        teacher, student = fresh(data.images)
        expected = LOSSES[loss]([teacher[k - 1] for k in scales], [student[k - 1] for k in scales]).item()
    run = fit(model, data, 1, batch_size=4, loss=loss, scales=scales, progress=False)
    assert run.losses[0] == pytest.approx(expected, rel=1e-5) and run.settings["scales"] == list(scales)
    assert model.config.scales == (1, 2, 3), "what is trained and what is read out are two choices"
    untouched = dict(fresh.student.stage1.named_parameters())
    same = all(torch.equal(p, untouched[name]) for name, p in model.student.stage1.named_parameters())
    assert same == (scales == (3,)), "the finest stage learns from the finest loss alone"


def test_stopped_and_resumed_with_some_of_the_losses(tmp_path):
    """Parameters without a gradient have no state in the optimizer."""
    results = []
    for stops in ((2,), (1, 2)):
        for epochs in stops:
            model = ReverseDistillation("resnet18", None)
            path = tmp_path / f"{len(stops)}"  # a name without a suffix serves as well
            fit(model, images(4), epochs, batch_size=4, scales=(3,), checkpoint=path, progress=False)
        results.append(weights(model))
    assert equal(*results)


def test_the_score_may_be_the_sum():
    maps = torch.rand(2, 8, 8)
    assert torch.equal(image_score(maps, "sum"), maps.flatten(1).sum(1))
    smoothed, scores = ReverseDistillation("resnet18", score="sum").predict(PICTURES)
    assert torch.allclose(scores, smoothed.sum((1, 2)))
    plain, same = ReverseDistillation("resnet18", score="sum", sigma=0).predict(PICTURES)
    assert not torch.allclose(plain, smoothed, atol=1e-3)
    assert torch.allclose(same, scores, rtol=1e-4), "smoothing moves the anomaly about and loses nothing"


def test_no_smoothing_is_the_fused_map_itself():
    model = ReverseDistillation("resnet18", sigma=0)
    maps, scores = model.predict(PICTURES)
    assert torch.equal(maps, model.scale_maps(PICTURES).sum(1)) and torch.equal(scores, maps.amax((1, 2)))


@pytest.mark.parametrize("option, message", [
    ({"bottleneck": "ocbe"}, "no bottleneck 'ocbe'. Choose one of: pre, pre_random, oce, mff_oce"),
    ({"score": "mean"}, "no score 'mean'. Choose one of: max, sum"),
    ({"sigma": -1}, r"sigma must be a number in \[0, 256\]; got -1"),
    ({"fusion": "mean"}, "no fusion 'mean'. Choose one of: add, multiply")])
def test_options_that_there_are_not(option, message):
    with pytest.raises(ValueError, match=message):
        ReverseDistillation("resnet18", None, **option)
    with pytest.raises(ValueError, match="no score"):
        image_score(torch.zeros(1, 2, 2), "mean")


def test_reports_follow_the_choices():
    data = load_dataset("synthetic/weave", size=64).test
    data.samples = data.samples[:1] + data.samples[-2:]
    model = ReverseDistillation("resnet18", bottleneck="oce", scales=(2, 3), score="sum", sigma=1)
    report = evaluate(model, data, progress=False)
    np.testing.assert_allclose(report.scores, report.maps.sum((1, 2)), rtol=1e-5)


def test_novelty_detection_at_32_pixels():
    """The official protocol's size: the embedding is 1 x 1."""
    data = Images(torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    model = ReverseDistillation("resnet18", normalize=False, score="sum")
    run = fit(model, data, 1, batch_size=4, progress=False)
    assert run.step == 1 and model.predict(data.images)[1].shape == (5,)


@pytest.fixture(scope="module", params=["reverse", "forward", "memory"])
def detector(request):
    """One of every kind, able to predict."""
    if request.param == "memory":
        return MemoryBank("resnet18", size=20).fit(images(2), progress=False)
    return {"reverse": ReverseDistillation, "forward": ForwardStudent}[request.param]("resnet18", None)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_images_that_are_not_finite_have_no_score(detector, value):
    pictures = PICTURES.repeat(2, 1, 1, 1)
    pictures[1, 0, 3, 5] = pictures[4, 2, 60, 60] = value
    with pytest.raises(NotFiniteError, match="NaN or infinite: 1, 4. .*train again with a smaller lr") as caught:
        detector.predict(pictures, batch_size=2)
    assert caught.value.indices == [1, 4] and detector.predict(pictures[[0, 2, 3, 5]])[1].isfinite().all()


def test_models_that_are_not_finite_have_no_scores(detector):
    broken = copy.deepcopy(detector)
    weight = broken.bank if isinstance(broken, MemoryBank) else next(broken.student.parameters())
    weight.data[0] = torch.nan
    with pytest.raises(NotFiniteError, match="0, 1, 2"):
        broken.predict(PICTURES)


@pytest.mark.parametrize("score", ["max", "sum"])
def test_the_highest_value_does_not_hide_what_is_not_finite(monkeypatch, score):
    model = ReverseDistillation("resnet18", None, sigma=0, score=score)
    maps = torch.ones(3, 64, 64)
    maps[1, 2, 3] = -torch.inf
    monkeypatch.setattr(model, "anomaly_maps", lambda *_: maps)
    with pytest.raises(NotFiniteError, match="infinite: 1. "):
        model.predict(PICTURES)


def test_explorers_refuse_what_is_not_finite():
    data = load_dataset("synthetic/weave", size=64, n_train=4)
    interactive = InteractiveModel(ReverseDistillation("resnet18", None), data, reference=2)
    with pytest.raises(NotFiniteError):
        interactive.view_of(torch.full((3, 64, 64), torch.nan), interactive.settings)
    broken = ReverseDistillation("resnet18", None)
    torch.nn.init.constant_(next(broken.student.parameters()), torch.nan)
    with pytest.raises(NotFiniteError):
        InteractiveModel(broken, data, reference=2)
