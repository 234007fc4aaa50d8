"""Writing files: whole or not at all, in words on a full or read-only disk, and killed processes leave nothing."""
import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file

import rdlib
from rdlib import cli
from rdlib.synthetic.export import export
from rdlib.utils.files import check_writable, folder_written_atomically, written_atomically
from rdlib.utils.temporary import UNFINISHED, temporary_folder

WAITS = """
import sys, time
from contextlib import suppress
from pathlib import Path
from rdlib.utils.files import written_atomically
with written_atomically(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(bytes(1000))
    print("writes", flush=True)
    time.sleep(100)
"""
FULL = "could not be written: the disk is full. Free some space, or choose a place on another disk."


def in_process(code, *arguments):
    """Start a process that runs `code`, and wait for its first line."""
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True,
                               env=os.environ | {"PYTHONPATH": str(Path(rdlib.__file__).parents[1])})
    process.stdout.readline()
    return process


def kill(process):
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here: this needs root on Linux")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # an error in hand may hold a file open


def test_what_killed_processes_left_is_removed_and_what_living_ones_write_is_not(tmp_path):
    dead, living = (in_process(WAITS, tmp_path / "run.ckpt") for _ in range(2))
    kill(dead)
    assert len(list((tmp_path / UNFINISHED).iterdir())) == 2
    with written_atomically(tmp_path / "other.ckpt") as temporary:
        temporary.write_bytes(b"whole")
    (left,) = (tmp_path / UNFINISHED).iterdir()
    assert (left / "new.ckpt").stat().st_size == 1000, "a living process writes it"
    kill(living)
    with written_atomically(tmp_path / "run.ckpt") as temporary:
        temporary.write_bytes(b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.ckpt", "run.ckpt"]


def test_a_forked_child_keeps_no_lock_of_a_killed_process(tmp_path):
    code = WAITS.replace('    print("writes", flush=True)\n', '    import os\n    child = os.fork()\n    if child:\n'
                         '        print(child, flush=True)\n')
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path / "a.ckpt"], stdout=subprocess.PIPE, text=True,
                               env=os.environ | {"PYTHONPATH": str(Path(rdlib.__file__).parents[1])})
    child = int(process.stdout.readline())
    kill(process)
    with written_atomically(tmp_path / "a.ckpt") as temporary:
        temporary.write_bytes(b"whole")
    os.kill(child, signal.SIGKILL)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_process_number_that_is_used_again_protects_nothing(tmp_path):
    """In a container, the first process has the same number after each restart."""
    left = tmp_path / UNFINISHED / f"{os.getpid():08x}-00000000"
    left.mkdir(parents=True)
    (left / "lock").touch()
    (left / "new.ckpt").write_bytes(bytes(1000))
    with written_atomically(tmp_path / "a.ckpt") as temporary:
        temporary.write_bytes(b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_threads_that_write_into_one_folder_do_not_remove_each_others_files(tmp_path):
    failed = []

    def write(number):
        try:
            for i in range(30):
                with written_atomically(tmp_path / f"{number}-{i}.txt") as temporary:
                    temporary.write_text(str(i), encoding="utf-8")
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and len(list(tmp_path.iterdir())) == 120


def test_processes_that_write_into_one_folder_do_not_remove_each_others_files(tmp_path):
    code = ("import sys\nfrom pathlib import Path\nfrom rdlib.utils.files import written_atomically\n"
            "print(flush=True)\nfor i in range(60):\n"
            "    with written_atomically(Path(sys.argv[1]) / f'{sys.argv[2]}-{i}') as temporary:\n"
            "        temporary.write_bytes(bytes(10))\n")
    processes = [in_process(code, tmp_path, number) for number in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    for process in processes:
        process.stdout.close()
    assert len(list(tmp_path.iterdir())) == 180


def test_a_link_in_place_of_an_unfinished_folder_is_not_followed(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "lock").touch()
    (other / "precious.txt").touch()
    (tmp_path / UNFINISHED).mkdir()
    (tmp_path / UNFINISHED / "00000000-00000000").symlink_to(other)
    with temporary_folder(tmp_path):
        pass
    assert (other / "precious.txt").exists()


def freed(path):
    """Fail as safetensors does: the file is gone, and there is space again, when the error is raised."""
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


WRITERS = {"torch": lambda path: torch.save({"a": torch.zeros(1000, 1000)}, path),
           "safetensors": lambda path: save_file({"a": torch.zeros(1000, 1000)}, path),
           "safetensors' freed file": freed,
           "pillow": lambda path: Image.frombytes("RGB", (1000, 1000), os.urandom(3_000_000)).save(path, "png"),
           "text": lambda path: path.write_text("a" * 3_000_000, encoding="utf-8")}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_is_said_in_words_and_the_old_file_is_kept(write, small_disk):
    path = small_disk / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match=rf"^{re.escape(str(path))} {FULL}$") as caught, written_atomically(path) as new:
        write(new)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old" and list(small_disk.iterdir()) == [path]


def test_a_full_disk_while_a_folder_is_written(small_disk):
    with pytest.raises(OSError, match=f"weave {FULL}$") as caught:
        export("weave", small_disk, size=64, jobs=1, progress=False)
    assert caught.value.errno == errno.ENOSPC and not list(small_disk.iterdir())


def test_a_full_disk_before_the_work(small_disk):
    with suppress(OSError), (small_disk / "all").open("wb", 0) as file:
        while True:
            file.write(bytes(4096))
    with pytest.raises(OSError, match="model.ckpt cannot be written: the disk is full. Free some space") as caught:
        check_writable(small_disk / "model.ckpt")
    assert caught.value.errno == errno.ENOSPC and [path.name for path in small_disk.iterdir()] == ["all"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_quota_is_said_as_a_full_disk_and_comes_before_the_rename(number, tmp_path, monkeypatch):
    def fails(file):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", fails)
    path = tmp_path / "a.txt"
    with pytest.raises(OSError, match=FULL), written_atomically(path) as temporary:
        temporary.write_bytes(b"new")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 64 vs 0"),
                                   RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
                                   RuntimeError("Error while serializing: I/O error: broken (os error 5)")])
