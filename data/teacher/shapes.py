"""Draw families of shapes: dead leaves, drawings, lit objects on a ground. Painters as in `textures`."""
import numpy as np
from fields import Field, bump, chance, filtered, grid, inside, log_uniform, random_spectrum, relief, smooth
from numpy.random import Generator
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from textures import Painter


def leaves(rng: Generator, size: int) -> Painter:
    """Draw dead leaves: shapes of power-law sizes that hide one another; plain, shaded or textured."""
    count, power = int(log_uniform(rng, 40, 200)), rng.uniform(1.5, 3.5)
    small, large = rng.uniform(1.5, 5), rng.uniform(0.1, 0.35) * size
    outlines = [bump(rng, int(rng.integers(1, 8)), rng.uniform(0, 0.6)) for _ in range(3)]
    slant, spread = log_uniform(rng, 1, 3), rng.random() * np.pi
    shade, texture = rng.uniform(0, 0.3), rng.uniform(0, 0.15)
    tones, grains = rng.random(int(rng.integers(2, 6))), random_spectrum(rng, size)
    light = rng.uniform(0, 2 * np.pi)

    def paint(draw: Generator) -> Field:
        image = np.full((size, size), tones[0], np.float32)
        first, last = small ** (1 - power), large ** (1 - power)
        radii = (first + draw.random(count) * (last - first)) ** (1 / (1 - power))
        radii[: count // 12] = large  # the oldest, which cover the ground
        for radius in radii:
            cx, cy = draw.uniform(0, size, 2)
            x0, x1, y0, y1 = (int(np.clip(v, 0, size)) for v in (cx - 2 * radius, cx + 2 * radius + 1,
                                                                 cy - 2 * radius, cy + 2 * radius + 1))
            dx, dy = np.arange(x0, x1) - cx, (np.arange(y0, y1) - cy)[:, None]
            angle = draw.uniform(-spread, spread)
            u, v = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
            u, v = u / radius, v / radius
            cover = np.clip(inside(outlines[draw.integers(3)], u, slant * v) * radius + 0.5, 0, 1)
            tone = tones[draw.integers(len(tones))] + draw.normal(0, 0.06)
            tone = tone + shade * (np.cos(light) * dx + np.sin(light) * dy) / radius
            image[y0:y1, x0:x1] += cover * (tone - image[y0:y1, x0:x1])
        return image + texture * filtered(draw, grains)
    return paint


def strokes(rng: Generator, size: int) -> Painter:
    """Draw strokes: lines, bent lines, polygons, rectangles or arcs of a few tones and widths, over faint noise."""
    kind, count = rng.integers(5), int(log_uniform(rng, 6, 90))
    length, width = log_uniform(rng, 0.08, 0.8) * size, log_uniform(rng, 1, 10)
    lean, spread, filled = rng.uniform(0, np.pi), rng.choice([0.1, 0.5, np.pi]), chance(rng, 0.5)
    tones, ground = rng.random(int(rng.integers(1, 4))), random_spectrum(rng, size)
    grit, knots = rng.uniform(0, 0.12), rng.integers(3, 7)

    def paint(draw: Generator) -> Field:
        picture = Image.new("L", (2 * size, 2 * size), 128)
        pen = ImageDraw.Draw(picture)
        for _ in range(count):
            tone, reach = int(255 * tones[draw.integers(len(tones))]), length * draw.uniform(0.5, 1.5)
            thick = max(1, round(2 * width * draw.uniform(0.6, 1.4)))
            centre, angle = draw.uniform(0, 2 * size, 2), lean + draw.uniform(-spread, spread)
            along = reach * np.array([np.cos(angle), np.sin(angle)])
            if kind == 0:
                pen.line([*(centre - along), *(centre + along)], fill=tone, width=thick)
            elif kind == 1:
                bends = np.cumsum(draw.normal(0, 0.35, (knots, 2)) * reach + along / 2, 0) + centre - along
                pen.line([*bends.ravel()], fill=tone, width=thick, joint="curve")
            elif kind == 4:
                box = [*(centre - reach / 2), *(centre + reach / 2)]
                pen.arc(box, draw.uniform(0, 360), draw.uniform(0, 720), fill=tone, width=thick)
            else:
                box = angle + np.array([0.6, 2.5, 3.7, 5.7])
                turns = np.sort(draw.uniform(0, 2 * np.pi, knots)) if kind == 2 else box
                corners = [*(centre + reach / 2 * np.stack([np.cos(turns), np.sin(turns)], 1)).ravel()]
                pen.polygon(corners, fill=tone if filled else None, outline=tone, width=thick)
        image = np.asarray(picture.resize((size, size), Image.Resampling.BOX), dtype=np.float32) / 255
        return image + grit * filtered(draw, ground)
    return paint


def objects(rng: Generator, size: int) -> Painter:
    """Draw a lit object, or a few, on a ground, with shadows: the object's values above 0.5, the ground's below."""
    number, radius = int(rng.choice([1, 1, 1, 2, 5])), rng.uniform(0.18, 0.4)
    outline = bump(rng, int(rng.integers(1, 10)), rng.uniform(0, 0.5))
    dome, light = rng.uniform(0.1, 1), rng.uniform(0, 2 * np.pi)
    skin, ground = random_spectrum(rng, size), random_spectrum(rng, size)
    wear, dirt = rng.uniform(0, 0.12), rng.uniform(0, 0.1)
    hole, holes = chance(rng, 0.35), bump(rng, 4, 0.2) * rng.uniform(0.15, 0.5)
    pose, dark = rng.choice([0.08, np.pi]), rng.uniform(0, 0.4)

    def paint(draw: Generator) -> Field:
        body, x, y = np.full((size, size), -1.0, np.float32), *grid(size)
        r = radius / np.sqrt(number)
        for _ in range(number):
            reach = 0.05 if number == 1 else 0.4
            place, angle = draw.uniform(-reach, reach, 2), draw.uniform(-pose, pose)
            u, v = (x - place[0]) / r, (y - place[1]) / r
            u, v = np.cos(angle) * u + np.sin(angle) * v, np.cos(angle) * v - np.sin(angle) * u
            depth = inside(outline, u, v)
            body = np.maximum(body, np.minimum(depth, -inside(holes, u, v)) if hole else depth)
        cover = smooth(body, 0, 0.06 / number**0.5)
        lit = relief(gaussian_filter(smooth(body, 0, dome), 1.0) + 0.02 * filtered(draw, skin), light, 0.4)
        shadow = np.roll(gaussian_filter(cover, 3), (int(6 * np.sin(light)), int(6 * np.cos(light))), (0, 1))
        above = 0.55 + 0.35 * lit + wear * filtered(draw, skin)
        below = 0.3 + dirt * filtered(draw, ground) - dark * shadow
        return cover * above + (1 - cover) * below
    return paint
