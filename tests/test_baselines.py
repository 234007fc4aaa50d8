"""The two methods that reverse distillation is compared with: are they what they say, and do they work?"""
import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter
from sklearn.neighbors import NearestNeighbors
from test_training import SWITCHES, Images, Jittered, equal, images, weights
from torchvision.models.resnet import BasicBlock, ResNet

from rdlib import ReverseDistillation, evaluate, fit, load_dataset
from rdlib.encoder import BACKBONES
from rdlib.losses import positional_cosine_loss
from rdlib.utils.errors import CheckpointError, WeightsError
from rdlib.variants.baselines import ForwardStudent, MemoryBank, greedy_coreset

PICTURES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def leather():
    """32 good images to train, the whole test set; 64 x 64."""
    return load_dataset("synthetic/leather", size=64, n_train=32)


def test_the_forward_student_is_the_teachers_twin():
    model = ForwardStudent("resnet18")
    assert {k: v.shape for k, v in model.student.state_dict().items()} == \
           {k: v.shape for k, v in model.teacher.state_dict().items()}
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"student"}
    model.student.load_state_dict(model.teacher.state_dict())
    maps, scores = model.predict(PICTURES)
    assert maps.abs().max() < 1e-5 and scores.shape == (3,), "a student that says what the teacher says finds nothing"


@pytest.mark.parametrize("backbone", BACKBONES)
def test_forward_students_of_every_backbone(backbone):
    teacher, student = ForwardStudent(backbone, None).eval()(PICTURES[:1, :, :32, :32])
    assert [t.shape for t in teacher] == [s.shape for s in student] and all(s.requires_grad for s in student)


def test_a_deeper_student_is_torchvisions_resnet_with_more_blocks():
    model, twin = ForwardStudent("resnet18", None, blocks=(1, 2, 3)), ResNet(BasicBlock, [1, 2, 3, 1])
    assert {k: v.shape for k, v in model.student.state_dict().items()} == \
           {k: v.shape for k, v in twin.state_dict().items() if not k.startswith(("layer4", "fc"))}
    teacher, student = model.eval()(PICTURES)
    assert [t.shape for t in teacher] == [s.shape for s in student]
    same = [ForwardStudent("resnet18", None, blocks=blocks).student.state_dict() for blocks in (None, (2, 2, 2))]
    assert equal(*same) and model.teacher.layer3[-1] is model.teacher.layer3[1], "the teacher keeps its depth"


def test_a_student_of_the_reverse_students_size():
    reverse, small, large = (
        sum(weight.numel() for weight in model.parameters() if weight.requires_grad) for model in (
            ReverseDistillation("resnet18", None), ForwardStudent("resnet18", None),
            ForwardStudent("resnet18", None, blocks=(2, 5, 12))))
    assert abs(large / reverse - 1) < 0.02 and small < 0.2 * reverse


@pytest.mark.parametrize("blocks", [(2, 2), (2, 2, 2, 2), (0, 2, 2), (2, 2.5, 2), 3, "222"])
def test_other_blocks_than_three_numbers_are_refused(blocks):
    with pytest.raises(ValueError, match=r"blocks must be (3 numbers|a whole number from 1)"):
        ForwardStudent("resnet18", None, blocks=blocks)


def test_stfpms_loss_is_the_positional_loss():
    teacher, student = ForwardStudent("resnet18")(PICTURES)
    unit = [(t / t.norm(dim=1, keepdim=True), s / s.norm(dim=1, keepdim=True))
            for t, s in zip(teacher, student, strict=True)]
    expected = sum(0.5 * (t - s).square().sum(1).mean() for t, s in unit)
    assert torch.allclose(positional_cosine_loss(teacher, student), expected, rtol=1e-5)


