#!/bin/bash
# `portcullis demo` in a real browser: `tests/real/browser.sh BINARY`. What is checked is in tests/browser/proof.mjs. The demo's
# ports are fixed (they are in conf/demo.yaml), so that nothing else may have them.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
source tests/real/checks.sh

binary=$(program "${1:-}") || exit 2
work=$(mktemp -d)
children=()
trap clean EXIT

(cd tests/browser && npm install --no-package-lock --no-audit --no-fund --silent) || exit 2

"$binary" demo >"$work/log" 2>&1 &
demo=$!
children+=("$demo")
ready() { kill -0 "$demo" && curl -sf http://127.0.0.1:9090/readyz; }
if ! until_true 20 ready; then
  echo 'the demo does not start:'
  tail -n 30 "$work/log"
  exit 1
fi

key=$(<.demo/vendor-key)
# The addresses in every spelling that a header or a body could have, and the key.
export CANARIES=$'127.0.0.1:9101\nlocalhost:9101\n127.0.0.1%3A9101\n127.0.0.1:9102\nDEMO_KEY'
export CANARIES=${CANARIES/DEMO_KEY/$key}
BASE_URL=http://127.0.0.1:8080 node tests/browser/proof.mjs
status=$?

# The same for what operators read: the key is nowhere, not even there.
no_key() { ! grep -qF -- "$key" "$@"; }
for page in metrics config readyz; do
  curl -s "http://127.0.0.1:9090/$page" >"$work/$page"
  check "no key in /$page" no_key "$work/$page"
done
check 'no key in what the demo printed and logged' no_key "$work/log"
finish || status=1
exit "$status"
