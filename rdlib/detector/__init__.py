"""What all methods share: the images that a model takes, prediction and decision, settings, saving and loading."""
from rdlib.detector.base import IMAGENET_MEAN, IMAGENET_STD, Detector, Features, eval_mode
from rdlib.detector.config import Config, DistillationConfig
from rdlib.detector.distillation import Distillation
from rdlib.detector.scorer import Decision, Images, Scorer, checked_images

__all__ = ["Config", "Decision", "Detector", "Distillation", "DistillationConfig", "Features", "IMAGENET_MEAN",
           "IMAGENET_STD", "Images", "Scorer", "checked_images", "eval_mode"]
