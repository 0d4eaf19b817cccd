"""Every command that the README shows is run, in its order, on a lab host; what it prints begins as shown."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from irflow.lab.lab import Lab
from tests.cli.conftest import run
from tests.integration.cli_site import Desk, desk

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
SHOWN = "IR-2026-0001"
ELSEWHERE = {
    "make drill": "tests/integration/test_drill.py", "irflow up": "tests/integration/test_up.py",
    "irflow secrets rotate-all": "tests/integration/test_secrets_command.py",
    "irflow secrets verify": "tests/integration/test_secrets_command.py",
    "irflow init": "test_the_first_commands_write_a_configuration_and_say_what_is_missing",
    "irflow doctor": "test_the_first_commands_write_a_configuration_and_say_what_is_missing",
}  # fmt: skip
"""Commands that have a test of their own, and where."""


def commands() -> list[tuple[str, list[str]]]:
    """Each command with the lines that follow it in its block."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def headings(lines: list[str]) -> list[list[str]]:
    """The words of each line that heads a table."""
    return [line.split() for line, rule in itertools.pairwise(lines) if rule and set(rule) == {"─"}]


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One incident of severity high about one host, and one operator with all roles, as `irflow init` makes."""
    folder = tmp_path_factory.mktemp("readme")
    with Lab.up(2, folder / "lab") as lab:
        here = desk(folder / "home", lab)
        roles = ["incident_commander", "communications", "technical_lead", "legal"]
        login = next(iter(_operators(here).values()))["login"]
        here.edit("operators.yaml", lambda data: data.update(operators={login: {"login": login, "roles": roles}}))
        yield here


def _operators(here: Desk) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    here.edit("operators.yaml", lambda data: found.update(data["operators"]))
    return found


def test_the_commands_about_an_incident_do_what_the_readme_shows(at: Desk) -> None:
    number = ""
    for command, shown in commands():
        if command in ELSEWHERE:
            continue
        if not number:
            number = _incident(at)
        words = [number if word == SHOWN else word for word in shlex.split(command)]
        assert words[0] == "irflow"
        done = at.irflow(*words[1:])
        assert done.code == 0, f"{command}: {done.err}"
        printed = done.out.splitlines()
        for heading in headings(shown):
            assert heading in [line.split() for line in printed], f"{command} does not print {heading}:\n{done.out}"
        if words[1] == "approve":
            at.work(number, "containment")


def _incident(at: Desk) -> str:
    path = at.home / "alert.json"
    path.write_text('{"type": "system_compromise", "severity": "high", "title": "Beacon", "hosts": ["web-1"]}')
    done = at.irflow("respond", "--alert", str(path), "--json")
    assert done.code == 0, done.err
    number = at.number(done.json["alerts"][0]["incident_id"])
    at.work(number, "detection")
    at.work(number, "containment")
    return number


def test_the_first_commands_write_a_configuration_and_say_what_is_missing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert run(home, "init").code == 0
    looked = run(home, "doctor")
    assert looked.code in (0, 1, 7)
    assert "Traceback" not in looked.out + looked.err
    assert run(home, "check").code == 0


@pytest.mark.parametrize("command", [one for one, _ in commands() if one.startswith("make ")])
def test_every_make_target_exists(command: str) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert command.split()[1] in targets


@pytest.mark.parametrize("words", sorted(set(re.findall(r"`(irflow [a-z][^`]*)`", TEXT))))
def test_a_command_in_the_text_is_one(words: str, tmp_path: Path) -> None:
    parts = [word for word in words.split()[1:] if not word.startswith("-")]
    for length in (2, 1):
        if run(tmp_path, *parts[:length], "--help").code == 0:
            return
    pytest.fail(f"there is no command {words}")


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", TEXT))))
def test_a_link_leads_somewhere(link: str) -> None:
    assert "://" in link or (ROOT / link).exists()


def test_the_playbooks_that_are_named_are_those_that_are_shipped() -> None:
    shipped = {path.stem for path in (ROOT / "playbooks").glob("*.yaml")}
    table = TEXT[TEXT.index("| an alert of type") :].split("\n\n")[0]
    named = {row.split("|")[2].strip() for row in table.splitlines()[2:]}
    assert named == shipped


def test_tests_of_their_own_are_there() -> None:
    for where in ELSEWHERE.values():
        assert where.startswith("test_") or (ROOT / where).exists()
    assert subprocess.run(["make", "-n", "drill"], cwd=ROOT, capture_output=True, check=False).returncode == 0
