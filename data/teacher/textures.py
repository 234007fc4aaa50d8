"""Draw families of textures: noise, machined surfaces, Voronoi cells, lattices, fractals, stripes, labyrinths, weaves.

Each is a function (rng, size) -> painter that draws a class's parameters; the painter takes another rng and gives one
image's values, float32 (S, S), about in [0, 1].
"""
from collections.abc import Callable

import numpy as np
from fields import (
    Field,
    bump,
    chance,
    filtered,
    grid,
    inside,
    log_uniform,
    lookup,
    random_spectrum,
    smooth,
    spectrum,
    turned,
)
from numpy.random import Generator
from scipy.fft import irfft2, rfft2
from scipy.spatial import cKDTree

Painter = Callable[[Generator], Field]


def spectral(rng: Generator, size: int) -> Painter:
    """Draw filtered noise through a non-linearity."""
    amplitude, k, t = random_spectrum(rng, size), log_uniform(rng, 1, 6), rng.normal(0, 0.7)
    shapes = (lambda x: 0.5 + 0.2 * x, lambda x: 0.5 + 0.2 * x, lambda x: 1 - np.minimum(np.abs(x - t), 1.5) / 1.5,
              lambda x: 1 / (1 + np.exp(-3 * k * (x - t))), lambda x: 0.5 + 0.5 * np.sin(k * x),
              lambda x: np.floor((x + 3) * k) / (6 * k), lambda x: np.exp(-np.maximum(x - t, 0) * k))
    shape = shapes[rng.integers(len(shapes))]
    return lambda draw: shape(filtered(draw, amplitude))


def grain(rng: Generator, size: int) -> Painter:
    """Draw near-uniform surfaces: brushed, cast or ground metal, stone, skin. Streaks, slow shading, a few pits."""
    angle, pits = rng.uniform(0, np.pi), rng.uniform(2.2, 4.0)
    layers = [spectrum(size, rng.uniform(1.0, 2.0)),
              spectrum(size, rng.uniform(0, 0.8), angle, log_uniform(rng, 1, 40)),
              spectrum(size, 0, angle, log_uniform(rng, 1, 4), (log_uniform(rng, 8, size / 4), 0.5))]
    weights, depth = rng.dirichlet([0.7, 1.0, 0.5]) * 0.25, rng.uniform(-0.4, 0.4)
    speck = spectrum(size, 0, angle, log_uniform(rng, 1, 3), (log_uniform(rng, 6, size / 5), 0.4))

    def paint(draw: Generator) -> Field:
        value = 0.5 + sum(w * filtered(draw, layer) for w, layer in zip(weights, layers, strict=True))
        return value + depth * smooth(filtered(draw, speck), pits, pits + 0.8)
    return paint


def cells(rng: Generator, size: int) -> Painter:
    """Draw Voronoi fields: distance to the nearest site, distance between the two nearest, flat cells, edges."""
    count, angle, stretch = int(log_uniform(rng, 8, 220)), rng.uniform(0, np.pi), log_uniform(rng, 1, 3)
    kind, width, regular = rng.integers(4), rng.uniform(0.05, 0.4), rng.uniform(0, 0.9)
    x, y = turned(size, angle, stretch)
    points = np.stack([x.ravel(), y.ravel()], 1)

    def paint(draw: Generator) -> Field:
        side = int(np.ceil(np.sqrt(count)))
        lattice = (np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2) + 0.5) / side - 0.5
        places = regular * lattice + (1 - regular) * draw.uniform(-0.5, 0.5, lattice.shape)
        sites = places * (1.5, 1.5 * stretch)
        distance, nearest = cKDTree(sites).query(points, k=2)
        pitch = 1.5 * np.sqrt(stretch) / side
        first, gap = distance[:, 0] / pitch, (distance[:, 1] - distance[:, 0]) / pitch
        edge = smooth(gap, 0, width)
        tones = draw.random(len(sites))[nearest[:, 0]]
        value = (first, gap, tones * edge, 0.8 * edge + 0.2 * tones)[kind]
        return value.reshape(size, size).astype(np.float32)
    return paint


def motif(rng: Generator) -> Field:
    """Draw a small shape, (32, 32) in [0, 1], 0 at its border: a random outline, filled, as a ring, or textured."""
    x, y = grid(32)
    depth = inside(bump(rng, int(rng.integers(1, 9)), rng.uniform(0, 0.8)) * rng.uniform(0.22, 0.45), x, y)
    shape = smooth(depth, 0, rng.uniform(0.1, 0.9))
    if chance(rng, 0.35):
        shape = shape * (1 - smooth(depth, 0.3, 0.5))
    if chance(rng, 0.3):
        shape = shape * (0.6 + 0.4 * np.tanh(filtered(rng, spectrum(32, 1.5))))
    return shape.astype(np.float32)


def lattice(rng: Generator, size: int) -> Painter:
    """Draw motifs on a lattice, bricks or rows shifted; each may be displaced, turned or of its own tone."""
    pitch, angle, aspect = log_uniform(rng, 7, 40) / size, rng.uniform(0, np.pi), log_uniform(rng, 0.6, 1.7)
    shift, jitter = rng.choice([0, 0.5, rng.random()]), rng.choice([0, 0.12])
    spin, tones = rng.choice([0, np.pi]), rng.random()
    shape, ground = motif(rng), random_spectrum(rng, size)
    grit = rng.uniform(0, 0.1)

    def paint(draw: Generator) -> Field:
        x, y = turned(size, angle + draw.normal(0, 0.06))
        x, y = (x + draw.random()) / pitch, (y + draw.random()) / (pitch * aspect)
        row = np.floor(y).astype(np.int32)
        x = x + shift * row
        column = np.floor(x).astype(np.int32)
        key = (row * 71 + column) % 4096
        own = draw.random((4, 4096), dtype=np.float32)[:, key]  # of each cell: place, turn and tone
        u, v = x - column - 0.5 + jitter * (own[0] - 0.5), (y - row - 0.5 + jitter * (own[1] - 0.5))
        turn = spin * own[2]
        u, v = np.cos(turn) * u + np.sin(turn) * v, np.cos(turn) * v - np.sin(turn) * u
        return lookup(shape, u, v) * (1 - tones * 0.7 * own[3]) + grit * filtered(draw, ground)
    return paint


