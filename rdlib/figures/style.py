"""Provide the look of all figures: colors, line styles, sizes, numbers in words."""
from matplotlib.patheffects import AbstractPathEffect, withStroke

BLUE, VERMILION, GREEN, ORANGE, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#767676"
STYLE = {"figure.constrained_layout.use": True, "figure.facecolor": "white", "font.size": 10, "axes.titlesize": 10,
         "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 9,
         "image.cmap": "viridis", "xtick.labelsize": 9, "ytick.labelsize": 9,
         "text.parse_math": False}  # a name may have dollar signs
# installed fonts of Linux, Windows and macOS for letters that matplotlib's own font lacks
FALLBACKS = ("Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Noto Sans Devanagari",
             "Noto Sans Thai", "Microsoft YaHei", "SimHei", "Yu Gothic", "Malgun Gothic", "Nirmala UI", "Leelawadee UI",
             "PingFang SC", "Hiragino Sans", "Hiragino Sans GB", "Apple SD Gothic Neo", "Arial Unicode MS")
WIDTH = 8.0  # inches, a notebook's column
SCREEN_DPI, STORED_DPI = 96, 100  # how large `show` makes an inch, and how finely it draws it
LARGE = 200_000  # bytes; above this size `show` stores JPEG, since a notebook should stay below 2 MB
UNIT = "cosine distance, summed over 3 scales"
HALO: list[AbstractPathEffect] = [withStroke(linewidth=3, foreground="black")]  # a bright line stays visible on it
TRUTH: dict = {"color": "white", "linestyle": "solid", "linewidth": 1.5, "path_effects": HALO}
MARKED: dict = TRUTH | {"color": ORANGE, "linestyle": "dashed"}


def number(value: float) -> str:
    """Format a number with three significant digits."""
    return f"{value:#.3g}"


def counted(n: int, noun: str) -> str:
    """Format a count and its noun, such as "1 image" or "2 images"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
