"""Provide other methods that share teacher, maps and scores with reverse distillation."""
from rdlib.variants.baselines import ForwardStudent, MemoryBank

__all__ = ["MemoryBank", "ForwardStudent"]
