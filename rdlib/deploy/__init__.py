"""Use of a trained model outside a notebook: ONNX export, scoring of a folder, and a check of the machine."""
from rdlib.deploy.export import OnnxDetector, export_onnx
from rdlib.deploy.scoring import score_folder

__all__ = ["OnnxDetector", "export_onnx", "score_folder"]
