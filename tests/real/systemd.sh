#!/bin/bash
# The units in deploy/systemd, as far as it can be told without a running systemd: it parses, it names a program that is there,
# and its exposure is low. `tests/real/systemd.sh BINARY`.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
source tests/real/checks.sh

binary=$(program "${1:-}") || exit 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The unit as it will be, but for the place of the program and of the credentials, which are not on this machine.
unit="$work/portcullis.service"
sed "s|/usr/bin/portcullis|$binary|" deploy/systemd/portcullis.service >"$unit"

upgrade="$work/portcullis-upgrade.service"
sed "s|/usr/bin/portcullis|$binary|" deploy/systemd/portcullis-upgrade.service >"$upgrade"

silent() { local said; said=$("$@" 2>&1) && [[ -z $said ]] || { echo "$said"; return 1; }; }
has() { grep -qxF -- "$1" "$unit"; }

check 'systemd-analyze verify has nothing to say' silent systemd-analyze verify --man=no "$unit"
# Of 100; 20 is "OK". What is left is what a server needs: the network, and a port below 1024.
check 'systemd-analyze security is at most 2.0' systemd-analyze security --offline=true --threshold=20 "$unit"
check 'and none about the upgrade' silent systemd-analyze verify --man=no "$unit" "$upgrade"
check 'whose exposure is at most 2.0 too' systemd-analyze security --offline=true --threshold=20 "$upgrade"
check 'it tells systemd when it is ready' has 'Type=notify'
check 'it is nobody in particular' has 'DynamicUser=yes'
finish
