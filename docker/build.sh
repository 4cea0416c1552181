#!/bin/sh
# Builds an image on the base that docker/.env pins, and names it by the package's version.
#
#   docker/build.sh render|train [OPTIONS OF docker build]
#
# ENGINE=podman builds with that one.
set -eu
cd "$(dirname "$0")/.."
case ${1:-} in
render | train) name=$1 ;;
*)
    echo "usage: $0 render|train [options of docker build]" >&2
    exit 2
    ;;
esac
shift
BASE_IMAGE=$(sed -n 's/^BASE_IMAGE=//p' docker/.env)
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' pointcmt/__init__.py)
exec "${ENGINE:-docker}" build --file "docker/$name.Dockerfile" \
    --build-arg "BASE_IMAGE=$BASE_IMAGE" --tag "pointcmt-$name:$version" "$@" .
