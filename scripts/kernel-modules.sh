#!/usr/bin/env bash
# Loads what tests of pods on bridges ask of the kernel, or says that they will fail.
set -euo pipefail

[ -d /proc/sys/net/bridge ] && exit 0
PATH="$PATH:/usr/sbin:/sbin"
modprobe br_netfilter 2>/dev/null || true
if [ ! -d /proc/sys/net/bridge ]; then
  echo "warning: the kernel has no br_netfilter loaded, without which tests of pods on bridges fail;" \
       "run as root: modprobe br_netfilter" >&2
fi
