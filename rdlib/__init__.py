"""rdlib: anomaly detection by reverse distillation (Deng & Li, CVPR 2022), a library to read and to use."""
from rdlib.baselines import FeatureMemory, ForwardStudent
from rdlib.datasets import load_dataset
from rdlib.evaluation import Report, evaluate
from rdlib.hardware import best_device
from rdlib.model import ReverseDistillation
from rdlib.run import Run
from rdlib.training import fit
from rdlib.uncertainty import bootstrap_intervals

__version__ = "0.1.0"
__all__ = ["FeatureMemory", "ForwardStudent", "ReverseDistillation", "Report", "Run", "best_device",
           "bootstrap_intervals", "evaluate", "fit", "load_dataset"]
