#!/usr/bin/env bash
# Install the Debian packages named in $PACKAGES that are missing, and switch off those
# of the services named in $SERVERS that came with them.
set -euo pipefail

missing=()
for package in $PACKAGES; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "install as root: apt-get install ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

if [ -d /run/systemd/system ]; then
  for server in ${SERVERS:-}; do
    for package in "${missing[@]}"; do
      case "$package" in
        "$server"*) "${as_root[@]}" systemctl disable --quiet --now "$server" || true ;;
      esac
    done
  done
fi
