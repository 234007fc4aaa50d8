"""rdlib: anomaly detection by reverse distillation (Deng & Li, CVPR 2022), a library to read and to use."""
from rdlib.model import ReverseDistillation
