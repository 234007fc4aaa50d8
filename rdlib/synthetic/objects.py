"""Draw manufactured objects seen from above. Every seed changes their place, angle and light a little."""
import numpy as np
from numpy.random import Generator

from rdlib.synthetic.noise import angle, cells, cosine, direction, line_noise, norm, rough_noise, smooth_noise, uniform
from rdlib.synthetic.surface import Fault, Surface, bell, box, colour, inside, mix, relief, shadow


def placed(s: Surface, rng: Generator, place: tuple[float, float], tilt: float, half_u: float, half_v: float
           ) -> tuple[np.ndarray, np.ndarray]:
    """Choose a place and a tilt for an object. Return coordinates on it, and let defects fall within the half sides."""
    x, y, turns = uniform(rng, *place), uniform(rng, *place), uniform(rng, -tilt, tilt)

    def on_the_object(rng: Generator) -> tuple[float, float]:
        (right, down), u, v = direction(turns), uniform(rng, -half_u, half_u), uniform(rng, -half_v, half_v)
        return x + right * u - down * v, y + down * u + right * v

    s.spot = on_the_object
    return s.along(turns, x, y)


def gear(s: Surface, rng: Generator, fault: Fault | None) -> None:
    """Draw a steel gear with six round openings, at any angle, on a rubber mat."""
    x, y, turn, n = uniform(rng, 0.48, 0.52), uniform(rng, 0.48, 0.52), uniform(rng, 0, 1), 16
    dx, dy = s.x - x, s.y - y
    radius = norm(dx, dy) + np.float32(1e-6)
    theta = angle(dx, dy) + turn
    which, off = cells(theta * n)
    which, off = which % n, np.abs(off - 0.5)  # from the middle of the tooth, in its pitches
    k, turns = cells(theta * 6)
    k, turns = k % 6, (turns - 0.5) * (1 / 6)
    heights, openings, ragged = np.full(n, 0.07, np.float32), np.full(6, 0.05, np.float32), np.float32(0)
    if fault and fault.kind == "missing_hole":
        openings[fault.which(6)] = -0.05
    elif fault:  # "broken_tooth"
        heights[fault.which(n)] *= np.float32(0.55 - 0.55 * fault.strength)
        ragged = 0.01 * smooth_noise(fault.rng, s.size, 45) * (heights[which] < 0.065)
    teeth = radius - 0.335 - heights[which] * np.clip((0.31 - off) * 7, 0, 1) + ragged
    holes = openings[k] - norm(radius * cosine(turns) - 0.2, radius * cosine(turns - 0.25))
    outline = np.maximum.reduce([teeth, 0.075 - radius, holes])
    bevel = np.maximum(1 + outline * (1 / 0.012), 0)
    rings = line_noise(rng, 1024, 160).take(np.minimum(radius * 1400, 1023).astype(np.int32))
    facing = (s.light[0] * dx + s.light[1] * dy) / radius  # turned metal shines where the light crosses its rings
    facing *= facing
    shine = 0.34 + 0.025 * rings + (0.30 + 0.07 * rings) * facing * facing
    shine = shine * (1 + 0.05 * smooth_noise(rng, s.size, 8) + 0.04 * smooth_noise(rng, s.size, 90))
    steel = colour(246, 248, 252) * (shine * relief(-0.009 * bevel * bevel, s.light))
    body = inside(outline)
    mat = colour(52, 80, 90) * (1 + 0.2 * smooth_noise(rng, s.size, 120) + 0.08 * smooth_noise(rng, s.size, 6))
    s.image = mix(mat * shadow(s, body, 0.018), steel, body)
    s.part, s.beneath, s.flesh, s.edge = body, mat, colour(60, 62, 68), 0.004

    def between_hub_and_teeth(rng: Generator) -> tuple[float, float]:
        (right, down), radius = direction(uniform(rng, 0, 1)), uniform(rng, 0.12, 0.3)
        return x + radius * right, y + radius * down

    s.spot = between_hub_and_teeth


