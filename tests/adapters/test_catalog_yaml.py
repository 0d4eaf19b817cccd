"""YAML files are read strictly: each mistake at its own line, nothing guessed, nothing without bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from irflow.adapters.catalog import load_yaml
from irflow.adapters.catalog.yaml_file import MOST_BYTES, parse_yaml, read_yaml
from irflow.core.errors import ConfigurationErrors
from irflow.core.runbook import Runbook

FILE = Path("some.yaml")

RUNBOOK = """\
runbook: check
title: Check
parameters:
  hosts: {type: hosts, required: true}
steps:
  - id: look
    title: Look
    action: host.facts
    for_each: "{{ hosts }}"
    with: {host: "{{ item }}"}
"""


def mistakes(text: str, tmp_path: Path) -> list[str]:
    """What reading a runbook says is wrong, as `LINE: message`."""
    path = tmp_path / "check.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationErrors) as caught:
        load_yaml(path, Runbook)
    for error in caught.value.errors:
        assert str(error).startswith(f"{path}:")
    return [str(error).removeprefix(f"{path}:") for error in caught.value.errors]


def wrong(text: str) -> list[str]:
    with pytest.raises(ConfigurationErrors) as caught:
        parse_yaml(text, FILE)
    return [str(error) for error in caught.value.errors]


def test_a_file_without_mistakes_gives_its_model(tmp_path: Path) -> None:
    path = tmp_path / "check.yaml"
    path.write_text(RUNBOOK)
    runbook = load_yaml(path, Runbook)
    assert runbook.runbook == "check"
    assert runbook.steps[0].arguments == {"host": "{{ item }}"}


def test_every_mistake_is_shown_at_once_each_at_its_own_line(tmp_path: Path) -> None:
    text = RUNBOOK.replace("title: Check", "titel: Check").replace("type: hosts", "type: host5").replace(
        "    title: Look", "    title: Look\n    on_failure: ignore\n    timeout: 2 hours"
    )  # fmt: skip
    found = mistakes(text, tmp_path)
    lines = sorted(int(one.split(":")[0]) for one in found)
    assert lines == [1, 2, 4, 8, 9]
    joined = "\n".join(found)
    assert "'title' is missing" in joined
    assert "2: unknown key 'titel'. Did you mean 'title'?" in joined
    assert "parameters.hosts.type: must be" in joined and "Did you mean 'host'?" in joined
    assert "8: steps.0.on_failure: must be 'stop' or 'continue'" in joined
    assert "9: steps.0.timeout: not a duration: write 90s, 15m, 8h, 2d or 1w" in joined


def test_a_misspelt_key_deep_inside_gets_a_suggestion(tmp_path: Path) -> None:
    assert mistakes(RUNBOOK.replace("    action:", "    acton:"), tmp_path) == [
        "8: unknown key 'acton'. Did you mean 'action'?",
    ]
    assert mistakes(RUNBOOK.replace("required:", "requird:"), tmp_path) == [
        "4: unknown key 'requird'. Did you mean 'required'?"
    ]


def test_a_duplicate_key_is_refused_and_both_lines_are_named() -> None:
    assert wrong("a: 1\nb: 2\na: 3\n") == ["some.yaml:3: 'a' is here twice, first in line 1. Remove one"]
    assert wrong("steps:\n- id: x\n  id: y\n- {k: 1, k: 2}\n") == [
        "some.yaml:3: 'id' is here twice, first in line 2. Remove one",
        "some.yaml:4: 'k' is here twice, first in line 4. Remove one",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: [1\nb: 2", 2), ("a: 1\n  b: 2", 2), ("a: 1\n---\nb: 2", 2), ("a: {b: 1\n\tc: 2}", 2), ("'", 1)],
)
def test_what_is_not_yaml_is_an_error_at_its_line(text: str, line: int) -> None:
    assert wrong(text)[0].startswith((f"some.yaml:{line}: not YAML", f"some.yaml:{line + 1}: not YAML"))


@pytest.mark.parametrize(
    "text", ["!!python/object/apply:os.system [id]", "a: !!binary aGk=", "a: !secret x", "<<: {a: 1}"]
)
def test_tags_and_merge_keys_are_refused(text: str) -> None:
    assert "some.yaml:1:" in wrong(text)[0]


def test_yaml_1_2_means_what_it_says() -> None:
    text = "a: yes\nb: no\nc: 010\nd: 0o10\ne: 2026-01-01\nf: ~\ng: 1_000\nh: 1.5\ni: 12:30:00\nj: true\n"
    assert parse_yaml(text, FILE).data == {
        "a": "yes", "b": "no", "c": 10, "d": 8, "e": "2026-01-01", "f": None, "g": 1000, "h": 1.5, "i": "12:30:00",
        "j": True,
    }  # fmt: skip


def test_references_need_no_quotes_in_short_forms() -> None:
    assert parse_yaml("{key: file:keys/x, all: [log, file:a]}", FILE).data == {
        "key": "file:keys/x", "all": ["log", "file:a"],
    }  # fmt: skip


def test_keys_that_are_not_texts_are_refused_with_the_way_out() -> None:
    assert wrong("1: a\n") == ["some.yaml:1: '1' cannot be a key. Put it in quotes"]
    assert wrong("? [a]\n: b\n") == ["some.yaml:1: this cannot be a key"]


def test_an_alias_bomb_ends_as_an_error_and_not_in_the_memory() -> None:
    layers = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    layers += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "more than 400000 values" in wrong("\n".join(layers))[-1]


def test_an_alias_that_contains_itself_is_refused() -> None:
    assert wrong("a: &a [1, *a]\n") == ["some.yaml:1: an alias that contains itself"]


def test_a_plain_alias_works() -> None:
    assert parse_yaml("a: &x {k: 1}\nb: *x\n", FILE).data == {"a": {"k": 1}, "b": {"k": 1}}


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 50_000, "- " * 50_000])
def test_deep_nesting_is_refused_before_it_reaches_the_c_stack(text: str) -> None:
    assert "nested deeper than 32 levels" in wrong(text)[0]


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(ConfigurationErrors, match="larger than 4 MiB"):
        read_yaml(path)


def test_a_missing_file_and_other_encodings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationErrors, match=r"none\.yaml: cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml")
    path = tmp_path / "latin.yaml"
    path.write_bytes("a: 1\nb: \xe4\n".encode("latin-1"))
    with pytest.raises(ConfigurationErrors, match=r"latin\.yaml:2: not UTF-8"):
        read_yaml(path)
