#!/bin/sh
# Asks the registry for the digest of a base image, and has docker/.env pin it.
#
#   docker/pin-base.sh                               the tag that is pinned now
#   docker/pin-base.sh debian:bookworm-20260918-slim another one
#
# Needs docker with buildx, and the registry. Look at the change, and build, before you keep it.
set -eu
cd "$(dirname "$0")"
image=${1:-$(sed -n 's/^BASE_IMAGE=//p' .env)}
image=${image%@*}
case ${image##*/} in # what comes before the last slash may hold a port
*:latest | *[!A-Za-z0-9._:-]*) exact="" ;;
*:?*) exact=yes ;;
*) exact="" ;;
esac
[ -n "$exact" ] || {
    echo "$image: name an exact tag, such as debian:bookworm-20260918-slim" >&2
    exit 2
}
# All platforms' common digest. Not --format, which some versions ignore.
digest=$(docker buildx imagetools inspect "$image" | sed -n 's/^Digest: *//p' | head -n 1)
echo "$digest" | grep -Eqx 'sha256:[0-9a-f]{64}' || {
    echo "$image: the registry returned no digest; docker/.env was not changed" >&2
    exit 1
}
# What is said of where the digest is from does not hold for the new one.
{
    echo "# The base image of all our images: docker/build.sh reads this file, and compose does so by itself."
    echo "# The tag is for people; the digest is what is pulled, even if the tag is moved later."
    echo "# docker/pin-base.sh writes this file."
    echo "BASE_IMAGE=$image@$digest"
} >.env.new
mv .env.new .env
echo "docker/.env: $image@$digest"
