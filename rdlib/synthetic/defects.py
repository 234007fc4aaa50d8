"""Damage a surface with layers of paint over the good image.

Each function takes the surface, a random stream and a strength in (0, 1], from barely visible to obvious. Strength
makes a defect larger and more opaque. A layer is a cover (H, W) in [0, 1] and a paint. The paint is linear light,
(3, H, W) or (3, 1, 1).
"""
import numpy as np
from numpy.random import Generator

from rdlib.synthetic.noise import blur, cosine, rough_noise, smooth_noise, uniform
from rdlib.synthetic.surface import Layers, Surface, bell, blob, colour, curve, inside, mix, relief, stroke


def seen(strength: float) -> float:
    """Return the opacity of a defect, in [0.3, 1]. Above a strength of 0.7, only its size grows."""
    return min(0.3 + strength, 1)


def scratch(s: Surface, rng: Generator, strength: float) -> Layers:
    """Draw a scratch: a dark groove with a bright burr on the side that faces the lamp."""
    points = curve(rng, *s.spot(rng), uniform(rng, 0.16, 0.24) + 0.14 * strength, 0.08)
    distance, place = stroke(s, points)
    taper = 0.35 + 2.6 * place * (1 - place)
    groove = inside(distance - (0.003 + 0.007 * strength) * taper)
    burr = inside(stroke(s, points + 0.01 * np.array(s.light, np.float32))[0] - (0.002 + 0.005 * strength) * taper)
    return [(burr * s.part * (0.8 * seen(strength)), s.image + 0.4 * (1.1 - s.image)),
            (groove * s.part * (0.9 * seen(strength)), 0.3 * s.flesh + 0.1 * s.image)]


def crack(s: Surface, rng: Generator, strength: float) -> Layers:
    """Draw a jagged crack with a branch. It shows the material inside, mostly dark, pale in stressed plastic."""
    trunk = curve(rng, *s.spot(rng), uniform(rng, 0.2, 0.3) + 0.15 * strength, 0.12)
    start = trunk[int(rng.integers(10, 22))]
    branch = curve(rng, float(start[0]), float(start[1]), 0.22, 0.1)[16:]
    jag = uniform(rng, -0.006, 0.006, (33, 2))
    gap = np.full((s.size, s.size), 1, np.float32)
    for points, width in ((trunk + jag, 1.0), (branch + jag[:17], 0.7)):
        distance, place = stroke(s, points)
        gap = np.minimum(gap, distance - (0.0024 + 0.005 * strength) * width * (1.15 - place))
    lip = bell(np.maximum(gap, 0) * 90) * 0.25
    return [(lip * s.part * seen(strength), 0.5 * s.image),
            (inside(gap) * s.part * (0.95 * seen(strength)), 0.25 * s.flesh + 0.06 * s.image)]


def cut(s: Surface, rng: Generator, strength: float) -> Layers:
    """Draw a gaping slit, wide in the middle."""
    distance, place = stroke(s, curve(rng, *s.spot(rng), uniform(rng, 0.18, 0.24) + 0.08 * strength, 0.06))
    return torn(s, rng, distance - 0.001 - (0.032 + 0.055 * strength) * place * (1 - place), strength)


def hole(s: Surface, rng: Generator, strength: float) -> Layers:
    """Draw a ragged opening."""
    radius = uniform(rng, 0.026, 0.036) + 0.026 * strength
    return torn(s, rng, blob(s, rng, *s.spot(rng), radius, 0.4), strength)


def torn(s: Surface, rng: Generator, distance: np.ndarray, strength: float) -> Layers:
    """Draw a cut or a hole: the rim sinks and darkens, and fibers stand over the ground beneath."""
    fringe = distance + 0.3 * s.edge * smooth_noise(rng, s.size, 70)
    depth = np.clip(0.3 - distance * 110, 0, 1)  # light still falls on the walls
    return [(inside(distance - 0.4 * s.edge, s.edge) * s.part * (0.55 * seen(strength)), s.image * 0.4),
            (inside(fringe) * s.part * seen(strength), mix(0.5 * s.flesh + 0.15 * s.image, s.beneath, depth))]


