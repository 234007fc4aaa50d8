"""Load data sets by name."""
from rdlib.datasets.downloads import data_root
from rdlib.datasets.load import load_dataset
from rdlib.datasets.samples import GOOD, AnomalyData, AnomalyDataset, ArraySample, FileSample, Item, SceneSample

__all__ = ["GOOD", "AnomalyData", "AnomalyDataset", "ArraySample", "FileSample", "Item", "SceneSample", "data_root",
           "load_dataset"]
