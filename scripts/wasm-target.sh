#!/usr/bin/env bash
# Makes sure that the toolchain can build for the target in $1.
set -euo pipefail
target=$1

[ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] && exit 0
if command -v rustup >/dev/null; then
  rustup target add "$target"
else
  echo "error: this Rust cannot build for $target; install rustup (https://rustup.rs) or your distribution's package for that target" >&2
  exit 1
fi
