"""The paper's tables as grids of runs: one result file a run, resumable, on one machine or many.

    python -m rdlib reproduce TABLE
"""
from rdlib.reproduction.config import RunConfig
from rdlib.reproduction.engine import Outcome, run_all
from rdlib.reproduction.report import measured, wide, write_report
from rdlib.reproduction.single import Machine, execute
from rdlib.reproduction.store import ResultStore
from rdlib.reproduction.tables import GROUNDS, TABLES, cells

__all__ = ["GROUNDS", "TABLES", "Machine", "Outcome", "ResultStore", "RunConfig", "cells", "execute", "measured",
           "run_all", "wide", "write_report"]