def capsule(s: Surface, rng: Generator, fault: Fault | None) -> None:
    """Draw a two-colored gelatine capsule with a printed mark, on felt."""
    u, v = placed(s, rng, (0.47, 0.53), 0.035, 0.26, 0.08)
    long, wide = 0.22, 0.15
    body, cap = box(u, v, long + wide, wide, wide), box(u + 0.19, v, long + wide - 0.18, wide + 0.008, wide)
    outline = np.minimum(body, cap)
    depth = np.clip(-outline * (1 / wide), 0, 1)
    roundness = np.sqrt(depth * (2 - depth))  # the height of a round section
    gel = mix(colour(232, 222, 196), colour(176, 62, 46), inside(cap, 0.004))
    gel = mix(gel, colour(70, 62, 84), 0.8 * inside(printed(u, v, fault), 0.006))
    cloudy = 1 + 0.03 * smooth_noise(rng, s.size, 14)
    lit = 0.45 + 0.55 * relief(0.16 * roundness, s.light, 0.55)
    seam = 1 - 0.3 * bell(np.abs(cap + 0.002) * 110) * inside(body)
    glint = 0.55 * bell((v + 0.062) * 28) * bell(u * (1 / (long + 0.08)))  # on the side of the lamp
    solid = inside(outline)
    felt = colour(74, 92, 74) * (1 + 0.16 * rough_noise(rng, s.size, 40, 3))
    gel = gel * (lit * seam * cloudy) + colour(255, 252, 246) * glint
    s.image = mix(felt * shadow(s, solid, 0.03), gel, solid)
    s.part, s.beneath, s.flesh, s.edge = solid, colour(92, 74, 58), colour(150, 120, 90), 0.004


def printed(u: np.ndarray, v: np.ndarray, fault: Fault | None) -> np.ndarray:
    """Compute the signed distance to a capsule's mark, two bars and a dot.

    "misprint" leaves a bar out, adds a dot or moves the mark.
    """
    bars, dots = [0.085, 0.145], [(0.22, 0.0)]
    if fault:
        change, bar = fault.which(3), fault.which(2)
        bars, dots = (([bars[1 - bar]], dots), (bars, [*dots, (0.29, 0.0)]), (bars, [(0.22, 0.075)]))[change]
    return np.minimum.reduce([*(box(u - at, v, 0.015, 0.075, 0.012) for at in bars),
                              *(norm(u - at, v - aside) - 0.026 for at, aside in dots)])


def connector(s: Surface, rng: Generator, fault: Fault | None) -> None:
    """Draw a plastic plug with two rows of six gold pins, between two ears with screw holes, on a bench."""
    u, v = placed(s, rng, (0.48, 0.52), 0.015, 0.27, 0.14)
    pitch, rows, columns = 0.1, 2, 6
    shell, well = box(u, v, 0.355, 0.19, 0.03), box(u, v, 0.315, 0.145, 0.02)
    outline = np.maximum(np.minimum(box(u, v, 0.44, 0.075, 0.03), shell), 0.022 - norm(np.abs(u) - 0.398, v))
    (i, a), (j, b) = cells(u * (1 / pitch) + columns / 2), cells(v * (1 / (1.3 * pitch)) + rows / 2)
    here = (i >= 0) & (i < columns) & (j >= 0) & (j < rows)
    i, j = np.clip(i, 0, columns - 1), np.clip(j, 0, rows - 1)
    shift, present = uniform(rng, -0.0015, 0.0015, (2, rows, columns)), np.ones((rows, columns), np.float32)
    if fault:
        row, column = fault.which(rows), fault.which(columns)
        present[row, column] = fault.kind != "missing_pin"
        if fault.kind == "bent_pin":
            way = np.array(direction(uniform(fault.rng, 0, 1)))
            shift[:, row, column] += ((0.01 + 0.015 * fault.strength) * way).astype(np.float32)
    a, b = (a - 0.5) * pitch, (b - 0.5) * (1.3 * pitch)
    socket = inside(box(a, b, 0.037, 0.045, 0.008)) * here
    tip = box(a - shift[0][j, i], b - shift[1][j, i], 0.0215, 0.0215, 0.006)
    pin = inside(tip) * here * present[j, i]
    pyramid = np.clip(-tip * (1 / 0.021), 0, 1)
    grain = smooth_noise(rng, s.size, 130)
    height = 0.006 * np.clip(-outline * 80, 0, 1) - 0.02 * np.clip(-well * 60, 0, 1) + 0.0004 * grain
    plastic = relief(height, s.light) * mix(1.0, 0.8, inside(well))
    plastic = colour(58, 66, 84) * (plastic * (1 + 0.04 * grain + 0.04 * smooth_noise(rng, s.size, 5)))
    plastic = mix(plastic, colour(14, 15, 19), socket)
    gold = colour(236, 192, 104) * (relief(0.013 * pyramid, s.light, 1.0) * (0.75 + 0.35 * pyramid))
    solid = inside(outline)
    bench = colour(166, 160, 148) * (1 + 0.045 * rough_noise(rng, s.size, 30, 3))
    s.image = mix(bench * shadow(s, solid, 0.025), mix(plastic, gold, pin), solid)
    s.part, s.beneath, s.flesh, s.edge = solid, colour(16, 17, 20), colour(225, 228, 235), 0.004


