"""Reproduce the paper's tables as grids of runs. Each run has its own result file, so a grid can be resumed.

    python -m rdlib reproduce TABLE
"""
from rdlib.reproduction.report import beside_published, published_numbers, text_table, write_report
from rdlib.reproduction.results import Results, load_results, swings
from rdlib.reproduction.runs import Machine, Outcome, execute, run_all
from rdlib.reproduction.store import ResultStore, RunConfig, weights_id
from rdlib.reproduction.styled import styled
from rdlib.reproduction.tables import BENCHMARKS, TABLES, Benchmark, GridPoint, Row, Table, grid

__all__ = ["BENCHMARKS", "TABLES", "Benchmark", "GridPoint", "Machine", "Outcome", "ResultStore", "Results", "Row",
           "RunConfig", "Table", "beside_published", "execute", "grid", "load_results", "published_numbers", "run_all",
           "styled", "swings", "text_table", "weights_id", "write_report"]
