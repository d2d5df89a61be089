#!/bin/bash
# Installs the Debian packages that the tests and the demo need, where they are missing.
set -euo pipefail
cd "$(dirname "$0")/.."
# Beside the lab: what the tests hold our reading of GRUB, dpkg and file systems against.
packages=(ca-certificates grub-common grub2-common grub-pc-bin dpkg-dev xfsprogs e2fsprogs iproute2 python3 shellcheck busybox systemd gcc libc6-dev redis-tools mmdebstrap curl qemu-user nftables)
mapfile -t lab < <(bin/kernwave-lab packages)
packages+=("${lab[@]}")
missing=()
for p in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
done
if [ ${#missing[@]} = 0 ]; then
  echo "setup: every package is there"
  scripts/cache-servers.sh
  exit 0
fi
sudo=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "setup: error: ${missing[*]} are missing and you are not root" >&2; echo "setup: next: apt-get install ${missing[*]}" >&2; exit 1; }
  sudo=(sudo)
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get -q -o DPkg::Lock::Timeout=300 update
"${sudo[@]}" apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${missing[@]}"
scripts/cache-servers.sh
