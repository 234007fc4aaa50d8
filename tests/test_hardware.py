"""The device that is chosen: an accelerator only where one is available."""
import pytest
import torch

from rdlib import best_device


@pytest.mark.parametrize("name", ["cuda", "mps", "xpu"])
def test_the_accelerator_that_is_available(name, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_: torch.device(name))
    assert best_device() == torch.device(name)


def test_an_accelerator_that_torch_was_built_for_but_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_: torch.device("cuda"))
    assert best_device() == torch.device("cpu")
