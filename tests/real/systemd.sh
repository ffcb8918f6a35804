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
check 'a successor becomes its process' has 'NotifyAccess=main'
check 'the file of the cache survives a restart' has 'RuntimeDirectoryPreserve=yes'

# What its comment says to write, tried as this user with the folders that systemd makes.
recommended() {
  sed -n 's/^#   \(upgrade\|cache\):/\1:/p' "$unit" | sed "s|/run/portcullis|$work|"
}
cat >"$work/portcullis.yaml" <<YAML
version: 1
listeners: [{ name: public, address: "127.0.0.1:$(free_port)" }]
$(recommended)
routes: [{ name: hello, match: { path: { exact: /hello } }, respond: { text: hello } }]
YAML
has_both() { [[ $(recommended | grep -c .) == 2 ]] && "$binary" check "$work/portcullis.yaml"; }
check 'what it says to write is a configuration' has_both
finish
