#!/bin/sh
# Resolve the three lock files: versions and hashes only, no download addresses. Usage: convert/lock.sh UV
set -eu
uv=$1
# Later ones say they are not for Python 3.11 and newer; pip believes them, and ai-edge-litert wants one everywhere.
limits=$(mktemp)
trap 'rm -f "$limits"' EXIT
echo 'backports-strenum<1.3' > "$limits"
resolve() { "$uv" pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.10 --constraint "$limits" "$@"; }
resolve pyproject.toml -o runtime/requirements.lock
resolve pyproject.toml --extra convert --extra dev -o convert/requirements.lock
echo 'uv==0.13.9' | resolve - -o convert/bootstrap.lock