def fractal(rng: Generator, size: int) -> Painter:
    """Draw attractors of iterated function systems, drawn by the chaos game; density on a logarithmic scale."""
    count = int(rng.integers(2, 6))
    maps = rng.normal(0, 0.55, (count, 2, 2)).astype(np.float32)
    norms = np.linalg.norm(maps, 2, axis=(1, 2), keepdims=True)
    maps = maps * np.minimum(1, rng.uniform(0.55, 0.85) / norms)
    shifts = rng.uniform(-1, 1, (count, 2)).astype(np.float32)

    def paint(draw: Generator) -> Field:
        a, b = maps + draw.normal(0, 0.03, maps.shape), shifts + draw.normal(0, 0.03, shifts.shape)
        points, seen = draw.uniform(-1, 1, (1500, 2)), []
        for step in range(24):
            which = draw.integers(count, size=len(points))
            points = np.einsum("nij,nj->ni", a[which], points) + b[which]
            if step >= 6:
                seen.append(points)
        places = np.concatenate(seen)
        angle = draw.uniform(-0.4, 0.4)
        places = (places - places.mean(0)) @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        places = (places / (3.2 * places.std()) * draw.uniform(0.8, 1.2) + 0.5) * size
        x, y = places.astype(np.int32).T
        kept = (x >= 0) & (x < size) & (y >= 0) & (y < size)
        density = np.log1p(np.bincount(y[kept] * size + x[kept], minlength=size * size)).reshape(size, size)
        return (density / (density.max() + 1e-6)).astype(np.float32)
    return paint


def stripes(rng: Generator, size: int) -> Painter:
    """Draw gratings and rings, bent by slow noise; one, or two crossed."""
    rings, frequency, angle = chance(rng, 0.25), log_uniform(rng, 3, size / 5), rng.uniform(0, np.pi)
    bend, slow = log_uniform(rng, 0.02, 1.2), spectrum(size, rng.uniform(1.5, 3))
    hard, duty, crossed = log_uniform(rng, 0.3, 6), rng.uniform(-0.7, 0.7), chance(rng, 0.25)
    steps, second = rng.choice([0, 0, 0, 3, 5]), rng.uniform(0.5, 1.5)

    def wave(phase: Field) -> Field:
        value = 1 / (1 + np.exp(-2 * hard * (np.sin(2 * np.pi * phase) - duty)))
        return np.floor(value * steps) / steps if steps else value

    def paint(draw: Generator) -> Field:
        x, y = turned(size, angle + draw.normal(0, 0.05))
        x = np.hypot(x - draw.uniform(-0.4, 0.4), y - draw.uniform(-0.4, 0.4)) if rings else x + draw.random()
        value = wave(frequency * x + bend * filtered(draw, slow))
        return 0.5 * (value + wave(frequency * second * y + bend * filtered(draw, slow))) if crossed else value
    return paint


def labyrinth(rng: Generator, size: int) -> Painter:
    """Draw spots and worms, as reactions that spread make them: noise band-passed and squashed, again and again."""
    band = spectrum(size, 0, rng.uniform(0, np.pi), log_uniform(rng, 1, 2.5), (log_uniform(rng, 5, size / 6), 0.25))
    bias, gain, rounds = rng.normal(0, 0.5), rng.uniform(1, 4), int(rng.integers(2, 6))

    def paint(draw: Generator) -> Field:
        value = filtered(draw, band)
        for _ in range(rounds):
            value = irfft2(rfft2(np.tanh(gain * value + bias)) * band, s=(size, size))
            value = value / (value.std() + 1e-6)
        return 0.5 + 0.5 * np.tanh(gain * value + bias)
    return paint


def weave(rng: Generator, size: int) -> Painter:
    """Draw two sets of yarns that pass over and under each other in a repeated pattern."""
    threads, angle, fibre = log_uniform(rng, 8, 34), rng.uniform(0, np.pi), rng.uniform(0, 0.2)
    over, tones = rng.random((int(rng.integers(2, 6)), int(rng.integers(2, 6)))) < 0.5, rng.uniform(0.3, 1, 2)
    slow, fine, loose = spectrum(size, 2), spectrum(size, 0.3), rng.uniform(0, 0.12)

    def paint(draw: Generator) -> Field:
        x, y = turned(size, angle + draw.normal(0, 0.05))
        x, y = (threads * c + draw.random() * 9 + loose * filtered(draw, slow) for c in (x, y))
        i, j = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
        u, v = np.abs(x - i - 0.5), np.abs(y - j - 0.5)
        warp = tones[0] * np.cos(2.6 * u) * (0.7 + 0.3 * np.cos(3 * v))
        weft = tones[1] * np.cos(2.6 * v) * (0.7 + 0.3 * np.cos(3 * u))
        value = np.where(over[i % over.shape[0], j % over.shape[1]], warp, weft)
        return value + fibre * filtered(draw, fine)
    return paint
