"""pytest's nbval leaves these notebooks alone: they are sources, stored without outputs. tests/test_exercises.py runs
them through nbgrader, with the solutions and without."""
collect_ignore_glob = ["*.ipynb"]
