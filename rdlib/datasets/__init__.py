"""Load data sets by name."""
from rdlib.datasets.downloads import data_root
from rdlib.datasets.holdout import hold_out
from rdlib.datasets.load import load_dataset
from rdlib.datasets.roles import folder_dataset
from rdlib.datasets.samples import GOOD, AnomalyData, AnomalyDataset, ArraySample, FileSample, Item, SceneSample

__all__ = ["GOOD", "AnomalyData", "AnomalyDataset", "ArraySample", "FileSample", "Item", "SceneSample", "data_root",
           "folder_dataset", "hold_out", "load_dataset"]