def test_an_error_of_a_library_that_writes_is_an_error_of_the_file(error, tmp_path):
    with (pytest.raises(OSError, match=rf"a.ckpt could not be written: {re.escape(str(error))}. Choose another") as
          caught, written_atomically(tmp_path / "a.ckpt")):
        raise error
    assert caught.value.errno == errno.EIO and caught.value.__cause__ is error


@pytest.mark.parametrize("error", [ValueError("wrong"), RuntimeError("wrong"), OSError("wrong"), KeyboardInterrupt(),
                                   ConnectionResetError(errno.ECONNRESET, "reset"), BrokenPipeError(32, "pipe")])
def test_other_errors_are_raised_unchanged(error, tmp_path):
    with pytest.raises(type(error)) as caught, written_atomically(tmp_path / "a.ckpt") as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert caught.value is error and not list(tmp_path.iterdir())


def test_a_file_in_a_file_is_named_once(tmp_path):
    with (pytest.raises(OSError, match="^[^:]*b.txt could not be written: the disk is full[^:]*$"),
          written_atomically(tmp_path / "a.txt"), written_atomically(tmp_path / "b.txt")):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_every_file_reaches_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    order, replace, fsync = [], os.replace, os.fsync
    monkeypatch.setattr("os.fsync", lambda file: order.append(os.fstat(file).st_size) or fsync(file))
    monkeypatch.setattr("os.replace", lambda old, new: order.append(Path(new).name) or replace(old, new))
    with written_atomically(tmp_path / "a.txt") as temporary:
        temporary.write_bytes(bytes(10))
    with folder_written_atomically(tmp_path / "b") as folder:
        (folder / "inner").mkdir()
        (folder / "inner/c").write_bytes(bytes(20))
    assert order == [10, "a.txt", 20, "b"]


def test_places_that_cannot_be_written_are_named_with_the_reason(tmp_path):
    (tmp_path / "file").touch()
    check_writable(tmp_path / "new/folder/a.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "nothing is left, no folder either"
    (tmp_path / "new").mkdir()
    with pytest.raises(NotADirectoryError, match=r"a.ckpt cannot be written: Not a directory. Choose another name or"):
        check_writable(tmp_path / "file/a.ckpt")
    with pytest.raises(IsADirectoryError, match=r"new cannot be written: Is a directory. Set RDLIB_DATA."):
        check_writable(tmp_path / "new", "Set RDLIB_DATA.")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes, and makes links only for administrators")
def test_a_link_stays_and_what_is_no_file_is_neither_replaced_nor_waited_for(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far/a.txt").write_text("old")
    for name, target in (("a.txt", "far/a.txt"), ("new.txt", "far/new.txt"), ("folder", "far/folder")):
        (tmp_path / name).symlink_to(tmp_path / target)
    (tmp_path / "far/folder").mkdir()
    for name in ("a.txt", "new.txt"):
        check_writable(tmp_path / name)
        with written_atomically(tmp_path / name) as temporary:
            temporary.write_text(name)
        assert (tmp_path / name).is_symlink() and (tmp_path / "far" / name).read_text() == name
    with folder_written_atomically(tmp_path / "folder") as folder:
        (folder / "inner.txt").touch()
    assert (tmp_path / "folder").is_symlink() and (tmp_path / "far/folder/inner.txt").exists()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "linked").symlink_to(tmp_path / "pipe")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    before = sorted(tmp_path.rglob("*"))
    for name in ("pipe", "linked", "round"):
        words = f"{name} {{}} be written: It is neither a file nor a folder. Choose another name or place."
        with pytest.raises(OSError, match=words.format("cannot")):
            check_writable(tmp_path / name)
        for write in (written_atomically, folder_written_atomically):
            with pytest.raises(OSError, match=words.format("could not")), write(tmp_path / name):
                pytest.fail("nothing is made that cannot be kept")
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "pipe").is_fifo()


