"""How the command ends: help, closed pipes, full disks, small alphabets and interrupts."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields

import pytest

from rapbench.backends import NATIVE
from rapbench.core.named import said_of
from rapbench.datasets import DATASETS
from rapbench.metrics import METRICS

COMMAND = [sys.executable, "-m", "rapbench"]


def ended(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, env=os.environ | environment
    )


@pytest.mark.parametrize("arguments", [(), ("-h",), ("--help",)])
def test_the_bare_command_prints_its_help(arguments: tuple[str, ...]) -> None:
    done = ended(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: rapbench")


def test_it_has_a_version_and_short_help_everywhere() -> None:
    assert ended("--version").stdout == "rapbench 0.1.0\n"
    assert "Usage: rapbench list" in ended("list", "-h").stdout


def test_a_closed_pipe_ends_it_without_a_word() -> None:
    with subprocess.Popen([*COMMAND, "list", "methods"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - as a shell opens it
        done = subprocess.run(
            [*COMMAND, "list", "methods"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "rapbench: [Errno 28] No space left on device\n"


@pytest.mark.slow
def test_a_terminal_that_lacks_a_character_shows_its_number() -> None:
    done = ended("list", "lrp_z_beta", PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert r"z^\u03b2" in done.stdout


def test_a_folder_whose_name_is_not_utf8_is_named_in_one_line() -> None:
    done = subprocess.run([*COMMAND, "table", "--out", b"\xff"], capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1


def test_escape_codes_in_a_name_are_shown_and_not_sent() -> None:
    assert ended("list", "\x1b[31mred\x07").stderr.startswith(r"rapbench: nothing is named '\x1b[31mred\x07'")
    assert ended("table", "--out", "\x1b[31m").stderr.startswith(r"rapbench: no results in \x1b[31m")


@pytest.mark.parametrize("importing", ["rapbench.cli.app", "pydantic", "rapbench.run.resolve"])
def test_an_interrupt_while_modules_are_imported_is_one_line(importing: str) -> None:
    code = f"""
import os, signal, sys
from rapbench import cli
class Interrupted:
    def find_spec(self, name, *_):
        if name == {importing!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupted())
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["rapbench", "run", "--limit", "1"]
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr == "rapbench: interrupted; what is done is kept, the same command goes on from there\n"


@pytest.mark.parametrize(("number", "finished"), [("SIGTERM", True), ("SIGINT", False)])
def test_a_second_interrupt_ends_what_is_given_back_and_a_second_warning_does_not(number: str, finished: bool) -> None:
    code = f"""
import os, signal
from rapbench import cli
signal.signal(signal.{number}, cli._stopped)
try:
    os.kill(os.getpid(), signal.{number})
finally:
    os.kill(os.getpid(), signal.{number})
    print("given back", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ("given back" in done.stdout) == finished
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_name_is_listed_with_its_parameters() -> None:
    shown = ended("list", "smooth_grad").stdout
    assert shown.startswith("native method smooth_grad: gradients under noise")
    assert "  samples=50\n      noisy copies." in shown
    assert "ties=row_major (or random)" in ended("list", "perturbation").stdout
    assert "--weights auto  scenes on scenes, IMAGENET1K_V1 elsewhere" in ended("list", "vgg16").stdout


def test_a_wrong_name_to_list_is_answered_with_the_nearest() -> None:
    assert ended("list", "RAP").stderr == "rapbench: nothing is named 'RAP': did you mean rap?\n"
    assert ended("list", "metods").stderr == "rapbench: nothing is named 'metods': did you mean methods?\n"


def test_every_parameter_says_what_it_is() -> None:
    for catalogue in (NATIVE, METRICS, DATASETS):
        for name in catalogue:
            cls = catalogue.load(name)
            assert all(said_of(cls, field.name) for field in fields(cls) if field.init), name