def test_maps_and_scores_are_made_as_those_of_the_reverse_student():
    options = {"scales": (1, 3), "fusion": "multiply", "sigma": 1.5, "score": "sum"}
    model = ForwardStudent("resnet18", **options)
    reverse = ReverseDistillation("resnet18", **options)
    reverse.scale_maps = model.scale_maps
    for ours, theirs in zip(model.predict(PICTURES), reverse.predict(PICTURES), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(ValueError, match="scales"):
        ForwardStudent("resnet18", None, scales=(0,))
    with pytest.raises(WeightsError, match="ResNet-18"):
        ForwardStudent("resnet50", "embedded")


@pytest.mark.parametrize("method", [ForwardStudent, MemoryBank])
def test_the_default_teacher_fits_the_backbone(method, monkeypatch):
    def refuse(backbone, weights, url):
        raise WeightsError(f"asked for {weights}")

    assert method().config.weights == "embedded"
    monkeypatch.setattr("rdlib.encoder.read_teacher", refuse)
    with pytest.raises(WeightsError, match="asked for imagenet"):
        method("resnet50")


def trained(epochs=2, data=None, **options):
    model = ForwardStudent("resnet18", seed=1)
    options = {"batch_size": 4, "loss": "positional", "progress": False} | options
    return fit(model, data or images(), epochs, **options), weights(model)


def test_training_changes_the_student_alone():
    run, after = trained()
    before = weights(ForwardStudent("resnet18", seed=1))
    changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"student"} and run.losses[-1] < run.losses[0] and run.settings["model"] == "ForwardStudent"


def test_kept_features_serve_a_student_that_needs_the_images():
    kept, fresh = trained(cache=True), trained(cache=False)
    assert kept[0].losses == pytest.approx(fresh[0].losses, rel=1e-4)
    shuffled = images()
    shuffled.images = shuffled.images.flip(0)
    assert trained(data=shuffled)[0].losses != pytest.approx(kept[0].losses, rel=1e-4)


def test_a_forward_run_is_stopped_and_resumed_bit_for_bit(tmp_path):
    path = tmp_path / "forward.ckpt"

    def stop(run):
        run.stop = run.step == 2

    options = {"schedule": "cosine", "ema": 0.9}
    trained(callbacks=[stop], checkpoint=path, **options)
    assert equal(trained(checkpoint=path, **options)[1], trained(**options)[1])
    with pytest.raises(CheckpointError, match="model: ForwardStudent there, ReverseDistillation here"):
        fit(ReverseDistillation("resnet18"), images(), 2, batch_size=4, loss="positional", checkpoint=path,
            progress=False, **options)
    with pytest.raises(CheckpointError, match=r"blocks: None there, \[2, 3, 2\] here"):
        fit(ForwardStudent("resnet18", seed=1, blocks=(2, 3, 2)), images(), 2, batch_size=4, loss="positional",
            checkpoint=path, progress=False, **options)


def test_a_forward_student_learns_to_detect(leather):
    model = ForwardStudent("resnet18", sigma=2)
    untrained = evaluate(model, leather.test, progress=False)
    fit(model, leather.train, 8, batch_size=8, loss="positional", progress=False)
    report = evaluate(model, leather.test, progress=False)
    # Features that differ where the image does betray some defects to an untrained student, too; 0.847 and 0.625 here.
    assert report.image_auroc > 0.85
    assert report.pixel_auroc > untrained.pixel_auroc + 0.03 and report.aupro > untrained.aupro + 0.05


def test_a_patch_is_an_average_of_stacked_scales():
    model = MemoryBank("resnet18", scales=(3, 2))
    _, f2, f3 = (f.numpy() for f in model.extract_features(PICTURES))
    patches = model.patches(PICTURES)
    assert patches.shape == (3, 384, 8, 8)
    np.testing.assert_allclose(patches[:, :128], uniform_filter(f2, (0, 0, 3, 3), mode="constant"), atol=1e-4)
    coarse = torch.from_numpy(uniform_filter(f3, (0, 0, 3, 3), mode="constant"))
    expected = torch.nn.Upsample(scale_factor=2, mode="bilinear")(coarse)
    np.testing.assert_allclose(patches[:, 128:], expected, atol=1e-4)


def filled(n=6, **options):
    return MemoryBank("resnet18", **options).fit(images(n), progress=False, batch_size=4)


