"""Time the drawing of the procedural benchmark: python tests/benchmarks/rendering.py [--processes N] [--size PIXELS].

Of every category 120 good training scenes, 20 good and 50 defective test scenes (the default split is 200, 40, 100),
on N processes at once.
"""
import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor

from rdlib.synthetic import CATEGORIES, Scene, scene_list


def draw(job: tuple[Scene, int]) -> None:
    """Render one scene and throw it away."""
    scene, size = job
    scene.render(size)


def main() -> None:
    """Print images per second for each category and for all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--size", type=int, default=256)
    args = parser.parse_args()
    total = number = 0
    with ProcessPoolExecutor(args.processes) as pool:
        for category in CATEGORIES:
            scenes = scene_list(category, "train", train=120) + scene_list(category, "test", good=20, defective=50)
            jobs = [(scene, args.size) for scene in scenes]
            list(pool.map(draw, jobs[:20], chunksize=5))  # tables, caches
            began = time.perf_counter()
            list(pool.map(draw, jobs, chunksize=5))
            seconds = time.perf_counter() - began
            total, number = total + seconds, number + len(jobs)
            print(f"{category:12s}{len(jobs) / seconds:7.0f} images/s")
    print(f"{'all':12s}{number / total:7.0f} images/s at {args.size} x {args.size}, {args.processes} processes")


if __name__ == "__main__":
    main()
