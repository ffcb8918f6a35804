#!/bin/bash
# The alerts in deploy/prometheus, by Prometheus' own tool: they parse, and each fires where its test says and not before.
# Takes the tool out of the distribution's package if it is not there: the package itself would start a server.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
source tests/real/checks.sh

place=$PWD/target/tools/promtool
fetched() {
  mkdir -p "$place" || return
  (cd "$place" && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb . && rm -f prometheus_*.deb usr/bin/prometheus)
}
if ! tool=$(command -v promtool); then
  tool=$place/usr/bin/promtool
  [[ -x $tool ]] || fetched >&2 || { echo 'there is no promtool: install Prometheus' >&2; exit 2; }
fi

for rules in deploy/prometheus/*.rules.yaml; do
  check "$rules parses" "$tool" check rules "$rules"
  check 'and fires where its test says' "$tool" test rules "${rules%.rules.yaml}.test.yaml"
done
finish
