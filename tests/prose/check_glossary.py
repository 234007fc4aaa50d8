"""Check that the glossary explains each term once, briefly, and says where it lives: `make prose`."""
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from series import anchor, notebooks, planned
from torch import nn

from rdlib.encoder import CutResNet
from rdlib.metrics import aupro

ROOT = Path(__file__).parents[2]
GLOSSARY = (ROOT / "notebooks/glossary.md").read_text(encoding="utf-8")
ENTRIES = dict(re.findall(r"^## ([^\n]*)\n\n(.*?)(?=\n## |\Z)", GLOSSARY, re.M | re.S))


def test_the_glossary_is_in_order_and_its_first_table_has_every_term_once():
    anchors = [anchor(term) for term in ENTRIES]
    assert len(ENTRIES) > 60 and sorted(ENTRIES) == list(ENTRIES)
    assert list(ENTRIES) == [term.lower() for term in ENTRIES], "JupyterLab's anchors keep capitals, GitHub's do not"
    first = GLOSSARY.split("\n## ")[0]
    assert sorted(re.findall(r"\]\(#([\w-]+)\)", first)) == sorted(anchors)


@pytest.mark.parametrize("term", ENTRIES)
def test_an_entry_explains_and_says_where_the_term_lives(term):
    words, where = ENTRIES[term].strip().rsplit("\n\n", 1)
    assert 15 <= len(words.split()) <= 110, "one to four sentences"
    assert re.search(r"Notebooks?:", where) and (where.startswith("*Library: ") or term == "onnx"), where
    for fragment in re.findall(r"\]\(#([\w-]+)\)", words):
        assert fragment in {anchor(other) for other in ENTRIES} - {anchor(term)}, fragment
    for address in re.findall(r"\]\(([^#)][^)]*)\)", where):
        target = ROOT / "notebooks" / address
        assert target.exists() or target.stem in planned(), address
    names = []
    for address, name in re.findall(r"\[`[^`]+`\]\(([^)]+)\)|`([\w.]+)", where):  # `names` come before their [`file`]
        if name:
            names += name.split(".")
        else:
            source = (ROOT / "notebooks" / address).read_text(encoding="utf-8")
            assert all(name in source for name in names), f"{names} in {address}"
            names = []


@pytest.mark.parametrize("term", ENTRIES)
def test_the_notebooks_that_an_entry_names_use_the_term(term):
    where = ENTRIES[term].strip().rsplit("\n\n", 1)[1]
    named = [path for path in notebooks() if path.name in where]
    for path in named:
        text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        plain = "".join(text.lower().replace("-", "").split())  # "feature memory" may be MemoryBank there
        assert f"glossary.md#{anchor(term)})" in text or "".join(term.replace("-", "").split()) in plain, path.name


def test_numbers_of_the_glossary():
    """Receptive fields of a ResNet-18, and AUPRO of a map that says nothing."""
    net, field, step, found = CutResNet("resnet18"), 1, 1, []
    for name, child in net.named_children():
        for inner, module in child.named_modules():
            if isinstance(module, nn.Conv2d | nn.MaxPool2d) and "downsample" not in inner:  # a shortcut sees less
                size, stride = (np.ravel(x)[0] for x in (module.kernel_size, module.stride))
                field, step = field + (size - 1) * step, step * stride
        if name.startswith("layer"):
            found.append(f"{field} x {field}")
    assert all(size in ENTRIES["receptive field"] for size in found), found
    masks = np.zeros((1, 8, 8), bool)
    masks[0, :2, :2] = True
    assert f"{aupro(masks, np.zeros((1, 8, 8))):.2f}" in ENTRIES["aupro"]