def dent(s: Surface, rng: Generator, strength: float) -> Layers:
    """Draw a dent: the surface sinks smoothly, dark towards the lamp and bright away from it."""
    radius = uniform(rng, 0.04, 0.055) + 0.025 * strength
    distance = blob(s, rng, *s.spot(rng), radius, 0.12)
    depth = np.clip(-distance * (1 / radius), 0, 1)
    hollow = depth * depth * (3 - 2 * depth)
    shading = relief((-0.008 - 0.03 * strength) * hollow, s.light, 1.0) * (1 - 0.25 * strength * hollow)
    return [(inside(distance, 0.008) * s.part, s.image * shading)]


def stain(s: Surface, rng: Generator, strength: float) -> Layers:
    """Draw a dried liquid that tints the surface, most at its rim."""
    tint = ((190, 140, 80), (120, 130, 150), (150, 165, 110))[int(rng.integers(3))]
    distance = blob(s, rng, *s.spot(rng), uniform(rng, 0.05, 0.085) + 0.02 * strength, 0.5)
    rim = 0.7 + 0.3 * bell(distance * 60)
    return [(inside(distance, 0.014) * rim * s.part * (0.9 * seen(strength)), s.image * colour(*tint))]


def contamination(s: Surface, rng: Generator, strength: float) -> Layers:
    """Draw rust, dirt or glue in crumbs, thick in the middle and scattered around it."""
    dirt = ((118, 70, 34), (52, 46, 40), (196, 178, 120))[int(rng.integers(3))]
    distance = blob(s, rng, *s.spot(rng), uniform(rng, 0.042, 0.06) + 0.025 * strength, 0.4)
    grain = rough_noise(rng, s.size, 36, 2)
    shading = relief(0.004 * grain, s.light)
    return [(inside(distance + 0.022 * grain, 0.008) * s.part * (0.95 * seen(strength)), colour(*dirt) * shading)]


def thread(s: Surface, rng: Generator, strength: float) -> Layers:
    """Draw a loose twisted thread on the surface, with its shadow on the side away from the lamp."""
    points, radius = curve(rng, *s.spot(rng), uniform(rng, 0.35, 0.55), 0.8), 0.0045 + 0.0045 * strength
    dye = ((176, 40, 44), (238, 226, 190), (40, 44, 70))[int(rng.integers(3))]
    fallen = stroke(s, points - 0.008 * np.array(s.light, np.float32))[0]
    distance, place = stroke(s, points)
    shading = relief(0.6 * np.sqrt(np.maximum(radius * radius - distance * distance, 0)), s.light)
    return [(inside(fallen - radius, 0.01) * (0.6 * seen(strength)), s.image * 0.35),
            (inside(distance - radius) * seen(strength), colour(*dye) * shading * (0.9 + 0.25 * cosine(64 * place)))]


def scuff(s: Surface, rng: Generator, strength: float) -> Layers:
    """Draw a rubbed patch: fine parallel scratches that remove the color."""
    x, y = s.spot(rng)
    u, v = s.along(uniform(rng, 0, 1), x, y)
    patch = bell(u * (1 / (0.09 + 0.05 * strength))) * bell(v * (1 / (0.04 + 0.025 * strength)))
    lines = smooth_noise(rng, s.size, 5, 160) if rng.integers(2) else smooth_noise(rng, s.size, 160, 5)
    worn = np.clip(3 * patch + 1.2 * lines - 0.9, 0, 1) * np.minimum(4 * patch, 1)
    return [(worn * s.part * (0.75 * seen(strength)), s.image + 0.4 * (1.05 - s.image))]


def fold(s: Surface, rng: Generator, strength: float) -> Layers:
    """Draw a crease: a ridge with a lit and a shaded flank."""
    distance, place = stroke(s, curve(rng, *s.spot(rng), uniform(rng, 0.35, 0.5), 0.1), 0.06)
    width = 0.018 + 0.016 * strength
    ridge = bell(distance * (1 / width)) * np.minimum(12 * place * (1 - place), 1)
    shading = relief((0.007 + 0.02 * strength) * blur(ridge, 0.012), s.light, 1.0)
    return [(np.minimum(4 * ridge, 1) * s.part, s.image * shading)]