def test_distances_are_scikit_learns():
    model = filled(size=50, sigma=0)
    flat = model.patches(PICTURES).permute(0, 2, 3, 1).flatten(0, 2)
    distances, _ = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(model.bank.numpy()).kneighbors(flat.numpy())
    grid = torch.from_numpy(distances).view(3, 1, 8, 8)
    expected = torch.nn.Upsample((64, 64), mode="bilinear", align_corners=True)(grid)[:, 0]
    maps, scores = model.predict(PICTURES)
    np.testing.assert_allclose(maps, expected, rtol=1e-3)
    np.testing.assert_allclose(scores, expected.amax((1, 2)), rtol=1e-3)


def test_what_is_remembered_is_not_anomalous():
    model = filled(size=10_000, sigma=0)
    assert model.bank.shape == (6 * 64, 384), "all there are"
    seen, other = model.predict(images(6).images)[1], model.predict(1 - images(6).images)[1]
    assert seen.max() < 0.05 * other.min()


def test_the_memory_comes_from_the_seed_and_keeps_its_size():
    one, same, other = (filled(size=40, coreset=False, seed=seed).bank for seed in (1, 1, 2))
    assert one.shape == (40, 384) and torch.equal(one, same) and not torch.equal(one, other)
    before = torch.get_rng_state()
    one, same = (filled(size=20, seed=1) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one.bank, same.bank) and len(one.bank.unique(dim=0)) == 20


def test_batches_and_chunks_do_not_matter(monkeypatch):
    one = filled(size=40)
    other = MemoryBank("resnet18", size=40).fit(images(6), batch_size=2, progress=False)
    assert torch.allclose(one.bank, other.bank, atol=1e-4)
    maps = one.predict(PICTURES)[0]
    monkeypatch.setattr("rdlib.variants.baselines.DISTANCES", 40 * 7)
    assert torch.allclose(one.predict(PICTURES, batch_size=1)[0], maps, atol=1e-3)


def test_the_coreset_is_the_greedy_one():
    points = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    chosen = [0]
    while len(chosen) < 12:
        chosen.append(int(torch.cdist(points, points[chosen]).amin(1).argmax()))
    assert greedy_coreset(points, 12).tolist() == chosen
    assert sorted(greedy_coreset(torch.ones(5, 2), 5).tolist()) == [0, 1, 2, 3, 4], "equal points are taken once each"


def test_the_memory_of_augmented_images_comes_from_the_seed():
    data, before = Jittered(images(6).images), torch.get_rng_state()
    a, b, other = (MemoryBank("resnet18", size=50, seed=seed).fit(data, progress=False).bank for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, other) and torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("switch", SWITCHES)
def test_the_callers_switches_change_no_memory(switch):
    class Drawn(Images):
        """Images in the default dtype."""

        def __getitem__(self, index):
            return super().__getitem__(index)._replace(image=torch.tensor(self.images[index].tolist()))

    expected, model, data = filled(size=50).bank, MemoryBank("resnet18", size=50), Drawn(images(6).images)
    with SWITCHES[switch]():
        model.fit(data, progress=False)
    assert torch.equal(model.bank, expected)


def test_the_memory_detects_by_what_it_remembers(leather):
    other = load_dataset("synthetic/wood", size=64, n_train=32)
    own, foreign = (evaluate(MemoryBank("resnet18", sigma=2, size=500).fit(train, progress=False), leather.test,
                             progress=False) for train in (leather.train, other.train))
    assert own.image_auroc > 0.8
    assert own.pixel_auroc > foreign.pixel_auroc + 0.05 and own.image_auroc > foreign.image_auroc + 0.05


def test_what_a_memory_cannot_do():
    with pytest.raises(RuntimeError, match=r"Call fit\(data\.train\) first"):
        MemoryBank("resnet18").predict(PICTURES)
    with pytest.raises(ValueError, match="no images to fill the memory bank"):
        MemoryBank("resnet18").fit(Images(torch.zeros(0, 3, 64, 64)), progress=False)
    with pytest.raises(ValueError, match="size must be a whole number from 1 .*got 0"):
        MemoryBank("resnet18", size=0)
