"""Draw the README's picture of the procedural benchmark: python tests/benchmarks/synthetic_picture.py [FILE]

Each category's first good image, and below it a defective image, strength 0.7, chosen to show well, its mask outlined.
"""
import argparse
from pathlib import Path

import matplotlib.pyplot as plt

from rdlib.synthetic import CATEGORIES, render

SHOWN = {"weave": ("cut", 5), "leather": ("scuff", 8), "tiles": ("crack", 6), "wood": ("hole", 4),
         "mesh": ("thread", 8), "gear": ("broken_tooth", 3), "capsule": ("crack", 5), "connector": ("missing_pin", 4),
         "blister": ("wrong_tablet", 4)}


def main() -> None:
    """Draw and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", default=Path(__file__).parents[2] / "data" / "pictures" / "synthetic.jpg")
    args = parser.parse_args()
    fig, axes = plt.subplots(2, len(CATEGORIES), figsize=(13.5, 3.3), layout="constrained")
    for column, category in zip(axes.T, CATEGORIES, strict=True):
        defect, seed = SHOWN[category]
        good, _ = render(category, seed=0)
        bad, mask = render(category, seed=seed, defect=defect, strength=0.7)
        for ax, image, title in zip(column, (good, bad), (category, defect.replace("_", " ")), strict=True):
            ax.imshow(image)
            ax.set_title(title, fontsize=11, fontweight="bold" if title == category else "normal")
            ax.axis("off")
        column[1].contour(mask, [0.5], colors="white", linewidths=2)
        column[1].contour(mask, [0.5], colors="black", linewidths=0.8)
    fig.savefig(args.file, dpi=110, pil_kwargs={"quality": 88, "optimize": True})


if __name__ == "__main__":
    main()
