"""The command line as such: arguments, exit statuses and help. What a command does is tested with its module."""
import inspect
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rdlib
from rdlib import cli
from rdlib.deploy import doctor

ROOT = Path(__file__).parents[1]
COMMANDS = ("check", "train", "score", "export", "data", "reproduce", "synthetic", "doctor")


def shown(capsys, *arguments):
    """What a command prints before it ends with status 0."""
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_commands_are_listed(capsys):
    lines = shown(capsys, "--help").splitlines()
    assert lines[0].startswith("usage: rdlib ")
    assert [line.split()[0] for line in lines if line.startswith("    ") and line[4] != " "] == [*COMMANDS]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(command, capsys):
    text = shown(capsys, command, "--help")
    assert f"usage: rdlib {command}" in text and f"\n  rdlib {command}" in text.split("Examples:")[1]
    parameters = inspect.signature(getattr(cli, command)).parameters
    described = inspect.getdoc(getattr(cli, command)).partition("Args:")[2]
    assert all(f"    {name}: " in described for name in parameters)


@pytest.mark.parametrize("arguments", [[], ["scores"], ["score", "model.safetensors"], ["doctor", "--loud"], ["train"],
                                       ["train", "-o", "m.safetensors"], ["train", "images"],
                                       ["train", "images", "--good", "images", "-o", "m.safetensors"],
                                       ["train", "--defective", "images", "-o", "m.safetensors"],
                                       ["train", "images", "-o", "m.safetensors", "--size", "large"],
                                       ["check"], ["check", "images", "--size", "64x"],
                                       ["check", "images", "--masks", "images"],
                                       ["data", "pack", "archive.zip"]])
def test_wrong_arguments_end_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2 and "usage: rdlib" in capsys.readouterr().err


def test_an_error_of_the_input_is_one_line_and_ends_with_1(tmp_path, capsys):
    assert cli.main(["score", str(tmp_path / "none.safetensors"), str(tmp_path), str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "No such file" in captured.err and "Traceback" not in captured.err


def test_an_error_of_the_program_is_not_hidden(monkeypatch):
    def fails():
        raise ZeroDivisionError

    monkeypatch.setattr(doctor, "report_lines", fails)
    with pytest.raises(ZeroDivisionError):
        cli.main(["doctor"])


def test_ctrl_c_is_one_line_and_ends_with_130(monkeypatch, capsys):
    def waits():
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "report_lines", waits)
    assert cli.main(["doctor"]) == 130
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1


def test_the_console_script_and_the_module_are_the_same_program():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"rdlib": "rdlib.cli:main"}
    done = subprocess.run([sys.executable, "-m", "rdlib", "doctor"], capture_output=True, text=True)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 10, done.stderr


