#!/usr/bin/env bash
# Builds what the benches run and runs them all; docs/performance.md says what they mean.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" -ne 0 ]; then
  echo "error: the benches run real Envoys in network namespaces; run them as root" >&2
  exit 1
fi

cargo=${CARGO:-cargo}
# What the node's table is compared with.
scripts/system-packages.sh ipset
make -s filter envoy
# The yardstick: as the SDK makes it, and trimmed as the filter is.
"$cargo" build -q -p sidewall-filter --example noop --profile wasm --target wasm32-unknown-unknown
examples=${CARGO_TARGET_DIR:-target}/wasm32-unknown-unknown/wasm/examples
cp "$examples/noop.wasm" "$examples/noop_trimmed.wasm"
python3 filter/trim-exports.py "$examples/noop_trimmed.wasm"
"$cargo" build -q --release -p sidewall-distributor --bin sidewall

"$cargo" bench -q -p sidewall-host-tests --bench policy --bench wasm --bench envoy --bench propagation --bench node --bench scale --bench cluster