def test_a_read_only_disk_is_said_before_the_work(small_disk, capsys, monkeypatch):
    (small_disk / "data").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    reason = "cannot be written: Read-only file system. "
    with pytest.raises(OSError, match=f"a.ckpt {reason}Choose another name or place."):
        check_writable(small_disk / "a.ckpt")
    monkeypatch.setattr("rdlib.datasets.check.check", None)  # never reached
    assert cli.main(["check", "synthetic/weave", "--page", str(small_disk / "page.html")]) == 1
    assert f"page.html {reason}" in capsys.readouterr().err
    assert cli.main(["synthetic", str(small_disk / "out"), "--category", "weave", "--quiet"]) == 1
    assert "weave could not be written: Read-only file system." in capsys.readouterr().err
    assert cli.main(["data", "unpack", "mvtec.tar", "--root", str(small_disk)]) == 1
    assert f"mvtec.tar {reason}Choose another root, or set RDLIB_DATA." in capsys.readouterr().err


def test_a_grid_tries_all_its_places_first(small_disk, tmp_path, capsys, monkeypatch):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    monkeypatch.setattr("rdlib.reproduction.command.run_all", None)  # never reached
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path))
    words = ["reproduce", "main", "--category", "weave", "--epochs", "1"]
    fine, bad = str(tmp_path / "fine"), str(small_disk / "bad")
    assert cli.main([*words, "--tables", bad, "--results", fine]) == 1
    assert re.search(r"bad/main-synthetic.md cannot be written: Read-only file system. Choose another folder by "
                     "--tables.", capsys.readouterr().err)
    assert cli.main([*words, "--tables", fine, "--results", bad]) == 1
    assert re.search(r"bad/\S+.json cannot be written: Read-only file system. Choose another folder by --results.",
                     capsys.readouterr().err)
    monkeypatch.setenv("RDLIB_DATA", bad)
    assert cli.main([*words, "--tables", fine, "--results", fine]) == 1
    assert "run.ckpt cannot be written: Read-only file system. Set RDLIB_DATA to a folder" in capsys.readouterr().err


def test_a_table_of_stored_results_needs_no_place_for_checkpoints(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RDLIB_DATA", "/dev/null/none")
    assert cli.main(["reproduce", "main", "--tables", str(tmp_path)]) == 0
    assert (tmp_path / "main-synthetic.csv").exists() and "AUROC" in capsys.readouterr().out


def test_a_killed_export_leaves_neither_processes_nor_files(tmp_path):
    """Its workers end with it; else they would hold their memory until the machine is started again."""
    psutil = pytest.importorskip("psutil")
    process = in_process("import sys\nfrom rdlib.synthetic.export import export\nprint(flush=True)\n"
                         "export('weave', sys.argv[1], size=256, jobs=2, progress=False)", tmp_path)
    while not (workers := psutil.Process(process.pid).children()) or not list(tmp_path.rglob("*.png")):
        time.sleep(0.02)
    kill(process)
    gone, alive = psutil.wait_procs(workers, timeout=30)
    assert gone and not alive
    with temporary_folder(tmp_path):
        assert len(list((tmp_path / UNFINISHED).iterdir())) == 1
    assert not list(tmp_path.iterdir())


def test_a_name_with_a_nul_character_is_refused_in_words(tmp_path):
    for write in (check_writable, written_atomically(tmp_path / "a\0b").__enter__):
        with pytest.raises(ValueError, match=r"a\\x00b' c.* be written: a name has no NUL characters. Choose another"):
            write(*[tmp_path / "a\0b"] * (write is check_writable))
