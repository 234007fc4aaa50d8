"""Provide other methods, with the same teacher, smoothing and scores as reverse distillation."""
from rdlib.variants.baselines import ForwardStudent, MemoryBank
from rdlib.variants.load import load

__all__ = ["MemoryBank", "ForwardStudent", "load"]