def blister(s: Surface, rng: Generator, fault: Fault | None) -> None:
    """Draw a strip of eight tablets under clear domes, on embossed foil."""
    u, v = placed(s, rng, (0.485, 0.515), 0.012, 0.36, 0.26)
    columns, rows, pitch_u, pitch_v = 4, 2, 0.205, 0.29
    card = box(u, v, 0.455, 0.335, 0.04)
    across, down = u * (1 / pitch_u) + columns / 2, v * (1 / pitch_v) + rows / 2
    i = np.clip(cells(across)[0], 0, columns - 1)  # beyond the outer pockets there is foil
    j = np.clip(cells(down)[0], 0, rows - 1)
    a, b = (across - i.astype(np.float32) - 0.5) * pitch_u, (down - j.astype(np.float32) - 0.5) * pitch_v
    tablet, present, other = tablets(s, rng, fault, a, b, i, j)
    dome = box(a, b, 0.078, 0.106, 0.075)
    tip = np.clip(-dome * (1 / 0.05), 0, 1)
    rise = np.sqrt(tip * (2 - tip))
    emboss = cosine((u + v) * 46) * cosine((u - v) * 46)
    crumple = smooth_noise(rng, s.size, 9) + 0.4 * smooth_noise(rng, s.size, 26)
    foil = colour(182, 186, 192) * (relief(0.0011 * emboss + 0.003 * crumple, s.light, 1.1) * (1 + 0.04 * crumple))
    edge = np.clip(-tablet * (1 / 0.018), 0, 1)
    chalk = mix(colour(226, 150, 120), colour(120, 158, 206), other)
    chalk = chalk * (relief(0.012 * edge * (2 - edge), s.light) * (1 + 0.05 * smooth_noise(rng, s.size, 100)))
    pocket = mix(foil * (0.72 + 0.1 * bell(dome * 12)), chalk, inside(tablet) * present)
    glint = 0.5 * bell(norm(a - 0.034 * s.light[0], b - 0.05 * s.light[1]) * 34)
    pocket = pocket * (0.5 + 0.5 * relief(0.02 * rise, s.light, 0.5)) + glint
    strip, pack = inside(card), mix(foil, pocket, inside(dome))
    table = colour(88, 74, 66) * (1 + 0.07 * rough_noise(rng, s.size, 26, 3))
    s.image = mix(table * shadow(s, strip, 0.02), pack, strip)
    s.part, s.beneath, s.flesh, s.edge = strip, colour(70, 60, 54), colour(160, 158, 154), 0.004


def tablets(s: Surface, rng: Generator, fault: Fault | None, a: np.ndarray, b: np.ndarray, i: np.ndarray,
            j: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the signed distance to the tablets, and where a tablet is there and where it is of another make.

    Each pixel is in a pocket (column i, row j), at (a, b) from the pocket's center. A fault changes one tablet.
    """
    shift = uniform(rng, -0.004, 0.004, (2, 2, 4))
    present, other = np.ones((2, 4), np.float32), np.zeros((2, 4), np.float32)
    outline = box(a - shift[0][j, i], b - shift[1][j, i], 0.062, 0.088, 0.06)
    if fault:
        row, column = fault.which(2), fault.which(4)
        present[row, column], other[row, column] = fault.kind != "empty", fault.kind == "wrong_tablet"
        if fault.kind == "broken_tablet":  # a piece is gone, along a rough line
            right, down = direction(uniform(fault.rng, 0, 1))
            lost = right * a + down * b - (0.055 - 0.06 * fault.strength)
            lost += 0.012 * smooth_noise(fault.rng, s.size, 30)
            outline = np.where((i == column) & (j == row), np.maximum(outline, lost), outline)
    return outline, present[j, i], other[j, i]
