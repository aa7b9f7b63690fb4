#!/bin/sh
# Resolve the three lock files: versions and hashes only, no download addresses. Usage: convert/lock.sh UV
set -eu
uv=$1
resolve() { "$uv" pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.10 "$@"; }
resolve pyproject.toml -o runtime/requirements.lock
resolve pyproject.toml --extra convert --extra dev -o convert/requirements.lock
echo 'uv==0.13.9' | resolve - -o convert/bootstrap.lock
