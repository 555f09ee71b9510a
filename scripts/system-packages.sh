#!/usr/bin/env bash
# Installs the command-line tools that the lab and `sidewall redirect` call, and those named as arguments,
# or says what to install.
set -euo pipefail

declare -A package_of=(
  [ip]=iproute2 [nft]=nftables [iptables-restore]=iptables [ip6tables-restore]=iptables
  [conntrack]=conntrack [unshare]=util-linux [nsenter]=util-linux [setpriv]=util-linux
  [python3]=python3 [cc]=gcc [c++]=g++ [kubectl]=kubernetes-client
)
for tool in "$@"; do
  package_of[$tool]=$tool
done

# Tools of the system live in sbin, which the PATH of an ordinary user may lack.
PATH="$PATH:/usr/sbin:/sbin"

declare -A missing=()
for tool in "${!package_of[@]}"; do
  command -v "$tool" >/dev/null || missing[${package_of[$tool]}]=1
done
python3 -m pip --version >/dev/null 2>&1 || missing[python3-pip]=1
[ ${#missing[@]} -eq 0 ] && exit 0

packages=$(printf '%s\n' "${!missing[@]}" | sort | xargs)
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "installing $packages"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
else
  echo "error: missing tools; run as root: apt-get install -y $packages" >&2
  exit 1
fi
