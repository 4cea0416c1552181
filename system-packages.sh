#!/bin/sh
# Installs the shared libraries that the Python packages load but do not carry. Quick when they are
# there. Without root it says what to install and goes on: `pointcmt doctor` tells what is missing.
# With the argument `tests`, it also installs a browser, for the tests of what `pointcmt view` writes;
# they are skipped where there is none.
set -eu

# What open3d loads and its wheel leaves to the system, then Mesa's EGL (a GPU brings its own).
packages="libusb-1.0-0 libgomp1 libegl1 libgl1 libx11-6 libegl-mesa0 libgl1-mesa-dri"
# Whom s3:// and gs:// and the hub of pretrained weights may be trusted to be.
packages="$packages ca-certificates"
# What pyrender loads, to test against it.
packages="$packages libxrender1"

command -v apt-get >/dev/null 2>&1 || {
    echo "not a Debian-like system: make sure libusb-1.0, libgomp, libEGL, libGL, libX11 are there" >&2
    exit 0
}
# Debian's own Python comes without the part that makes virtual environments.
python3 -c 'import ensurepip' 2>/dev/null || packages="$packages python3-venv"
if [ "${1:-}" = tests ]; then
    for browser in chromium-headless-shell chromium chromium-browser google-chrome; do
        command -v "$browser" >/dev/null 2>&1 && exit 0
    done
    packages=chromium-headless-shell # Debian's: 110 MB to download, 300 MB on the disk
    apt-cache show $packages >/dev/null 2>&1 || exit 0
fi
missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo"
else
    echo "these system packages are missing: apt-get install$missing" >&2
    exit 0
fi
echo "installing system packages:$missing" >&2
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
