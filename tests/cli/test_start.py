"""What every command has in common: it starts fast, explains itself, and keeps data apart from talk."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from irflow import __version__
from irflow.cli.main import app
from tests.cli.conftest import Irflow

SLOW = ("prefect", "paramiko", "sqlalchemy", "apprise", "fastapi", "jinja2", "ruamel", "rich", "httpx")


def commands() -> dict[str, typer.core.TyperCommand]:
    """Every command with its full name."""
    found: dict[str, typer.core.TyperCommand] = {}

    def walk(group: object, words: tuple[str, ...]) -> None:
        for name, one in getattr(group, "commands", {}).items():
            if hasattr(one, "commands"):
                walk(one, (*words, name))
            else:
                found[" ".join((*words, name))] = one

    walk(typer.main.get_command(app), ())
    return found


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("incidents", "--help"), ("approve", "--help")])
def test_saying_what_there_is_loads_no_library(arguments: tuple[str, ...]) -> None:
    # 0.3 s is the limit for `irflow --help`; which modules are loaded tells the same on a busy machine too.
    code = (
        "import sys, irflow.cli.main as m\n"
        f"sys.argv = ['irflow', *{arguments!r}]\n"
        "try:\n    m.main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"slow = [one for one in {SLOW!r} if one in sys.modules]\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_says_what_it_does_and_gives_an_example_that_is_a_command(name: str) -> None:
    text = " ".join((commands()[name].help or "").split())
    what, _, example = text.partition("Example: ")
    assert what.strip().endswith((".", ")")), text
    assert example.startswith(f"irflow {name}"), text


@pytest.mark.parametrize("name", sorted(commands()))
def test_the_help_of_every_command_names_each_of_its_options(name: str, irflow: Irflow) -> None:
    done = irflow(*name.split(), "--help")
    assert done.code == 0
    for parameter in commands()[name].params:
        for option in parameter.opts:
            if option.startswith("--"):
                assert option in done.out
        assert getattr(parameter, "help", None), f"{name}: {parameter.name} has no help"


def test_the_version_is_the_package_s(irflow: Irflow) -> None:
    done = irflow("--version")
    assert (done.code, done.out) == (0, f"irflow {__version__}\n")


def test_nothing_to_do_shows_the_help_and_counts_as_a_mistake(home: Path) -> None:
    done = _process(home)
    assert done.returncode == 2
    assert "Exit codes: 0 done; 1 a check failed; 2 usage;" in done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [("isolat",), ("incidents", "sho"), ("plan",), ("approve", "X", "--nonsense")])
def test_a_misspelt_command_is_a_usage_error_without_a_traceback(irflow: Irflow, arguments: tuple[str, ...]) -> None:
    done = irflow(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert "Usage: irflow" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_a_completion_script(shell: str, home: Path) -> None:
    done = _process(home, "--show-completion", shell)
    assert done.returncode == 0, done.stderr
    assert "_IRFLOW_COMPLETE" in done.stdout


def test_completion_offers_the_commands(home: Path) -> None:
    env = {"_IRFLOW_COMPLETE": "complete_bash", "COMP_WORDS": "irflow inc", "COMP_CWORD": "1"}
    done = _process(home, env=env)
    assert done.stdout.split() == ["incidents"]


def _process(home: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "irflow"
    return subprocess.run(
        [program, *arguments], env={**os.environ, "IRFLOW_HOME": str(home), **(env or {})}, capture_output=True,
        text=True, timeout=30, check=False,
    )  # fmt: skip


def test_without_a_terminal_there_is_no_colour(home: Path) -> None:
    assert _process(home, "init").returncode == 0
    for env in ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, {"NO_COLOR": ""}):
        done = _process(home, "check", env=env)
        assert done.returncode == 0, done.stderr
        assert not re.search(r"\x1b\[3\d|\x1b\[9\d|\x1b\[4\d", done.stdout)