def test_help_is_quick():
    code = ("import sys, rdlib.cli\ntry:\n    rdlib.cli.main(['train', '--help'])\nexcept SystemExit:\n"
            "    print('loaded', sorted({'torch', 'numpy', 'pandas', 'matplotlib', 'PIL'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={"PYTHONPATH": str(Path(rdlib.__file__).parents[1])})
    assert "loaded []" in done.stdout, "help imports nothing that is slow"


def test_reproduce_without_a_table_lists_them(capsys):
    from rdlib.reproduction.tables import TABLES
    assert cli.main(["reproduce"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == [*TABLES]
    with pytest.raises(SystemExit) as ended:
        cli.main(["reproduce", "tables"])
    captured = capsys.readouterr()
    assert ended.value.code == 2 and captured.out == ""
    assert "There is no table tables. Choose one of: " in captured.err


def test_warnings_are_plain_lines():
    code = ("import warnings, rdlib.cli\nfrom rdlib.deploy import doctor\ndef warns():\n"
            "    warnings.warn('Look at this.', stacklevel=1)\n    return ['ok']\n"
            "doctor.report_lines = warns\nrdlib.cli.main(['doctor'])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={"PYTHONPATH": str(Path(rdlib.__file__).parents[1])})
    assert (done.stdout, done.stderr) == ("ok\n", "Look at this.\n")


def test_a_usage_error_that_is_found_late_shows_the_usage_of_its_command(capsys):
    for arguments, command in ((["train", "-o", "m.safetensors"], "train"), (["data", "pack", "archive.zip"], "data")):
        with pytest.raises(SystemExit):
            cli.main(arguments)
        assert capsys.readouterr().err.startswith(f"usage: rdlib {command} ")


def test_progress_is_for_a_terminal(tmp_path, capfd):
    assert cli.main(["synthetic", str(tmp_path / "out"), "--category", "weave", "--size", "64", "--jobs", "1"]) == 0
    assert capfd.readouterr() == (f"{tmp_path / 'out/weave'}\n", "")


def test_quiet_shows_no_progress(tmp_path, capfd):
    arguments = ["synthetic", str(tmp_path / "out"), "--category", "weave", "--size", "64", "--jobs", "1"]
    assert cli.main([*arguments, "--quiet"]) == 0
    assert capfd.readouterr() == (f"{tmp_path / 'out/weave'}\n", "")


def test_data_unpack_prints_the_names(tmp_path, capsys, monkeypatch):
    from rdlib.datasets import downloads
    asked = []
    monkeypatch.setattr(downloads, "unpack_dataset", lambda *a: asked.append(a) or ["btad/01", "btad/02"])
    assert cli.main(["data", "unpack", str(tmp_path / "btad.zip"), "--root", str(tmp_path)]) == 0
    assert asked == [(tmp_path / "btad.zip", tmp_path)]
    assert capsys.readouterr().out == "btad/01\nbtad/02\n"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
@pytest.mark.parametrize(("arguments", "reader", "expected"), [
    ("doctor", "head -1", (0, 141)), ("train --help", "true", (0,)), ("reproduce main --list", "true", (141,))])
def test_a_reader_that_ends_early_gets_no_traceback(arguments, reader, expected):
    """A command that was cut short does not end with 0, whether or not its reader has seen all that it wanted."""
    done = subprocess.run(["bash", "-c", f'"$0" -m rdlib {arguments} | {reader} > /dev/null; echo ${{PIPESTATUS[0]}}',
                           sys.executable], capture_output=True, text=True)
    assert int(done.stdout) in expected and done.stderr.startswith("Left out, ") == ("--list" in arguments), done
    assert "Error" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full device of Linux")
def test_an_output_on_a_full_disk_is_said_in_a_line():
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([sys.executable, "-m", "rdlib", "doctor"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr == (
        "The output could not be written: the disk is full. Free some space, or write it to another disk.\n")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
def test_progress_needs_no_open_stream():
    """As for a program without a console; a bar would write to None."""
    code = ("from rdlib import cli\nfrom rdlib.deploy import doctor\nfrom tqdm import tqdm\ndef shows():\n"
            "    return [str(n) for n in tqdm(range(3), disable=None)]\n"
            "doctor.report_lines = shows\nraise SystemExit(cli.main(['doctor']))")
    done = subprocess.run(["bash", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code], capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": str(Path(rdlib.__file__).parents[1])})
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n1\n2\n", "")


def lines_of_doctor(monkeypatch):
    monkeypatch.setattr(doctor, "is_reachable", lambda server: True)
    return {line.split()[1]: line for line in doctor.report_lines()}


@pytest.mark.parametrize(("made", "base", "begins"), [
    ("conda-meta", "same", "ok"), (None, "same", "--"), (None, "other", "ok")])
def test_doctor_knows_environments_of_conda(made, base, begins, tmp_path, monkeypatch):
    (tmp_path / (made or "bin")).mkdir()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path) if base == "same" else "/usr")
    line = lines_of_doctor(monkeypatch)["environment"]
    assert line.startswith(begins) and (" (conda)" in line) == bool(made)
    assert ("make setup" in line) == (begins == "--")


def test_doctor_says_where_data_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path / "new/folder"))
    assert lines_of_doctor(monkeypatch)["data"].startswith("ok") and not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path / "file"))
    assert lines_of_doctor(monkeypatch)["data"].endswith("you cannot write there; set RDLIB_DATA")
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path / "new/folder"))
    monkeypatch.setattr("os.access", lambda folder, mode: False)
    assert lines_of_doctor(monkeypatch)["data"].endswith("you cannot write there; set RDLIB_DATA")


def test_doctor_tells_the_limit_of_this_process(monkeypatch):
    monkeypatch.setattr(doctor, "usable_memory", lambda: (5 * 2**30, 6 * 2**30))
    assert lines_of_doctor(monkeypatch)["memory"].endswith(" 5 of 6 GiB free")


