"""The benchmark's baseline gives the official numbers too: the kit is not compared with a straw man."""
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from parity import assert_close, batch, official_outputs, official_state

from rdlib.metrics import aupro_per_image
from rdlib.official import OFFICIAL_OCBE, OFFICIAL_STUDENT, rename_official

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
from official_recipe import OfficialRecipe, load_filled, pro


@pytest.fixture(params=["resnet18", "wide_resnet50_2"])
def recipe(request):
    """The baseline on the filled weights, and the official outputs."""
    recipe = OfficialRecipe(request.param)
    load_filled(recipe, official_state(request.param, "encoder"),
                rename_official(official_state(request.param, "bn"), OFFICIAL_OCBE),
                rename_official(official_state(request.param, "decoder"), OFFICIAL_STUDENT))
    return recipe, official_outputs(request.param)


def test_features_and_embedding_are_the_official_ones(recipe):
    recipe, expected = recipe
    recipe.bottleneck.eval(), recipe.decoder.eval()
    with torch.no_grad():
        inputs = recipe.encode(torch.from_numpy(expected["x"]))
        embedding = recipe.bottleneck(inputs)
        outputs = recipe.decoder(embedding)
    assert_close(embedding, expected["embedding"])
    for k in range(3):
        assert_close(inputs[k], expected[f"teacher{k + 1}"])
        assert_close(outputs[k], expected[f"student{k + 1}"])


def test_maps_are_the_official_ones(recipe):
    recipe, expected = recipe
    recipe.bottleneck.eval(), recipe.decoder.eval()
    maps = [recipe.anomaly_map(torch.from_numpy(x[None])) for x in expected["x"]]
    assert_close(np.stack(maps), expected["anomaly_map_smoothed"])


def test_first_training_loss_is_the_official_one_and_the_encoder_is_in_the_graph(recipe):
    recipe, expected = recipe
    recipe.train()
    loss = recipe.train_step(batch(0))
    assert loss == pytest.approx(expected["train_losses_float64"][0], rel=1e-5)
    assert recipe.encoder.layer1[0].conv1.weight.grad is not None


def test_per_image_pro_agrees_with_the_kits():
    rng = np.random.default_rng(0)
    masks = np.zeros((3, 32, 32), bool)
    masks[0, 4:9, 5:20], masks[1, 20:, :4], masks[2, 10:14, 10:14], masks[2, 25:30, 25:31] = True, True, True, True
    maps = (rng.random((3, 32, 32)) + masks).astype(np.float32)
    assert np.mean([pro(m, a) for m, a in zip(masks, maps, strict=True)]) == pytest.approx(
        aupro_per_image(masks, maps), abs=1e-6)
