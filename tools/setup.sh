#!/usr/bin/env bash
# Make this clone ready: Debian packages, then .venv with what requirements.lock names and irflow itself, editable.
# Does only what is not yet done: a second run takes a moment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Installed without byte code, every start of irflow would compile Prefect again.
unset PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH PIP_REQUIRE_VIRTUALENV
readonly VENV=.venv
readonly STAMP=$VENV/.irflow-setup
python=${PYTHON:-python3}

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# Two targets of one clone may run at once.
exec 9<.
if command -v flock >/dev/null; then flock 9; fi

tools/debian.sh

key="$(cat requirements.lock pyproject.toml "${BASH_SOURCE[0]}" | sha256sum | cut -d' ' -f1) $PWD"
if [ "$(cat "$STAMP" 2>/dev/null)" = "$key" ] && [ -x $VENV/bin/irflow ]; then exit 0; fi

command -v "$python" >/dev/null || fail "no $python here: install Python 3.11 or newer, or name one: make PYTHON=..."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version) is too old: irflow needs 3.11 or newer. Name another: make PYTHON=..."
started=$SECONDS

# A folder that was moved, or whose Python is gone, cannot be mended: its programs name the old place.
fresh=()
if [ -e "$STAMP" ] && [ "$(cut -d' ' -f2- "$STAMP")" != "$PWD" ]; then fresh=(--clear); fi
if [ -e $VENV ] && ! $VENV/bin/python -c '' 2>/dev/null; then fresh=(--clear); fi
if [ ! -e $VENV ] || [ ${#fresh[@]} -gt 0 ]; then
    # Without pip, which Debian's Python could only put there with one more package; the outer pip does the work.
    "$python" -m venv --without-pip "${fresh[@]}" $VENV
fi
rm -f "$STAMP"
if "$python" -m pip --version >/dev/null 2>&1; then
    pip=("$python" -m pip --python "$VENV/bin/python")
elif $VENV/bin/python -m ensurepip >/dev/null 2>&1; then
    pip=("$VENV/bin/python" -m pip)
else
    fail "no pip for $python: on Debian, apt-get install python3-pip"
fi
quiet=(--quiet --no-input --disable-pip-version-check --root-user-action ignore)
say "installing $(grep -c == requirements.lock) Python packages into $VENV"
"${pip[@]}" install "${quiet[@]}" --no-compile --no-deps --require-hashes -r requirements.lock
"${pip[@]}" install "${quiet[@]}" --no-compile --no-deps --no-build-isolation --editable .
# All cores; a few packages carry files for other Pythons, which do not compile and are never imported.
$VENV/bin/python -m compileall -q -j 0 $VENV/lib src >/dev/null || true
echo "$key" >"$STAMP"
say "ready after $((SECONDS - started)) s"
