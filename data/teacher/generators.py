"""Draw procedural image classes: a class is a draw of parameters, an image of it a new draw of everything else.

A family (`textures`, `shapes`) gives an image's values; `image_class` adds what all share: colors, relief, light,
blur, sensor noise. Two in five classes are gray and two in five of low contrast, as inspection images are.
"""
from collections.abc import Callable

import numpy as np
import shapes
import textures
from fields import Field, chance, filtered, grid, log_uniform, relief, smooth, spectrum
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

FAMILIES = {f.__name__: f for f in (textures.spectral, textures.grain, textures.cells, textures.lattice,
                                    textures.fractal, textures.stripes, textures.labyrinth, shapes.leaves,
                                    shapes.strokes, shapes.objects)}


def blend(rng: Generator, size: int) -> textures.Painter:
    """Draw two families side by side, parted by a soft random border."""
    first, second = (FAMILIES[name](rng, size) for name in rng.choice(list(FAMILIES), 2))
    border, softness, level = spectrum(size, rng.uniform(2, 3)), log_uniform(rng, 0.05, 1), rng.normal(0, 0.4)
    offset = rng.uniform(-0.4, 0.4)

    def paint(draw: Generator) -> Field:
        part = smooth(filtered(draw, border), level, level + softness)
        return part * first(draw) + (1 - part) * (second(draw) + offset)
    return paint


FAMILIES |= {"blend": blend, "weave": textures.weave}


def palette(rng: Generator, chroma: float) -> NDArray[np.float32]:
    """Draw (256, 3) colors for the values from 0 to 1: two to four stops around a base tone; with `chroma` 0, grays."""
    stops = int(rng.integers(2, 5))
    contrast = log_uniform(rng, 0.03, 0.15) if chance(rng, 0.4) else rng.uniform(0.15, 0.6)
    tones = np.linspace(-1, 1, stops) * rng.choice([-1, 1]) if chance(rng, 0.6) else rng.uniform(-1, 1, stops)
    colours = rng.uniform(0.2, 0.8) + 0.25 * chroma * rng.normal(0, 1, 3)
    colours = colours + contrast * (tones[:, None] + chroma * rng.normal(0, 0.7, (stops, 3)))
    colours, places = np.clip(colours, 0.03, 0.97), np.linspace(0, 255, stops)
    return np.stack([np.interp(np.arange(256), places, channel) for channel in colours.T], 1).astype(np.float32)


def image_class(family: str, rng: Generator, size: int) -> Callable[[Generator], NDArray[np.uint8]]:
    """Draw a class of `family`; what is returned draws an image of it, (3, S, S) uint8."""
    chroma = 0.0 if chance(rng, 0.4) else rng.uniform(0.1, 0.8)
    values, colours, contrast = FAMILIES[family](rng, size), palette(rng, chroma), rng.uniform(0.7, 1.2)
    gain, light = 0.0 if chance(rng, 0.6) else rng.uniform(0.3, 1.5), rng.uniform(0, 2 * np.pi)
    mixed, blur, noise = rng.uniform(0.4, 1), rng.choice([0, 0, 0.5, 0.8, 1.2]), rng.uniform(0, 0.025)
    tilt, slow = log_uniform(rng, 0.01, 0.25), spectrum(size, 3)

    def paint(draw: Generator) -> NDArray[np.uint8]:
        value = values(draw)
        if gain:
            lit = relief(gaussian_filter(value, 0.7), light + draw.normal(0, 0.15), gain)
            value = mixed * lit + (1 - mixed) * value
        if blur:
            value = gaussian_filter(value, blur * draw.uniform(0.6, 1.4))
        index = np.clip(255 * (0.5 + contrast * draw.uniform(0.85, 1.15) * (value - 0.5)), 0, 255)
        image = colours[index.astype(np.uint8)] + (0.02 * chroma * draw.standard_normal(3, dtype=np.float32))
        x, y = grid(size)
        angle = draw.uniform(0, 2 * np.pi)
        lamp = 1 + tilt * (np.cos(angle) * x + np.sin(angle) * y + 0.25 * filtered(draw, slow)) + draw.normal(0, 0.04)
        grain = noise * draw.uniform(0.3, 1.5) * draw.standard_normal((size, size, 3), dtype=np.float32)
        image = image * lamp[..., None].astype(np.float32) + grain
        return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(2, 0, 1)
    return paint
