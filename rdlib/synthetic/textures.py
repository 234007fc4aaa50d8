"""Draw textures, which fill the whole image. Every seed draws another piece of the material."""
import numpy as np
from numpy.random import Generator

from rdlib.synthetic.noise import blur, cell_distances, cells, cosine, direction, rough_noise, smooth_noise, uniform
from rdlib.synthetic.surface import Fault, Surface, bell, box, colour, inside, mix, relief


def lattice(s: Surface, rng: Generator, pitch: float, tilt: float, start: tuple[float, float]) -> list[np.ndarray]:
    """Compute coordinates in cells of side `pitch`, tilted by up to `tilt` turns and shifted by a number in `start`."""
    right, down = (way / pitch for way in direction(uniform(rng, -tilt, tilt)))
    left, top = uniform(rng, *start), uniform(rng, *start)
    return [right * s.x + down * s.y + left, right * s.y - down * s.x + top]


def weave(s: Surface, rng: Generator, fault: Fault | None) -> None:
    """Draw a plain weave: vertical warp and horizontal weft yarns that pass over and under each other in turn."""
    pitch = 1 / 24
    u, v = (axis + 0.25 * smooth_noise(rng, s.size, 5) for axis in lattice(s, rng, pitch, 0.01, (3, 5)))
    (i, a), (j, b) = cells(u), cells(v)  # which yarn, and where across it:
    a, b = a - 0.5, b - 0.5  # from its axis
    over = (1 - 2 * ((i + j) & 1)).astype(np.float32)
    slim, tone = uniform(rng, 3.9, 5.3, (2, 64)), uniform(rng, 0.86, 1.12, (2, 64))
    warp = np.maximum(1 - slim[0].take(i) * a * a, 0) + 0.6 * over * cosine(b / 2)
    weft = np.maximum(1 - slim[1].take(j) * b * b, 0) - 0.6 * over * cosine(a / 2)
    height, upper = np.maximum(warp, weft), (warp > weft).astype(np.float32)
    fibre = mix(smooth_noise(rng, s.size, 150, 24), smooth_noise(rng, s.size, 24, 150), upper)
    shade = relief((height + 0.12 * fibre) * (0.3 * pitch), s.light) * np.clip(0.2 + 0.5 * height, 0.12, 1)
    shade *= mix(tone[1].take(j), tone[0].take(i), upper) * (1 + 0.2 * fibre)
    dyes = uniform(rng, 0.96, 1.04, (2, 3, 1, 1))
    s.image = mix(colour(188, 195, 202) * dyes[1], colour(112, 136, 170) * dyes[0], upper) * shade
    s.beneath, s.flesh = colour(24, 21, 19), colour(150, 158, 170)


def leather(s: Surface, rng: Generator, fault: Fault | None) -> None:
    """Draw grained leather: uneven pebbles with furrows between them, fine pores, and slow changes of tone."""
    drift = smooth_noise(rng, s.size, 4)
    u = (s.x * 24 + 0.9 * smooth_noise(rng, s.size, 7)) + (3 + 0.5 * drift)
    v = (s.y * 24 + 0.9 * smooth_noise(rng, s.size, 7)) + (3 + 0.5 * drift)
    first, second = cell_distances(rng, u, v)
    furrow = np.minimum((second - first) * 2.6, 1)
    pebble = furrow * (2 - furrow) * (1 - 0.3 * first)
    pores = smooth_noise(rng, s.size, 110)
    shade = relief(0.011 * pebble + 0.0006 * pores, s.light) * (0.5 + 0.5 * pebble)
    dye = colour(142, 84, 52) * uniform(rng, 0.97, 1.03, (3, 1, 1))
    s.image = dye * (shade * (1 + 0.1 * drift + 0.06 * pores))
    s.image = s.image + colour(170, 160, 150) * (0.5 * np.maximum(shade - 1.02, 0))
    s.beneath, s.flesh, s.edge = colour(30, 20, 15), colour(196, 160, 128), 0.012