def test_without_a_home_folder_the_words_name_the_variable(monkeypatch, capsys):
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where neither HOME nor the user is known
    monkeypatch.setenv("RDLIB_DATA", "  ")
    assert lines_of_doctor(monkeypatch)["data"] == (
        "--  data         no home folder was found: you cannot write there; set RDLIB_DATA")
    assert cli.main(["check", "mvtec/bottle"]) == 1
    assert capsys.readouterr().err == "No home folder was found. Set RDLIB_DATA to a folder where you can write.\n"


@pytest.mark.parametrize("blank", ["", "  "])
def test_variables_without_a_value_count_as_unset(blank, tmp_path, monkeypatch):
    from rdlib.weights import hub_path
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RDLIB_DATA", blank)
    assert rdlib.datasets.data_root() == tmp_path / ".cache/rdlib"
    for torch_home, cache, folder in (("", "", ".cache/torch"), ("", "c", "c/torch"), ("t", "", "t")):
        for name, value in (("TORCH_HOME", torch_home), ("XDG_CACHE_HOME", cache)):
            monkeypatch.setenv(name, str(tmp_path / value) if value else blank)
        assert hub_path("https://a.org/b.pth") == tmp_path / folder / "hub/checkpoints/b.pth"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows finds the home folder without HOME")
@pytest.mark.parametrize("blank", ["", "  "])
def test_an_empty_home_is_that_of_the_user(blank, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "is_reachable", lambda server: True)
    monkeypatch.delenv("RDLIB_DATA", raising=False)
    monkeypatch.delenv("HOME")
    expected = f"downloads go to {Path.home() / '.cache/rdlib'} ("
    monkeypatch.setenv("HOME", blank)
    assert cli.main(["doctor"]) == 0 and expected in capsys.readouterr().out


@pytest.mark.parametrize(("options", "words"), [
    ("-o /dev/null/a.safetensors", "/dev/null/a.safetensors cannot be written: Not a directory. Choose another name"),
    ("-o a.onnx", "a.onnx cannot be written: it must end in .safetensors, and neither it"),
    ("-o a.safetensors --epochs 0", "epochs must be a whole number from 1 to 4294967295; got 0."),
    ("-o a.safetensors --batch-size 0", "batch_size must be a whole number from 1 to 4294967295; got 0."),
    ("-o a.safetensors --backbone odd", "There is no backbone 'odd'. Choose one of: resnet18, "),
    ("-o a.safetensors --teacher odd.pth", "There is no weights file odd.pth. Check the path."),
    ("-o a.safetensors --backbone resnet34 --teacher embedded", "The embedded teacher is a ResNet-18, not a resnet34."),
    ("-o a.safetensors --roi odd.png", "--roi odd.png is neither X0,Y0,X1,Y1 in whole pixels nor the file of a mask."),
    ("-o a.safetensors --seed -1", "seed must be a whole number from 0 to 4294967295; got -1."),
    ("-o a.safetensors --size 0", "A size is (height, width) or the side of a square in pixels, whole numbers from 1"),
    ("-o a.safetensors --white nan", "white must be a number in (0, inf); got nan.")])
def test_train_refuses_mistakes_before_it_reads_images(options, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rdlib.datasets.check.check", lambda data: pytest.fail("images were read"))
    assert cli.main(["train", "synthetic/weave", "--size", "64", *options.split()]) == 1
    assert capsys.readouterr().err.startswith(words) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("options", "words"), [
    ("--epochs 0", "epochs must be a whole number"), ("--backbone odd", "There is no backbone 'odd'.")])
def test_check_refuses_mistakes_before_it_reads_images(options, words, monkeypatch, capsys):
    monkeypatch.setattr("rdlib.datasets.check.loaded", lambda *data: pytest.fail("images were read"))
    assert cli.main(["check", "synthetic/weave", *options.split()]) == 1
    assert capsys.readouterr().err.startswith(words)


def test_the_words_of_another_locale_change_no_file(tmp_path):
    """Under LANG=C without UTF-8 mode, files and pages are UTF-8 all the same."""
    code = ("import sys; from pathlib import Path; from rdlib.reproduction import load_results, write_report\n"
            "print(write_report(load_results('main', 'synthetic'), Path(sys.argv[1])))")
    subprocess.run([sys.executable, "-X", "utf8=0", "-c", code, tmp_path], check=True, env=os.environ | {
        "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)})
    assert "±" in (tmp_path / "main-synthetic.md").read_text(encoding="utf-8")
