"""Run `python -m rdlib`, see `rdlib.cli`."""
import sys

from rdlib.cli import main

if __name__ == "__main__":
    sys.exit(main())
