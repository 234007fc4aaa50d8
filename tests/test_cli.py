"""The command line: what it offers, and what it says where it cannot go on."""
import subprocess
import sys

import pytest

from rdlib import cli

COMMANDS = ("score", "reproduce", "synthetic", "doctor")


def test_the_commands_are_listed(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines() if line.startswith("    ") and line[4] != " "] == [*COMMANDS]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0 and f"python -m rdlib {command}" in shown and len(shown.splitlines()) > 5


@pytest.mark.parametrize("arguments", [[], ["scores"], ["score", "model.safetensors"], ["doctor", "--loud"]])
def test_what_cannot_be_parsed_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2 and "usage: python -m rdlib" in capsys.readouterr().err


def test_an_error_of_the_input_is_one_line_and_ends_with_1(tmp_path, capsys):
    assert cli.main(["score", str(tmp_path / "none.safetensors"), str(tmp_path), str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "no model file" in captured.err and "Traceback" not in captured.err


def test_an_error_of_the_program_is_not_hidden(monkeypatch):
    def fails():
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "report_lines", fails)
    with pytest.raises(ZeroDivisionError):
        cli.main(["doctor"])


def test_python_runs_the_package():
    done = subprocess.run([sys.executable, "-m", "rdlib", "doctor"], capture_output=True, text=True)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 10, done.stderr
