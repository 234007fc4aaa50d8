"""From features to heatmaps: eq. 1 by hand, scipy's blur, torch's upsampling."""
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter

from rdlib.anomaly_map import blur_matrix, cosine_distance, fuse, gaussian_smooth, image_score, scale_maps

sides = st.integers(1, 40)


@given(st.data(), st.tuples(st.integers(1, 3), sides, sides), st.floats(0.05, 12))
def test_smoothing_is_scipys(data, shape, sigma):
    """From kernels of one pixel to those much wider than the image."""
    maps = data.draw(arrays(np.float32, shape, elements=st.floats(0, 6, width=32), fill=st.just(1.5)))
    ours = gaussian_smooth(torch.from_numpy(maps), sigma)
    expected = np.stack([gaussian_filter(m, sigma=sigma) for m in maps])
    assert ours.dtype == torch.float32 and ours.shape == maps.shape
    assert np.abs(ours.numpy() - expected).max() <= 1e-5


@pytest.mark.parametrize("shape", [(256, 256), (64, 96), (8, 300), (3, 2), (1, 1)])
@pytest.mark.parametrize("sigma", [0.1, 0.6, 4, 25])
def test_smoothing_at_real_sizes(shape, sigma):
    maps = np.random.default_rng(0).uniform(0, 6, (2, *shape))
    expected = np.stack([gaussian_filter(m, sigma=sigma, mode="reflect", truncate=4.0) for m in maps])
    assert np.abs(gaussian_smooth(torch.from_numpy(maps), sigma).numpy() - expected).max() <= 1e-10
    ours = gaussian_smooth(torch.from_numpy(maps.astype(np.float32)), sigma).numpy()
    assert np.abs(ours - expected).max() <= 1e-5
    assert ours.mean() == pytest.approx(maps.mean(), rel=1e-5)  # a reflecting border loses nothing


def test_smoothing_by_nothing_or_less():
    maps = torch.rand(2, 5, 7)
    assert torch.equal(gaussian_smooth(maps, 0), maps) and torch.equal(gaussian_smooth(maps, 0.05), maps)
    assert torch.equal(gaussian_smooth(maps), gaussian_smooth(maps, 4.0))
    with pytest.raises(ValueError, match=r"sigma must be a number in \[0, 256\]; got -1"):
        gaussian_smooth(maps, -1)


def test_smoothing_keeps_its_dtype_inside_autocast():
    """Figures and explorers smooth on their own, outside `predict`."""
    maps = torch.rand(2, 9, 9)
    expected = gaussian_smooth(maps, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        smoothed = gaussian_smooth(maps, 1.0)
    assert smoothed.dtype == torch.float32 and torch.equal(smoothed, expected)


def test_smoothing_has_a_gradient_wherever_it_was_first_used():
    blur_matrix.cache_clear()
    with torch.inference_mode():
        gaussian_smooth(torch.rand(1, 6, 6, dtype=torch.float64), 1.0)
    maps = torch.rand(1, 6, 6, dtype=torch.float64, requires_grad=True)
    gaussian_smooth(maps, 1.0).sum().backward()
    assert torch.allclose(maps.grad, torch.ones_like(maps))  # every row and column of the blur sums to 1


def by_hand(t, s):
    """Eq. 1, in numpy and float64."""
    t, s = t.double().numpy(), s.double().numpy()
    return 1 - (t * s).sum(1) / np.sqrt((t**2).sum(1) * (s**2).sum(1))


def features(seed=0, sides=(16, 8, 4)):
    """Three feature maps, fine to coarse."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(2, c, n, n, generator=draw) for c, n in zip((4, 8, 16), sides, strict=True)]


def test_distance_is_eq_1():
    for t, s in zip(features(0), features(1), strict=True):
        distance = cosine_distance(t, s)
        assert distance.shape == (2, *t.shape[2:]) and np.abs(distance.numpy() - by_hand(t, s)).max() < 1e-6
        assert torch.allclose(cosine_distance(t, 3 * t), torch.zeros(1), atol=1e-6)  # length does not count
        assert torch.allclose(cosine_distance(t, -t), torch.full((1,), 2.0), atol=1e-6)


def stretched(distance, size):
    """Bilinear with the corners kept: the definition, pixel by pixel, for one (H, W) map."""
    out = np.empty(size)
    for i in range(size[0]):
        for j in range(size[1]):
            y, x = (k * (own - 1) / (new - 1) for k, own, new in zip((i, j), distance.shape, size, strict=True))
            top, left = min(int(y), distance.shape[0] - 2), min(int(x), distance.shape[1] - 2)
            (a, b), (c, d) = distance[top:top + 2, left:left + 2]
            u, v = y - top, x - left
            out[i, j] = (1 - u) * ((1 - v) * a + v * b) + u * ((1 - v) * c + v * d)
    return out


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_maps_are_stretched_corner_to_corner(size):
    teacher, student = features(0), features(1)
    maps = scale_maps(teacher, student, size)
    assert maps.shape == (2, 3, *size)
    for k, (t, s) in enumerate(zip(teacher, student, strict=True)):
        expected = torch.nn.functional.interpolate(torch.from_numpy(by_hand(t, s))[:, None], size, mode="bilinear",
                                                   align_corners=True)[:, 0]
        assert torch.allclose(maps[:, k].double(), expected, atol=1e-5)
        assert np.abs(maps[1, k].numpy() - stretched(by_hand(t, s)[1], size)).max() < 1e-5
        corners = cosine_distance(t, s)[:, ::t.shape[2] - 1, ::t.shape[3] - 1]
        assert torch.allclose(maps[:, k, ::size[0] - 1, ::size[1] - 1], corners, atol=1e-6)


def test_scales_must_come_in_pairs():
    with pytest.raises(ValueError):
        scale_maps(features(0), features(1)[:2], (32, 32))


def test_fusion():
    maps = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]], [[0.5, 0.25]]]])
    assert fuse(maps).tolist() == [[[4.5, 6.25]]] and fuse(maps, "add").tolist() == fuse(maps).tolist()
    assert fuse(maps, "multiply").tolist() == [[[1.5, 2.0]]]
    with pytest.raises(ValueError, match="'mean'.*add, multiply"):
        fuse(maps, "mean")


def test_image_score_is_the_maximum_of_each_map():
    maps = torch.tensor([[[0.1, 0.9], [0.3, 0.2]], [[-3.0, -1.0], [-2.0, -4.0]]])
    assert torch.equal(image_score(maps), torch.tensor([0.9, -1.0]))
