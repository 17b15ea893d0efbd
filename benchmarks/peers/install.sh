#!/usr/bin/env bash
# Install a peer's exact lock into its own environment, without resolving: `benchmarks/peers/install.sh`.
set -euo pipefail
cd "$(dirname "$0")"
want=$(cat trl.lock install.sh | sha256sum)
[ "$(cat .venv/.installed 2>/dev/null)" = "$want" ] && exit 0
[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
pip() { .venv/bin/python -m pip --quiet --disable-pip-version-check "$@"; }
# The CPU build of torch is not on PyPI: take it from a folder that pip is configured with, else from PyTorch's index.
torch=$(grep '^torch==' trl.lock)
pip install --no-deps --no-index "$torch" 2>/dev/null ||
    pip install --no-deps --index-url https://download.pytorch.org/whl/cpu "$torch"
pip install --no-deps --requirement trl.lock
printf '%s\n' "$want" > .venv/.installed
