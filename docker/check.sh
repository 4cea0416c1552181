#!/bin/bash
# Builds the images and works in them, where no image can be pulled and no container engine runs:
# on any Debian, as root, with nothing but its packages. Prints what it finds; stops at the first
# thing that is not as it should be.
#
#   apt-get install --no-install-recommends buildah debootstrap
#   docker/check.sh render [OPTIONS OF buildah build]   some 7 minutes on 2 cores, 10 GB below TMPDIR
#   docker/check.sh train [OPTIONS]                     both images: twice of that
#
# Options are for networks of their own kind: --build-arg PIP_EXTRA_INDEX_URL=…, or
# --volume PIP.CONF:/etc/pip.conf:ro and a certificate that it names.
set -euo pipefail
cd "$(dirname "$0")/.."
images=${1:-render}
shift || true
case $images in
render | train) ;;
*)
    echo "usage: $0 render|train [options of buildah build]" >&2
    exit 2
    ;;
esac
[ "$(id -u)" = 0 ] || {
    echo "this needs root, for debootstrap and mounts" >&2
    exit 1
}
for tool in buildah debootstrap setpriv unshare; do
    command -v $tool >/dev/null || {
        echo "there is no $tool: apt-get install buildah debootstrap util-linux" >&2
        exit 1
    }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/system" "$work/data"
owner=12345:12345 # an ordinary user, whose folder nobody else may write into
chown $owner "$work/data"
chmod 755 "$work/data"
engine=(buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs)

say() { echo "== $*"; }
fail() {
    echo "not as it should be: $*" >&2
    exit 1
}

# What docker/.env names, from Debian's packages: as new as they are, not as its digest is.
make_base() {
    say "Debian bookworm, by debootstrap"
    debootstrap --variant=minbase bookworm "$work/base" >"$work/log" || fail "$(tail "$work/log")"
    local container
    container=$("${engine[@]}" from scratch)
    "${engine[@]}" add --quiet "$container" "$work/base" / >/dev/null
    "${engine[@]}" commit --quiet --rm "$container" localhost/base:check >/dev/null
    rm -rf "$work/base"
}

# build NAME [OPTIONS]: docker/NAME.Dockerfile, and a container of it.
build() {
    say "docker/$1.Dockerfile"
    "${engine[@]}" build --pull-never --isolation chroot --network host --format docker \
        --build-arg BASE_IMAGE=localhost/base:check \
        --file "docker/$1.Dockerfile" --tag "localhost/$1:check" "${@:2}" . >"$work/log" 2>&1 ||
        fail "$(tail -n 30 "$work/log")"
    "${engine[@]}" from --pull-never --name "$1" "localhost/$1:check" >/dev/null
    say "$1: $(du -sh "$("${engine[@]}" mount "$1")" | cut -f1)"
}

# setting NAME FIELD: of an image's configuration.
setting() {
    "${engine[@]}" inspect --type image --format "{{$2}}" "localhost/$1:check"
}

# inside NAME COMMAND: as a careful engine would run it: the image's user and environment, a
# read-only root, no capability and no way to gain one; /tmp, /cache and /data can be written.
# `as` runs it as another user than the image's.
inside() {
    local root user environment
    root=$("${engine[@]}" mount "$1")
    user=${as:-$(setting "$1" .Docker.Config.User)}
    mapfile -t environment < <(setting "$1" 'range .Docker.Config.Env}}{{println .}}{{end' | grep .)
    touch "$root/etc/hosts" "$root/etc/resolv.conf"
    mkdir -p "$root/cache"
    # shellcheck disable=SC2016
    unshare --mount --pid --fork --kill-child bash -euc '
        root=$1 work=$2 user=$3
        shift 3
        mount --bind "$root" "$work/system"
        mount -o remount,bind,ro "$work/system"
        mount -t proc proc "$work/system/proc"
        mount --rbind /dev "$work/system/dev"
        mount --bind /etc/hosts "$work/system/etc/hosts"
        mount --bind "$work/data" "$work/system/data"
        for folder in tmp cache; do
            mount -t tmpfs -o mode=1777 tmpfs "$work/system/$folder"
        done
        chroot=$(command -v chroot)
        exec env -i HOME=/nonexistent "${@:2:$1}" "$chroot" "$work/system" \
            setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups --no-new-privs \
            --bounding-set=-all --inh-caps=-all \
            sh -c "cd /data && exec \"\$@\"" sh "${@:$(($1 + 2))}"
    ' bash "$root" "$work" "$user" ${#environment[@]} "${environment[@]}" "${@:2}"
}

check_image() {
    local user
    user=$(setting "$1" .Docker.Config.User)
    [[ $user =~ ^[1-9][0-9]*:[1-9][0-9]*$ ]] || fail "the image's user is '$user'"
    [ "$(setting "$1" .Docker.Config.Entrypoint)" = "[pointcmt]" ] || fail "another entry point"
    inside "$1" pointcmt doctor --folder /tmp
    inside "$1" sh -c '! touch /opt/pointcmt/file 2>/dev/null' || fail "the root can be written"
    # shellcheck disable=SC2016
    inside "$1" sh -c '[ "$(grep CapEff /proc/self/status)" = "CapEff:	0000000000000000" ]' ||
        fail "it has capabilities"
    inside "$1" sh -c '! command -v pip && ! python -c "import pip" 2>/dev/null' || fail "pip is left"
    as=$owner inside "$1" pointcmt doctor >/dev/null || fail "it does not run as another user"
}

check_render() {
    check_image render
    setting render .Docker.Config.Healthcheck.Test | grep -q "pointcmt --version" ||
        fail "no health check"
    inside render pointcmt --version
    inside render sh -c '! python -c "import torch" 2>/dev/null' || fail "it carries torch"
    inside render sh -c '! command -v cc gcc g++ c++ ld' || fail "it carries a compiler"
    inside render dask scheduler --version
    say "rendering, the machine code of the image alone"
    as=$owner inside render env NUMBA_DEBUG_CACHE=1 pointcmt render --dataset toy --limit 60 \
        --rig ortho6 --size 64 --workers 2 --out S >"$work/data/log"
    grep -q "data loaded" "$work/data/log" || fail "machine code is compiled at each start"
    ! grep "data saved" "$work/data/log" || fail "these functions are not in the image"
    tail -n 1 "$work/data/log"
    inside render pointcmt verify S
}

check_train() {
    check_image train
    inside train sh -c '! python -c "import open3d" 2>/dev/null' || fail "it carries a renderer"
    [ "$(stat -c %a "$("${engine[@]}" mount train)/cache")" = 1777 ] ||
        fail "not every user may write into a new volume for /cache"
    say "training by two processes, and compiled"
    local small=(--data S --epochs 1 --set data.batch_size=4 --set data.points=64)
    as=$owner inside train torchrun --standalone --nproc-per-node 2 -m pointcmt train student \
        "${small[@]}" --out RUN
    as=$owner inside train pointcmt train student "${small[@]}" --compile --out COMPILED
    as=$owner inside train pointcmt evaluate RUN --data S | head -n 3
}

make_base
build render "$@"
check_render
if [ "$images" = train ]; then
    build train "$@"
    check_train
fi
say "all as it should be"
