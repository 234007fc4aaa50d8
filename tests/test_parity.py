"""The kit's networks, maps and losses give the official code's numbers: the reproduction where no one can argue."""
import pytest
import torch
from parity import assert_close, batch, official_outputs, official_state

from rdlib import ReverseDistillation
from rdlib.anomaly_map import fuse, gaussian_smooth, scale_maps
from rdlib.losses import flattened_cosine_loss, positional_cosine_loss

BACKBONES = ["resnet18", "wide_resnet50_2"]


@pytest.fixture(scope="module", params=BACKBONES)
def official(request, tmp_path_factory):
    """A model with the official filled weights, through the public loaders; and the official outputs."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.save(official_state(request.param, "encoder"), folder / "teacher.pth")
    torch.save({part: official_state(request.param, part) for part in ("bn", "decoder")}, folder / "checkpoint.pth")
    model = ReverseDistillation(request.param, weights=folder / "teacher.pth", normalize=False)
    return model.load_official(folder / "checkpoint.pth").eval(), official_outputs(request.param)


@torch.no_grad()
def test_features_embedding_maps_and_losses(official):
    model, expected = official
    images = torch.from_numpy(expected["x"])
    teacher, student = model(images)
    for k in range(3):
        assert_close(teacher[k], expected[f"teacher{k + 1}"])
        assert_close(student[k], expected[f"student{k + 1}"])
    assert_close(model.ocbe(teacher), expected["embedding"])
    maps = scale_maps(teacher, student, images.shape[-2:])
    for k in range(3):
        assert_close(maps[:, k], expected[f"map{k + 1}"])
    assert_close(fuse(maps), expected["anomaly_map"])
    assert_close(gaussian_smooth(fuse(maps), sigma=4), expected["anomaly_map_smoothed"])
    assert_close(flattened_cosine_loss(teacher, student), expected["loss_flattened"])
    assert_close(positional_cosine_loss(teacher, student), expected["loss_per_position"])


def test_predict_is_the_official_pipeline(official):
    model, expected = official
    images = torch.from_numpy(expected["x"])
    model.set_trained(images.shape[2:], images.aminmax())  # they are normal noise, outside [0, 1]
    maps, scores = model.train().predict(images, batch_size=1)
    assert model.ocbe.training, "predict must leave the mode as it found it"
    assert_close(maps, expected["anomaly_map_smoothed"])
    assert_close(scores, expected["anomaly_map_smoothed"].max(axis=(1, 2)))


def train(model, dtype, steps):
    """The recorded protocol, in a plain loop: Adam over OCBE and student, teacher frozen.

    In torch's default layout, as recorded. Channels last rounds otherwise, and Adam amplifies it at every step: with
    the Wide-ResNet the float64 losses then differ by 2e-15, 2e-12, 1e-9, ... and by 2e-4 at the ninth step.
    """
    model = model.to(dtype).to(memory_format=torch.contiguous_format).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005, betas=(0.5, 0.999))
    losses = []
    for i in range(steps):
        loss = flattened_cosine_loss(*model(batch(i).to(dtype)))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.tensor(losses, dtype=torch.float64).numpy()


@pytest.mark.parametrize("official", ["resnet18", pytest.param("wide_resnet50_2", marks=pytest.mark.slow)],
                         indirect=True)
def test_ten_training_losses_in_float64(official):
    model, expected = official
    state = {key: value.clone() for key, value in model.state_dict().items()}
    losses = train(model, torch.float64, 10)
    model.float().load_state_dict(state)
    model.eval()
    assert_close(losses, expected["train_losses_float64"], tolerance=1e-6)


def test_first_training_loss_in_float32(official):
    model, expected = official
    state = {key: value.clone() for key, value in model.state_dict().items()}
    loss = train(model, torch.float32, 1)
    model.load_state_dict(state)
    model.eval()
    assert_close(loss, expected["train_losses_float64"][:1], tolerance=1e-5)
