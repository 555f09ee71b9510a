#!/usr/bin/env bash
# Looks for disagreements between engines for $1 minutes: half of the time by property tests with ever
# new seeds, half by fuzzing.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=$1
cargo=${CARGO:-cargo}

until=$((SECONDS + minutes * 30))
export PROPTEST_CASES=${PROPTEST_CASES:-5000}
rounds=0
while [ "$SECONDS" -lt "$until" ]; do
  "$cargo" test -q --release -p sidewall-policy --test eval_matches_reference --test rules_match_judge --test late_services
  "$cargo" test -q --release -p sidewall-distributor --lib -- index::tests::random node::ruleset::tests
  rounds=$((rounds + 1))
done
echo "property tests: $rounds rounds of $PROPTEST_CASES cases each"
scripts/fuzz.sh $((minutes * 30 / 4))
