"""The device that is chosen, an accelerator only where one is available, and the memory that is free."""
from pathlib import Path

import pytest
import torch

from rdlib import ReverseDistillation, best_device, fit
from rdlib.utils import hardware
from rdlib.utils.hardware import available_memory, check_device, usable_memory


@pytest.mark.parametrize("name", ["cuda", "mps", "xpu"])
def test_the_accelerator_that_is_available(name, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_: torch.device(name))
    assert best_device() == torch.device(name)


def test_an_accelerator_that_torch_was_built_for_but_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_: torch.device("cuda"))
    assert best_device() == torch.device("cpu")


def groups(monkeypatch, folder, process):
    """Let files play /sys/fs/cgroup and /proc/self/cgroup."""
    (folder / "process").write_text(process, encoding="utf-8")
    read = Path.read_text
    monkeypatch.setattr(hardware, "CGROUP", folder)
    monkeypatch.setattr(Path, "read_text", lambda self, *args: read(
        folder / "process" if self == Path("/proc/self/cgroup") else self, *args))


def limit(folder, names, numbers):
    folder.mkdir(parents=True, exist_ok=True)
    for name, number in zip(names, numbers, strict=True):
        (folder / name).write_text(f"{number}\n", encoding="utf-8")


V2, V1 = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")


@pytest.mark.parametrize(("own", "above", "free"), [
    ((10_000, 3000), ("max", 50_000), 7000),  # its own limit, as of a service
    (("max", 3000), (9000, 4000), 5000),  # that of a slice above
    ((10_000, 3000), (9000, 8000), 1000), ((10_000, 12_000), ("max", 0), 0)])
def test_memory_is_limited_by_the_own_cgroup_and_those_above(own, above, free, monkeypatch, tmp_path):
    groups(monkeypatch, tmp_path, "0::/user.slice/jupyter.service\n")
    limit(tmp_path / "user.slice/jupyter.service", V2, own)
    limit(tmp_path / "user.slice", V2, above)
    limit(tmp_path / "user.slice/other.service", V2, (10, 10))  # of another user
    total = min(number for number, _ in (own, above) if number != "max")
    assert available_memory() == free and usable_memory() == (free, total)


def test_memory_of_a_batch_job_with_the_older_cgroups(monkeypatch, tmp_path):
    groups(monkeypatch, tmp_path, "5:cpu:/other\n4:hugetlb,memory:/slurm/job_1\n0::/other\n")
    limit(tmp_path / "memory/slurm/job_1", V1, (2**63 - 4096, 500))
    limit(tmp_path / "memory/slurm", V1, (8000, 500))
    limit(tmp_path / "memory/other", V1, (10, 10))
    assert available_memory() == 7500


def test_memory_of_a_container_that_sees_itself_as_the_root(monkeypatch, tmp_path):
    groups(monkeypatch, tmp_path, "torn line\n4:memory:/docker/0123\n5:memory\n0::/\n")
    limit(tmp_path / "memory", V1, (8000, 500))
    assert available_memory() == 7500


@pytest.mark.parametrize(("names", "path", "words"), [(V2, "", "inactive_file 2000"), (V1, "memory", "inactive_file 1\n"
                                                                                       "total_inactive_file 2000")])
def test_cached_files_are_free_memory_since_the_system_gives_them_back(names, path, words, monkeypatch, tmp_path):
    groups(monkeypatch, tmp_path, "4:memory:/\n0::/\n")
    limit(tmp_path / path, names, (10_000, 9000))
    (tmp_path / path / "memory.stat").write_text(f"anon 7000\n{words}\nactive_file 100\n", encoding="utf-8")
    assert available_memory() == 3000


def test_memory_above_which_a_group_is_slowed_down(monkeypatch, tmp_path):
    groups(monkeypatch, tmp_path, "0::/a\n")
    limit(tmp_path / "a", ("memory.max", "memory.high", "memory.current"), (10_000, 5000, 4000))
    assert available_memory() == 1000


def test_features_that_the_own_cgroup_has_no_memory_for_are_not_kept(monkeypatch, tmp_path):
    groups(monkeypatch, tmp_path, "0::/user.slice/jupyter.service\n")
    limit(tmp_path / "user.slice/jupyter.service", V2, (2**20, 0))
    model, data = ReverseDistillation("resnet18", "random"), [*torch.rand(8, 3, 64, 64)]
    assert not fit(model, data, 1, progress=False).settings["cached"]
    limit(tmp_path / "user.slice/jupyter.service", V2, (2**33, 0))
    assert fit(model, data, 1, progress=False).settings["cached"]


@pytest.mark.parametrize("name", ["odd", "meta", "cpu:", None, 3.5, ""])
def test_a_device_that_does_not_compute_is_refused_in_words(name):
    check_device("cpu")
    if name is not None:  # torch's default
        with pytest.raises(ValueError, match=rf"^The device {name!r} cannot be used \(.+\)\. Choose another one\.$"):
            check_device(name)
