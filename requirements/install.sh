#!/usr/bin/env bash
# Install an exact lock into .venv, without resolving anything: `requirements/install.sh cpu` or `cuda`.
# A second run with the same lock does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
lock=requirements/${1:-cpu}.lock
python=${PYTHON:-python3}
stamp=.venv/.installed
want=$(cat "$lock" requirements/install.sh pyproject.toml | sha256sum)
[ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && exit 0

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || {
    echo "Leeway needs Python 3.11, 3.12 or 3.13; $python is $("$python" --version). Set PYTHON=/path/to/python." >&2
    exit 2
}
command -v cc >/dev/null || command -v gcc >/dev/null || {
    echo "Leeway needs a C compiler once: pycosat, which reasoning-gym asks for, comes as source. Install gcc." >&2
    exit 2
}
[ "${1:-cpu}" != cpu ] || "$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null || {
    echo "Leeway needs libnuma, which vLLM is linked with on CPUs. Install libnuma1 (Debian) or numactl-libs (Fedora)." >&2
    exit 2
}
say() { printf '[setup] %s\n' "$*"; }

say "creating .venv with $("$python" --version)"
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install -qq --disable-pip-version-check uv==0.13.9

# The CPU build of torch is not on PyPI. Take it from a folder that pip is configured with, else from PyTorch's own index.
torch=$(grep -E '^torch==.*\+cpu$' "$lock" || true)
if [ -n "$torch" ] && ! .venv/bin/python -m pip show torch 2>/dev/null | grep -qx "Version: ${torch#torch==}"; then
    say "installing $torch"
    .venv/bin/python -m pip install --quiet --no-deps --no-index "$torch" 2>/dev/null ||
        .venv/bin/python -m pip install --quiet --no-deps --index-url https://download.pytorch.org/whl/cpu "$torch"
fi
say "installing $(grep -c == "$lock") exact versions from $lock"
.venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python --no-deps --requirements "$lock"
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --editable .
printf '%s\n' "$want" > "$stamp"
say "ready"
