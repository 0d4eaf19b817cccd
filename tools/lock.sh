#!/usr/bin/env bash
# Write requirements.lock from pyproject.toml: every dependency of irflow and its tests, with hashes, for any Python
# that irflow supports, and without the address of the registry it was resolved from.
set -euo pipefail
cd "$(dirname "$0")/.."
unset PIP_REQUIRE_VIRTUALENV

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --target "$work/uv" 'uv>=0.9,<1'
cp requirements.lock "$work/lock" 2>/dev/null || true
# Resolved beside the old lock, so that what need not change stays; UPGRADE=1 takes the newest versions instead.
"$work/uv/bin/uv" pip compile pyproject.toml --extra dev --output-file "$work/lock" ${UPGRADE:+--upgrade} \
    --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
    --no-annotate --quiet
if grep -nE '://|^-' "$work/lock"; then
    echo 'lock: the lines above name an address or an option; requirements.lock was left as it was' >&2
    exit 1
fi
mv "$work/lock" requirements.lock
echo "lock: $(grep -c == requirements.lock) packages in requirements.lock"
