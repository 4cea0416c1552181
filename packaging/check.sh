#!/bin/sh
# Builds the sdist, and from it the wheel; installs the wheel alone into a fresh environment and
# works with it in another folder; then looks whether the sdist's tests can be found, or runs them.
#
#   packaging/check.sh PYTHON [TESTS…]    PYTHON: with hatchling. TESTS: what pytest gets, such as
#                                         tests/test_cli.py; without, tests are collected only.
#
# TORCH_INDEX: where to take torch from, as in the Makefile. DIST: a folder for the two files.
set -eu
python=$(realpath --no-symlinks "$(command -v "$1")")
shift
cd "$(dirname "$0")/.."
constraints=$PWD/constraints.txt
[ -z "${DIST:-}" ] || DIST=$(realpath -m "$DIST")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH

say() { echo "== $*"; }
say "building"
"$python" -m hatchling build --target sdist --directory "$work/dist"
mkdir "$work/sdist" "$work/elsewhere"
tar -xzf "$work"/dist/*.tar.gz --strip-components 1 -C "$work/sdist"
(cd "$work/sdist" && "$python" -m hatchling build --target wheel --directory "$work/dist")
wheel=$(echo "$work"/dist/*.whl)

say "installing $(basename "$wheel")"
"$python" -m venv "$work/venv"
pip() { "$work/venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
pip install --constraint "$constraints" 'pip>=25.1'
[ -z "${TORCH_INDEX:-}" ] || pip install --constraint "$constraints" --index-url "$TORCH_INDEX" torch
pip install --constraint "$constraints" "$wheel[all]"
PATH=$work/venv/bin:$PATH

cd "$work/elsewhere"
say "working in another folder"
pointcmt --version
python -c 'import pointcmt, sys; sys.exit(not pointcmt.__file__.startswith(sys.prefix))'
pointcmt doctor
pointcmt render --dataset toy --limit 60 --rig ortho6 --size 32 --points 256 --out S
pointcmt train student --config student-toy --set data.points=64 --epochs 1 --data S --out RUN
pointcmt evaluate RUN --data S | head -n 3
pointcmt train student --config student-toy --print-config >mine.yaml
pointcmt train student --config mine.yaml --print-config | cmp - mine.yaml
pointcmt demo --out demo
mkdir notebook && cd notebook
python - "$work/sdist/docs/tutorials/quickstart.ipynb" <<END
import json, sys
cells = json.load(open(sys.argv[1]))["cells"]
exec("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))
END

say "the sdist's tests"
cd "$work/sdist"
pip install --constraint "$constraints" --group dev
if [ $# = 0 ]; then
    python -m pytest --collect-only --quiet | tail -n 3
else
    python -m pytest "$@"
fi
if [ -n "${DIST:-}" ]; then
    mkdir -p "$DIST"
    cp "$work"/dist/* "$DIST/"
fi
say "all as it should be"
