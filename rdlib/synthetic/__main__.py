"""python -m rdlib.synthetic OUT [--category NAME ...] [--size PIXELS] [--seed N] [--jobs N]

Writes the procedural benchmark below OUT in MVTec AD's layout: per category 200 good images to train, 40 good and 100
defective ones with masks to test. A category that is there already stays as it is.
"""
import argparse
import sys
from pathlib import Path

from rdlib.errors import DataError
from rdlib.synthetic import CATEGORIES
from rdlib.synthetic.export import export


def main() -> int:
    """Write the categories asked for; the exit status says whether all of them are there."""
    parser = argparse.ArgumentParser("python -m rdlib.synthetic", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", help="folder to write to")
    parser.add_argument("--category", nargs="+", choices=CATEGORIES, default=CATEGORIES, metavar="NAME",
                        help=f"of {', '.join(CATEGORIES)}; default: all")
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels, 64 or more")
    parser.add_argument("--seed", type=int, default=0, help="0 is the benchmark; others are more of the kind")
    parser.add_argument("--jobs", type=int, help="processes; default: one a core")
    args = parser.parse_args()
    try:
        for category in args.category:
            if (Path(args.out) / category).exists():
                print(f"{Path(args.out) / category} is there already", file=sys.stderr)
                continue
            print(export(category, args.out, size=args.size, seed=args.seed, jobs=args.jobs))
    except (DataError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
