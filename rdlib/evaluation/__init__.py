"""Evaluate a model on a test set: predictions, metrics, intervals and costs."""
from rdlib.evaluation.bootstrap import bootstrap_intervals
from rdlib.evaluation.callbacks import EvaluateEvery
from rdlib.evaluation.complexity import count_flops, count_parameters
from rdlib.evaluation.report import Report, evaluate

__all__ = ["EvaluateEvery", "Report", "bootstrap_intervals", "count_flops", "count_parameters", "evaluate"]
