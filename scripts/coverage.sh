#!/usr/bin/env bash
# Line coverage of the crate `policy` by its own tests; fails below the floor in $1, in percent.
set -euo pipefail
floor=$1

if ! [ -x "$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/llvm-cov" ]; then
  command -v rustup >/dev/null || {
    echo "error: llvm-cov is missing; install rustup (https://rustup.rs) or your distribution's LLVM tools for this Rust" >&2
    exit 1
  }
  rustup component add llvm-tools
fi
"${CARGO:-cargo}" llvm-cov --package sidewall-policy --summary-only --show-missing-lines --fail-under-lines "$floor"
