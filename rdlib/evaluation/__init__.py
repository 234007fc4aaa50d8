"""Evaluate a model on a test set: predictions, metrics, intervals, operating points and costs."""
from rdlib.evaluation.bootstrap import bootstrap_intervals
from rdlib.evaluation.callbacks import EvaluateEvery
from rdlib.evaluation.complexity import count_flops, count_parameters
from rdlib.evaluation.operating import OperatingPoint, operating_point
from rdlib.evaluation.report import Report, evaluate

__all__ = ["EvaluateEvery", "OperatingPoint", "Report", "bootstrap_intervals", "count_flops", "count_parameters",
           "evaluate", "operating_point"]
