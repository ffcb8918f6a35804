#!/bin/bash
# The gate under load while it hands over to new processes: `tests/real/upgrade_under_load.sh BINARY`.
#
# UPGRADES (20) times, one after the other; each waits until the successor has answered. Every fifth time before, one that cannot
# start is asked for, and must change nothing. Expected: no failed request at the client.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
source tests/real/checks.sh

binary=$(program "${1:-}") || exit 2
upgrades=${UPGRADES:-20}
connections=${CONNECTIONS:-16}
patience=15

work=$(mktemp -d)
memory=$(mktemp -d -p /dev/shm)
children=()
# The gate that serves now is nobody's child when the one that started it has left.
end() {
  [[ -z ${gate:-} ]] || kill "$gate" 2>/dev/null
  clean
  rm -rf "$memory"
}
trap end EXIT
mkdir "$work/conf"

key="key-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')"
echo "$key" >"$work/vendor-keys"
printf %s "$key" >"$work/secret"
"$binary" demo-vendor --address 127.0.0.1:0 --keys "$work/vendor-keys" >"$work/vendor" 2>"$work/vendor.log" &
children+=($!)
until_true "$patience" test -s "$work/vendor" || { echo 'the vendor does not start:'; cat "$work/vendor.log"; exit 1; }
vendor=$(<"$work/vendor")
port=$(free_port)
admin=$(free_port)

cat >"$work/conf/portcullis.yaml" <<YAML
version: 1
listeners:
  - { name: public, address: "127.0.0.1:$port" }
admin: { address: "127.0.0.1:$admin" }
accessLog: { file: $work/access.log }
upgrade: { socket: $work/private/upgrade.sock, timeout: 20s }
cache: { file: $memory/cache, size: 16MiB }
secrets:
  vendor-key: { file: $work/secret }
upstreams:
  vendor:
    url: http://$vendor/v2
    allowPrivate: true
    credential: { apiKey: { in: header, name: X-Api-Key, secret: vendor-key } }
routes:
  - name: bytes
    match: { path: { exact: /api/bytes } }
    upstream: vendor
    rewrite: { replaceFullPath: /bytes, query: { keep: [size] } }
  - name: kept
    match: { path: { exact: /api/kept } }
    upstream: vendor
    rewrite: { replaceFullPath: /bytes, query: { keep: [size] } }
    cache: { ttl: 1h, mode: override }
YAML
mkdir "$work/broken"
echo 'version: 2' >"$work/broken/portcullis.yaml"

"$binary" run --config "$work/conf/portcullis.yaml" >"$work/gate.log" 2>&1 &
gate=$!
ready() { kill -0 "$gate" && curl -sf "http://127.0.0.1:$admin/readyz"; }
until_true "$patience" ready || { echo 'the gate does not start:'; tail -n 40 "$work/gate.log"; exit 1; }

cat >"$work/mix.lua" <<'LUA'
-- One in three is passed on, two are hits.
local turn = 0
local paths = { "/api/bytes?size=1024", "/api/kept?size=1024", "/api/kept?size=40000" }
request = function()
  turn = turn % #paths + 1
  return wrk.format("GET", paths[turn])
end
LUA
wrk --threads 1 --connections "$connections" --duration 24h --timeout 10s --script "$work/mix.lua" "http://127.0.0.1:$port" >"$work/wrk" 2>&1 &
load=$!
children+=("$load")

# ask DIRECTORY: `portcullis upgrade` with the file there.
ask() { "$binary" upgrade --socket "$work/private/upgrade.sock" --config "$1/portcullis.yaml" 2>&1; }
metric() { curl -s "http://127.0.0.1:$admin/metrics" | awk -v name="$1" '$1 == name { print $2 }'; }
# This process began with no count.
has_answered() { (($(curl -s "http://127.0.0.1:$admin/metrics" | awk '/^portcullis_requests_total/ { sum += $2 } END { print sum + 0 }') >= $1)); }

wrong=()
done_upgrades=0
until_true "$patience" has_answered 100 || wrong+=('no load')
for ((step = 1; step <= upgrades && ${#wrong[@]} < 5; step++)); do
  if ((step % 5 == 0)); then
    said=$(ask "$work/broken") && wrong+=("upgrade $step: a broken file came up")
    kill -0 "$gate" || wrong+=("upgrade $step: the gate did not live on")
  fi
  said=$(ask "$work/conf") || { wrong+=("upgrade $step: $said"); continue; }
  old=$gate
  gate=$(awk '/ serves; / { print $2 }' <<<"$said")
  children+=("$old")
  done_upgrades=$step
  until_true "$patience" has_answered 100 || wrong+=("upgrade $step: the successor answers nobody")
done

alive_before_the_end() { kill -0 "$load" && kill -0 "$gate"; }
check 'gate and load lived to the end' alive_before_the_end
kill -INT "$load" 2>/dev/null
wait "$load" 2>/dev/null
requests=$(awk '/requests in/ { print $1 }' "$work/wrk")

all_came_about() { printf '%s\n' "${wrong[@]}"; ((${#wrong[@]} == 0 && done_upgrades == upgrades)); }
no_failures() {
  # wrk prints these two lines only if there is something to say.
  ((${requests:-0} > 0)) && ! grep -E 'Non-2xx|Socket errors' "$work/wrk" || { cat "$work/wrk"; return 1; }
}
took_over() { [[ $(metric 'portcullis_upgrades_total{result="success"}') == 1 ]]; }

check "$upgrades upgrades came about, and those of a broken file did not" all_came_about
check "none of ${requests:-0} requests failed" no_failures
check 'the last process says that it took over' took_over
gone() { ! kill -0 "$gate"; }
ends_soon() { kill -TERM "$gate" && until_true "$patience" gone; }
check 'idle again, it ends at SIGTERM within seconds' ends_soon
finish
