#!/bin/sh
# Writes constraints-oldest.txt: the oldest version of each direct dependency that pyproject.toml
# allows, with today's newest of what these depend on. Needs uv, once, and Python 3.11.
set -eu
cd "$(dirname "$0")/.."
new=$(mktemp)
trap 'rm -f "$new" "$new.txt"' EXIT
{
    echo "# The oldest versions that pyproject.toml allows, on Python 3.11: make test-oldest"
    echo "# To renew: make oldest"
} >"$new"
# Not into an existing file: uv would keep the versions that are there.
uv pip compile --quiet --no-annotate --no-header --resolution lowest-direct --python-version 3.11 \
    --extra all --group dev --output-file "$new.txt" pyproject.toml
grep -v '^nvidia-' "$new.txt" >>"$new" # torch fixes these itself; its builds for CPUs have none
cat "$new" >constraints-oldest.txt
