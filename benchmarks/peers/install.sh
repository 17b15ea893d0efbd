#!/usr/bin/env bash
# Install a peer's exact lock into its own environment, without resolving anything: `benchmarks/peers/install.sh`.
# A second run with the same lock does nothing.
set -euo pipefail
cd "$(dirname "$0")"
lock=trl.lock
want=$(cat "$lock" install.sh | sha256sum)
[ "$(cat .venv/.installed 2>/dev/null)" = "$want" ] && exit 0
say() { printf '[peer] %s\n' "$*" >&2; }

# A run that was interrupted leaves no stamp: start again from nothing.
rm -rf .venv
python=${PYTHON:-python3}
say "creating benchmarks/peers/.venv with $("$python" --version)"
"$python" -m venv .venv
pip() { .venv/bin/python -m pip --quiet --quiet --disable-pip-version-check "$@"; }
pip install uv==0.13.9

# The CPU build of torch is not on PyPI. Take it from a folder that pip is configured with, else from PyTorch's own index.
torch=$(grep -E '^torch==' "$lock")
say "installing $torch"
pip install --no-deps --no-compile --no-index "$torch" 2>/dev/null ||
    pip install --no-deps --no-compile --index-url https://download.pytorch.org/whl/cpu "$torch"
say "installing $(grep -c == "$lock") exact versions from benchmarks/peers/$lock"
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --requirements "$lock"
.venv/bin/uv pip check --quiet --python .venv/bin/python
.venv/bin/python -c 'import torch; from trl import GRPOConfig, GRPOTrainer'
printf '%s\n' "$want" > .venv/.installed
say "ready"
