"""Use a trained model outside a notebook: export to ONNX, score a folder, check the machine."""
from rdlib.deploy.export import OnnxDetector, export_onnx
from rdlib.deploy.scoring import score_folder

__all__ = ["OnnxDetector", "export_onnx", "score_folder"]
