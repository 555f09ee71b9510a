#!/usr/bin/env bash
# Fuzzes every target of fuzz/ for $1 seconds each, beginning with the corpus that is kept there. What
# is found on the way stays in the target directory; a crash fails and is written to fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=$1
cargo=${CARGO:-cargo}

command -v c++ >/dev/null || {
  echo "error: libFuzzer is C++ and there is no c++; run as root: apt-get install -y g++" >&2
  exit 1
}
# All of it is safe Rust, where a sanitizer finds little; without one the pinned stable toolchain will do.
options=(--sanitizer none --target-dir "${CARGO_TARGET_DIR:-$PWD/target}/fuzz")
"$cargo" fuzz build "${options[@]}"
for target in snapshot decisions manifests requests; do
  found=${CARGO_TARGET_DIR:-$PWD/target}/fuzz/corpus/$target
  mkdir -p "$found"
  echo "fuzzing $target for $seconds s"
  "$cargo" fuzz run "${options[@]}" "$target" "$found" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 \
    2>&1 | grep -vE '# Uses: |recommended dictionary'
done
