#!/usr/bin/env bash
# Checks that KUBEBUILDER_ASSETS names a real API server and its etcd, and says how to get them.
set -euo pipefail

for program in kube-apiserver etcd; do
  if [ ! -x "${KUBEBUILDER_ASSETS:-}/$program" ]; then
    echo "error: KUBEBUILDER_ASSETS must name a folder with the programs kube-apiserver and etcd;" \
      "it is '${KUBEBUILDER_ASSETS:-}', and there is no $program." >&2
    echo "With Go: go run sigs.k8s.io/controller-runtime/tools/setup-envtest@latest use -p path" >&2
    exit 1
  fi
done
echo "API server: $("$KUBEBUILDER_ASSETS/kube-apiserver" --version)"