def tiles(s: Surface, rng: Generator, fault: Fault | None) -> None:
    """Draw small glazed tiles, each with its own tone and speckles, between sandy joints."""
    pitch = 0.2
    (i, a), (j, b) = map(cells, lattice(s, rng, pitch, 0.006, (2, 3)))
    offsets, tone = uniform(rng, -0.02, 0.02, (2, 16, 16)), uniform(rng, 0.92, 1.08, (16, 16))
    a, b = a - 0.5 + offsets[0][i, j], b - 0.5 + offsets[1][i, j]
    outline = box(a, b, 0.44, 0.44, 0.07) + 0.008 * smooth_noise(rng, s.size, 40)
    body, bevel = inside(outline * pitch), np.clip(-outline * 9, 0, 1)
    cloud = rough_noise(rng, s.size, 11, 3)
    speckle = np.clip(3 * smooth_noise(rng, s.size, 100) - 2.1, 0, 1)
    glaze = colour(126, 158, 152) * (tone[i, j] * (1 + 0.10 * cloud)) * (1 - 0.4 * speckle)
    glaze = glaze * relief(0.014 * (bevel * (2 - bevel)) + 0.0012 * cloud, s.light)
    grain = smooth_noise(rng, s.size, 120)
    grout = colour(176, 170, 160) * ((0.8 + 0.16 * grain + 0.06 * cloud) * relief(0.002 * grain, s.light))
    s.image = mix(grout * (1 - 0.35 * blur(body, 0.012)), glaze, body)
    s.beneath, s.flesh, s.edge = colour(96, 76, 62), colour(188, 150, 122), 0.006


def wood(s: Surface, rng: Generator, fault: Fault | None) -> None:
    """Draw a planed plank: growth rings cut at a slant, pores and rays drawn along the grain."""
    bend = 0.22 * smooth_noise(rng, s.size, 2, 3) + 0.04 * smooth_noise(rng, s.size, 3, 9)
    across = s.x + (uniform(rng, -0.06, 0.06)) * s.y + 0.35 * bend
    rings = across * uniform(rng, 10, 12) + 0.35 * smooth_noise(rng, s.size, 1, 12) + uniform(rng, 0, 9)
    year = cells(rings)[1]  # early wood is pale and wide, late wood a dark line with a sharp end
    late = year * year * year * np.minimum((1 - year) * 9, 1)
    pores = np.clip(2.2 * smooth_noise(rng, s.size, 14, 190) - 0.9, 0, 1)
    fibre = smooth_noise(rng, s.size, 7, 150) + 0.6 * smooth_noise(rng, s.size, 22, 200)
    pale = colour(212, 170, 122) * uniform(rng, 0.97, 1.03, (3, 1, 1))
    s.image = mix(pale, colour(150, 98, 58), 0.75 * late) * (1 + 0.09 * fibre + 0.05 * bend)
    s.image = s.image * ((1 - 0.4 * pores) * relief(0.0007 * fibre, s.light))
    s.beneath, s.flesh, s.edge = colour(38, 24, 16), colour(120, 78, 44), 0.01


def mesh(s: Surface, rng: Generator, fault: Fault | None) -> None:
    """Draw a perforated steel sheet over a dark hollow: rows of round holes, each row shifted by half a step."""
    pitch = 0.118
    u, v = s.along(uniform(rng, -0.008, 0.008), 0, 0)
    left, top = uniform(rng, 4, 6), uniform(rng, 4, 6)
    j, b = cells(v * (1 / (0.866 * pitch)) + top)
    i, a = cells(u * (1 / pitch) + left + 0.5 * (j & 1).astype(np.float32))
    a, b = (a - 0.5) * pitch, (b - 0.5) * (0.866 * pitch)
    radius = np.full((32, 32), 0.3 * pitch, np.float32) + uniform(rng, -0.0006, 0.0006, (32, 32))
    if fault:  # "blocked": a hole that the punch has left closed, or half closed
        n, m = (int(s.size * uniform(fault.rng, 0.2, 0.8)) for _ in "xy")
        radius[j[m, n], i[m, n]] *= np.float32(max(0.0, 0.8 - fault.strength))
    rim = radius[j, i] - np.sqrt(a * a + b * b)  # above 0 in the hole
    steel = inside(rim)
    brushed = smooth_noise(rng, s.size, 200, 6) + 0.7 * smooth_noise(rng, s.size, 90, 3)
    cloud = smooth_noise(rng, s.size, 5)
    edge = bell(np.minimum(rim + 0.006, 0) * 120)
    metal = colour(170, 174, 180) * ((1 + 0.07 * brushed + 0.05 * cloud) * relief(-0.004 * edge, s.light, 1.2))
    deep = colour(30, 32, 36) * (1 + 0.5 * blur(steel, 0.03, (0.014 * s.light[0], 0.014 * s.light[1])))
    s.image = mix(deep, metal, steel)
    s.part, s.beneath, s.flesh, s.edge = steel, colour(26, 28, 32), colour(70, 70, 74), 0.004
