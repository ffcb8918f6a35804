#!/bin/bash
# The schema in the language server that editors use: `tests/real/editor.sh BINARY`. What is checked is in tests/editor/proof.mjs.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
source tests/real/checks.sh

binary=$(program "${1:-}") || exit 2
work=$(mktemp -d)
children=()
trap clean EXIT

(cd tests/editor && npm install --no-package-lock --no-audit --no-fund --silent) || exit 2

"$binary" schema >"$work/portcullis.schema.json" || exit 1
"$binary" schema --team-file >"$work/team.schema.json" || exit 1
# What `init` writes names the schema beside it.
"$binary" init --dir "$work/init" --app http://127.0.0.1:3000 >/dev/null || exit 1
SCHEMAS=$work timeout 120 node tests/editor/proof.mjs
