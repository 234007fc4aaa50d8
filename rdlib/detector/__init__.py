"""What all methods share: the images that a model takes, prediction and decision, settings, saving and loading."""
from rdlib.detector.base import Detector, Features, eval_mode
from rdlib.detector.config import Config, DistillationConfig, checked_sides
from rdlib.detector.distillation import Distillation
from rdlib.detector.scorer import Decision, Scorer, accepted_range, checked_images

__all__ = ["Config", "Decision", "Detector", "Distillation", "DistillationConfig", "Features", "Scorer",
           "accepted_range", "checked_images", "checked_sides", "eval_mode"]
