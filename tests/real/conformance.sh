#!/bin/bash
# The public suite for HTTP caches through the gateway: `tests/real/conformance.sh BINARY [CASE]`. How, and what must be reached, is in
# tests/caching/proof.mjs; with the id of a case it shows what went over the wires in that one.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
source tests/real/checks.sh

binary=$(program "${1:-}") || exit 2
work=$(mktemp -d)
children=()
trap clean EXIT

(cd tests/caching && npm install --no-package-lock --no-audit --no-fund --silent) || exit 2
BINARY=$binary WORK=$work timeout 150 node tests/caching/proof.mjs ${2:+"$2"}
