#!/usr/bin/env bash
# Checks that KUBEBUILDER_ASSETS names a real API server and its etcd; builds them where that is .tools/programs.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${KUBEBUILDER_ASSETS:-}" = "$PWD/.tools/programs" ]; then
  scripts/cluster-programs.sh etcd kube-apiserver
fi
for program in kube-apiserver etcd; do
  if [ ! -x "${KUBEBUILDER_ASSETS:-}/$program" ]; then
    echo "error: KUBEBUILDER_ASSETS must name a folder with the programs kube-apiserver and etcd;" \
      "it is '${KUBEBUILDER_ASSETS:-}', and there is no $program. Without the variable Go builds both." >&2
    exit 1
  fi
done
echo "API server: $("$KUBEBUILDER_ASSETS/kube-apiserver" --version)"
