#!/usr/bin/env bash
# Resolve pyproject.toml into the exact locks. Needs `uv`; run it when a dependency changes, and commit the result.
set -euo pipefail
cd "$(dirname "$0")/.."
# Resolved for the lowest Python that is supported; the same versions have wheels for the later ones.
compile() {
    uv pip compile --quiet --no-header --no-annotate --python-version 3.11 --python-platform x86_64-manylinux_2_28 "$@"
}

{
    echo "torch==2.13.0+cpu"
    compile pyproject.toml requirements/torch.in --extra cpu --extra dev --override requirements/cpu.overrides
} > requirements/cpu.lock
compile pyproject.toml --extra cuda --extra dev > requirements/cuda.lock

# What the extras s3 and gcs bring beside either of them, for the images: not what both have in that version anyway.
# aiobotocore takes no python-dateutil 4, so that this one is not held to theirs.
both=$(comm -12 <(sort requirements/cpu.lock) <(sort requirements/cuda.lock) | grep -v '^python-dateutil==')
compile pyproject.toml --extra s3 --extra gcs --constraint <(echo "$both") | grep -vxF "$both" > requirements/storage.lock
