"""What the source may hold: its size, its imports, its words."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from irflow import remote

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "irflow"
MODULES = sorted(SOURCE.rglob("*.py"))
SCRIPTS = sorted((SOURCE / "remote").glob("*.sh"))

LINES, MOST_LINES = 300, 350
FUNCTION_LINES, MOST_FUNCTION_LINES = 40, 60
MOST_KB = 500

NOT_OURS = {".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".import_linter_cache", ".hypothesis"}
MADE = {"__pycache__", "build", "dist", "bench.json"}

# Written so that this file does not hold what it looks for.
FORBIDDEN = {
    "the address of a package registry": r"p[y]pi[.]org|pyth[o]nhosted|deb[i]an[.]org|npm[j]s|registry[.]n[p]m",
    "a path of one machine": r"(^|[^a-z])/w[o]rk/(main|steering|shared)|/f[a]rm/|/r[o]ot/[.]pyenv",
    "work left undone": r"\b(TO[D]O|FIX[M]E|X{3}|HA[C]K)\b",
    "a private key": r"BEG[I]N ([A-Z]+ )?PRIVATE KEY-----\s*\n[A-Za-z0-9+/]",
}


def name(path: Path) -> str:
    """How the test report calls a file."""
    return str(path.relative_to(ROOT))


def own_files() -> Iterator[Path]:
    """Every file of the repository, whether or not it is committed yet."""
    for path in sorted(ROOT.rglob("*")):
        if not (NOT_OURS | MADE).intersection(path.relative_to(ROOT).parts) and path.is_file():
            yield path


def judge(sizes: Iterator[tuple[int, str]], aim: int, most: int) -> None:
    """Fail for what is longer than `most` lines; say so for what is longer than `aim`."""
    long = sorted((size for size in sizes if size[0] > aim), reverse=True)
    too_long = [f"{count} lines: {what}" for count, what in long if count > most]
    assert not too_long, "is there a second idea in these?\n" + "\n".join(too_long)
    if long:
        warnings.warn(f"over {aim} lines: " + ", ".join(f"{what} ({count})" for count, what in long), stacklevel=2)


def functions() -> Iterator[tuple[int, str]]:
    """Length and place of every function."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                yield length, f"{name(path)}:{node.lineno} {node.name}"


def test_a_file_holds_one_idea() -> None:
    judge(((len(path.read_text().splitlines()), name(path)) for path in MODULES), LINES, MOST_LINES)


def test_a_function_can_be_read_at_a_glance() -> None:
    judge(functions(), FUNCTION_LINES, MOST_FUNCTION_LINES)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports, also inside its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: a relative import hides which layer is meant"
            yield node.lineno, node.module or ""


def test_the_core_needs_nothing_but_python_and_its_models() -> None:
    allowed = sys.stdlib_module_names | {"pydantic", "pydantic_core", "rfc8785"}
    others = [
        f"{name(path)}:{line} imports {module}"
        for path in sorted((SOURCE / "core").rglob("*.py"))
        for line, module in imports(path)
        if module.split(".")[0] not in allowed and not module.startswith("irflow.core")
    ]
    assert not others, "\n".join(others)


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    heavy = "{'prefect', 'fastapi', 'sqlalchemy', 'paramiko', 'apprise', 'jinja2'}"
    code = f"import sys, irflow.cli.main; print(*sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.split() == []


def test_a_script_for_targets_stops_at_the_first_error_and_trusts_no_environment() -> None:
    assert SCRIPTS
    for path in SCRIPTS:
        text = remote.text(path.name).decode()
        for needed in (r"^set -eu$", r"\bPATH=/", r"\bLC_ALL=C\b"):
            assert re.search(needed, text, re.MULTILINE), f"{name(path)} lacks {needed}"
        assert not re.search(r"\beval\b", text), f"{name(path)} evaluates text"


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what], re.MULTILINE)
    found = []
    for path in own_files():
        if path.suffix == ".png":  # in a picture, any letters may stand beside each other
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{name(path)}:{text.count(chr(10), 0, hit.start()) + 1}: {hit[0]}" for hit in pattern.finditer(text)]
    assert not found, f"{what}:\n" + "\n".join(found)


def test_no_file_is_large() -> None:
    assert [name(path) for path in own_files() if path.stat().st_size > MOST_KB * 1024] == []


def test_the_lock_pins_every_package_by_hash() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.findall(r"^[a-z0-9][\w.\-\[\]]*==(?:.*\\\n)*.*$", lock, re.MULTILINE)
    assert len(entries) > 50
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    fastapi = re.search(r"^fastapi==0\.(\d+)\.", lock, re.MULTILINE)
    assert fastapi, "no FastAPI in the lock"
    assert int(fastapi[1]) < 151, "Prefect 3.8.8 answers 422 with this FastAPI; pyproject.toml says why"
