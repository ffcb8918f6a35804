#!/bin/bash
# The gate under load while its configuration is rewritten and its secret rotated: `tests/real/reload_under_load.sh BINARY`.
#
# REWRITES (100) times the file is replaced; every tenth time it is broken and must change nothing. ROTATIONS (20) times, spread
# over them, the vendor gets a new key beside the old one, then the gate's secret file is replaced. Each step waits until it is
# served, so that all of them really happen. Expected: no failed request at the client, and none at the vendor that did not
# bring exactly one credential, the old or the new one (the vendor refuses and counts all others).
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
source tests/real/checks.sh

binary=$(program "${1:-}") || exit 2
rewrites=${REWRITES:-100}
rotations=${ROTATIONS:-20}
connections=${CONNECTIONS:-16}
patience=15

work=$(mktemp -d)
children=()
trap clean EXIT
mkdir "$work/conf" "$work/secrets"

# Files are replaced in one step, as a deployment does it: nobody reads half of one.
replace() { cat >"$1.next" && mv "$1.next" "$1"; }

new_key() { echo "key-$1-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')"; }
key=$(new_key 0)
replace "$work/vendor-keys" <<<"$key"
printf %s "$key" | replace "$work/secrets/vendor-key"

"$binary" demo-vendor --address 127.0.0.1:0 --keys "$work/vendor-keys" >"$work/vendor" 2>"$work/vendor.log" &
children+=($!)
until_true "$patience" test -s "$work/vendor" || { echo 'the vendor does not start:'; cat "$work/vendor.log"; exit 1; }
vendor=$(<"$work/vendor")
port=$(free_port)
admin=$(free_port)

# generation N: the file, told apart by a header. Routes and limits change their place and values, too.
write_generation() {
  replace "$work/conf/portcullis.yaml" <<YAML
version: 1
listeners:
  - { name: public, address: "127.0.0.1:$port" }
admin: { address: "127.0.0.1:$admin" }
accessLog: { file: $work/access.log }
secrets:
  vendor-key: { file: ../secrets/vendor-key }
upstreams:
  vendor:
    url: http://$vendor/v2
    allowPrivate: true
    credential: { apiKey: { in: header, name: X-Api-Key, secret: vendor-key } }
    timeouts: { request: $((20 + $1 % 10))s }
routes:
  - name: bytes
    match: { path: { exact: /api/bytes } }
    upstream: vendor
    rewrite: { replaceFullPath: /bytes, query: { keep: [size] } }
    response: { headers: { set: { x-generation: "$1" } } }
  - name: weather
    match: { path: { exact: /api/weather } }
    upstream: vendor
    rewrite: { replaceFullPath: /weather, query: { keep: [city] } }
    cache: { ttl: 1s, mode: override }
    rateLimit: { requests: $((1000000 + $1)), window: 1s, key: client.ip }
    response: { json: { remove: ["\$.internal_id", "\$.debug"] } }
YAML
}
write_generation 0

"$binary" run --config "$work/conf/portcullis.yaml" >"$work/gate.log" 2>&1 &
gate=$!
children+=("$gate")
ready() { kill -0 "$gate" && curl -sf "http://127.0.0.1:$admin/readyz"; }
until_true "$patience" ready || { echo 'the gate does not start:'; tail -n 40 "$work/gate.log"; exit 1; }

cat >"$work/mix.lua" <<'LUA'
-- Two in three are passed on, one is a hit or a refresh. The answer of every status but 2xx is counted by wrk itself.
local turn = 0
local paths = { "/api/bytes?size=1024", "/api/bytes?size=40000", "/api/weather?city=Oslo" }
request = function()
  turn = turn % #paths + 1
  return wrk.format("GET", paths[turn])
end
LUA
# The client's own credential must not pass, in any spelling.
wrk --threads 1 --connections "$connections" --duration 24h --timeout 10s --script "$work/mix.lua" \
  --header 'X-Api-Key: of-the-client' --header 'X_Api_Key: of-the-client' \
  "http://127.0.0.1:$port" >"$work/wrk" 2>&1 &
load=$!
children+=("$load")

serves() {
  curl -sf --max-time 5 -o /dev/null -D - "http://127.0.0.1:$port/api/bytes?size=64" | tr -d '\r' | grep -qix "x-generation: $1"
}
# How many different credentials the vendor has taken.
taken() { curl -s "http://$vendor/v2/credentials" | grep -oE '"[0-9a-f]{16}":[0-9]+' | wc -l; }
has_taken() { (($(taken) >= $1)); }

late=()
rotated=0
generation=0
for ((step = 1; step <= rewrites; step++)); do
  if ((step % 10 == 0)); then
    replace "$work/conf/portcullis.yaml" <<<$'version: 1\nlisteners: [ { name: public, adress: nowhere } ]\nroutes: ['
    sleep 0.6 # Long enough to be read; nothing is to be seen, so there is nothing to wait for.
    serves "$generation" || late+=("the broken file of step $step changed something")
  else
    generation=$step
    write_generation "$step"
    until_true "$patience" serves "$step" || late+=("generation $step was not served")
  fi
  if ((rotated < step * rotations / rewrites)); then
    rotated=$((rotated + 1))
    old=$key
    key=$(new_key "$rotated")
    # The old key is taken until the next rotation, as any vendor does it.
    printf '%s\n%s\n' "$old" "$key" | replace "$work/vendor-keys"
    printf %s "$key" | replace "$work/secrets/vendor-key"
    until_true "$patience" has_taken $((rotated + 1)) || late+=("the vendor never saw key $rotated")
  fi
  ((${#late[@]} < 5)) || break
done

alive_before_the_end() { kill -0 "$load" && kill -0 "$gate"; }
check 'gate and load lived to the end' alive_before_the_end
kill -INT "$load" 2>/dev/null
wait "$load" 2>/dev/null

seen=$(curl -s "http://$vendor/v2/credentials")
requests=$(awk '/requests in/ { print $1 }' "$work/wrk")

all_in_time() { printf '%s\n' "${late[@]}"; ((${#late[@]} == 0)); }
no_failures() {
  # wrk prints these two lines only if there is something to say.
  ((${requests:-0} > 0)) && ! grep -E 'Non-2xx|Socket errors' "$work/wrk" || { cat "$work/wrk"; return 1; }
}
only_ours() { grep -q '"refused":{"wrong":0,"missing":0,"several":0}' <<<"$seen" || { echo "$seen"; return 1; }; }
every_key() { [[ $(taken) == $((rotations + 1)) ]] || { echo "$seen"; return 1; }; }
no_key_logged() { ! grep -lE 'key-[0-9]+-[0-9a-f]{32}' "$work/gate.log" "$work/access.log" "$work/metrics"; }
curl -s "http://127.0.0.1:$admin/metrics" >"$work/metrics"
touch "$work/access.log"

check "$rewrites rewrites were served, the broken ones refused" all_in_time
check "none of ${requests:-0} requests failed" no_failures
check 'the vendor saw no request without exactly one valid credential' only_ours
check "the vendor saw all $((rotations + 1)) credentials" every_key
check 'no key is in the logs or the metrics' no_key_logged
ends_soon() { kill -TERM "$gate" && until_true "$patience" gone; }
gone() { ! kill -0 "$gate"; }
check 'idle again, it ends at SIGTERM within seconds' ends_soon
finish
