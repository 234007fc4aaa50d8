"""Evaluate a model on a test set: predictions, metrics and intervals."""
from rdlib.evaluation.bootstrap import bootstrap_intervals
from rdlib.evaluation.callbacks import EvaluateEvery
from rdlib.evaluation.report import Report, evaluate

__all__ = ["EvaluateEvery", "Report", "bootstrap_intervals", "evaluate"]
