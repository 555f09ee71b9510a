#!/usr/bin/env bash
# Builds the real programs that `make test-cluster` and `make test-apiserver` run into .tools/programs, from the Go
# module proxy, at the versions of scripts/programs/*/go.mod; go.sum holds what is downloaded to its checksums.
# Arguments choose programs; without any, all of them. A program of the right version is not built again.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A package_of=(
  [etcd]=go.etcd.io/etcd/server/v3
  [kube-apiserver]=k8s.io/kubernetes/cmd/kube-apiserver
  [kube-controller-manager]=k8s.io/kubernetes/cmd/kube-controller-manager
  [kube-proxy]=k8s.io/kubernetes/cmd/kube-proxy
  [kube-scheduler]=k8s.io/kubernetes/cmd/kube-scheduler
  [kubelet]=k8s.io/kubernetes/cmd/kubelet
  [containerd]=github.com/containerd/containerd/v2/cmd/containerd
  [containerd-shim-runc-v2]=github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
  [ctr]=github.com/containerd/containerd/v2/cmd/ctr
  [bridge]=github.com/containernetworking/plugins/plugins/main/bridge
  [ptp]=github.com/containernetworking/plugins/plugins/main/ptp
  [loopback]=github.com/containernetworking/plugins/plugins/main/loopback
  [host-local]=github.com/containernetworking/plugins/plugins/ipam/host-local
  [portmap]=github.com/containernetworking/plugins/plugins/meta/portmap
)

module_of() {
  case ${package_of[$1]} in
    go.etcd.io/*) echo etcd ;;
    k8s.io/*) echo kubernetes ;;
    github.com/containerd/*) echo containerd ;;
    *) echo plugins ;;
  esac
}

programs=("$@")
[ ${#programs[@]} -gt 0 ] || mapfile -t programs < <(printf '%s\n' "${!package_of[@]}" | sort)
for program in "${programs[@]}"; do
  if [ -z "${package_of[$program]:-}" ]; then
    echo "error: $program is no program of this script; it knows: $(printf '%s\n' "${!package_of[@]}" | sort | xargs)" >&2
    exit 1
  fi
done

folder=.tools/programs
mkdir -p "$folder"
missing=()
for program in "${programs[@]}"; do
  stamp="$folder/.$program.sum"
  [ -x "$folder/$program" ] && cmp -s "scripts/programs/$(module_of "$program")/go.sum" "$stamp" || missing+=("$program")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v go >/dev/null; then
  echo "error: Go builds ${missing[*]}, and there is no \`go\` in the PATH; install Go 1.26 or later" \
    "(https://go.dev/doc/install), or name a folder with kube-apiserver and etcd in KUBEBUILDER_ASSETS." >&2
  exit 1
fi
for program in "${missing[@]}"; do
  module=$(module_of "$program")
  package=${package_of[$program]}
  echo "building $program ($package)"
  flags=()
  if [ "$module" = kubernetes ]; then
    version=$(go list -C scripts/programs/kubernetes -m -f '{{.Version}}' k8s.io/kubernetes)
    flags=(-X "k8s.io/component-base/version.gitVersion=$version")
  fi
  # In a folder of modules Go refuses to change what go.mod and go.sum say.
  nice -n 10 go build -C "scripts/programs/$module" -mod=readonly -trimpath -ldflags "-s -w ${flags[*]}" \
    -o "$PWD/$folder/$program" "$package"
  cp "scripts/programs/$module/go.sum" "$folder/.$program.sum"
done
