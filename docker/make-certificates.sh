#!/bin/sh
# Writes what a dask cluster needs to speak TLS: FOLDER/ca.pem, and cluster.pem with its key
# cluster.key, for scheduler, workers and clients alike (dask asks no more of them than that the
# same authority has signed them, so anyone with this key may do anything).
#
#   docker/make-certificates.sh FOLDER [DAYS]
#
# The authority's own key is not kept, so that no further certificate can be made. To renew, write
# into another folder and restart the cluster with it.
set -eu
umask 077
[ $# -ge 1 ] || {
    echo "usage: $0 FOLDER [DAYS]" >&2
    exit 2
}
folder=$1
days=${2:-365}
command -v openssl >/dev/null || {
    echo "there is no openssl: apt-get install openssl" >&2
    exit 1
}
[ ! -e "$folder/cluster.key" ] || {
    echo "$folder holds certificates already: choose another folder" >&2
    exit 1
}
mkdir -p "$folder"
draft=$(mktemp -d)
trap 'rm -rf "$draft"' EXIT

key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
# shellcheck disable=SC2086 # several words
openssl req -x509 $key -keyout "$draft/ca.key" -out "$draft/ca.pem" -days "$days" \
    -subj "/CN=pointcmt authority" 2>/dev/null
# shellcheck disable=SC2086
openssl req $key -keyout "$draft/cluster.key" -out "$draft/request" \
    -subj "/CN=pointcmt cluster" 2>/dev/null
printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n' >"$draft/use"
openssl x509 -req -in "$draft/request" -CA "$draft/ca.pem" -CAkey "$draft/ca.key" \
    -set_serial 1 -days "$days" -extfile "$draft/use" -out "$draft/cluster.pem" 2>/dev/null
mv "$draft/ca.pem" "$draft/cluster.pem" "$draft/cluster.key" "$folder/"
echo "$folder: ca.pem, cluster.pem, cluster.key, good for $days days"
