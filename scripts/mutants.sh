#!/usr/bin/env bash
# Breaks the engine at one place at a time, and fails if its tests do not notice one of them.
# .cargo/mutants.toml says where; other arguments go to cargo-mutants, such as --shard 1/4.
set -euo pipefail
cd "$(dirname "$0")/.."
mutants=$1
shift

# A quarter of the usual cases finds nearly all; always the same ones, so that a survivor is one
# tomorrow. Nobody reads the small world that a failure would shrink to.
export PROPTEST_CASES=${PROPTEST_CASES:-64} PROPTEST_RNG_SEED=1 PROPTEST_MAX_SHRINK_ITERS=0
"$mutants" mutants --output target "$@"
