#!/bin/bash
# The gate under load while it is handed over to its successor, and after `kill -9`: `tests/real/upgrade.sh BINARY`.
#
# UPGRADES (20) times `portcullis upgrade` is called while clients on kept connections ask for what is stored, and one time in twenty for
# what nobody has asked for before. Every fifth time, one that cannot come up is asked for first, and must change nothing. Expected: no
# failed request, and as many hits in the first second after each upgrade as in the second before. Then the process is killed under load and
# started again: what was stored is served without asking the vendor.
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
gates=()
clean_all() { clean; rm -rf "$memory"; }
trap clean_all EXIT

printf 'key-of-the-vendor' >"$work/key"
"$binary" demo-vendor --address 127.0.0.1:0 --keys "$work/key" >"$work/vendor" 2>"$work/vendor.log" &
children+=($!)
until_true "$patience" test -s "$work/vendor" || { echo 'the vendor does not start:'; cat "$work/vendor.log"; exit 1; }
vendor=$(<"$work/vendor")
port=$(free_port)
admin=$(free_port)

cat >"$work/portcullis.yaml" <<YAML
version: 1
listeners:
  - { name: public, address: "127.0.0.1:$port" }
admin: { address: "127.0.0.1:$admin" }
accessLog: { file: access.log }
cache: { file: $memory/cache, size: 64MiB }
upgrade: { socket: private/upgrade.sock }
secrets:
  vendor-key: { file: key }
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
    cache: { ttl: 1h, mode: override }
    rateLimit: { requests: 10000000, window: 1s, key: client.ip }
  - name: passed
    match: { path: { exact: /api/passed } }
    upstream: vendor
    rewrite: { replaceFullPath: /bytes, query: { keep: [size] } }
YAML
echo 'version: 2' >"$work/broken.yaml"

start() {
  "$binary" run --config "$work/portcullis.yaml" >>"$work/gate.log" 2>&1 &
  gate=$!
  children+=("$gate")
  gates+=("$gate")
  until_true "$patience" curl -sf "http://127.0.0.1:$admin/readyz" || { echo 'the gate does not start:'; tail -n 40 "$work/gate.log"; exit 1; }
}

# Of twenty requests, eighteen are for 100 URLs that are stored, one is passed on, one is for what is new, so that the store has work.
cat >"$work/mix.lua" <<'LUA'
local turn, stored, fresh = 0, 0, tonumber(os.getenv("FRESH"))
function request()
  turn = turn + 1
  if turn % 20 == 0 then
    fresh = fresh + 1
    return wrk.format("GET", "/api/bytes?size=" .. fresh)
  end
  if turn % 20 == 10 then return wrk.format("GET", "/api/passed?size=64") end
  stored = stored + 1
  return wrk.format("GET", "/api/bytes?size=" .. 1000 + stored % 100)
end
-- Clients pause: a connection that waits for its next request is what an upgrade could cut.
function delay() return 2 end
LUA
load() {
  FRESH=$1 wrk --threads 1 --connections "$connections" --duration 24h --timeout 10s --latency --script "$work/mix.lua" \
    "http://127.0.0.1:$port" >"$work/wrk" 2>&1 &
  load=$!
  children+=("$load")
}
end_load() {
  kill -INT "$load"
  wait "$load"
} 2>/dev/null
get() { curl -sf --max-time 5 -o /dev/null -D - "http://127.0.0.1:$port/api/bytes?size=$1" | tr -d '\r'; }
# How many requests the vendor has taken.
asked() { curl -s "http://$vendor/v2/credentials" | grep -oE '"[0-9a-f]{16}":[0-9]+' | cut -d: -f2; }
now() { date -u "+%Y-%m-%dT%H:%M:%S.%6NZ" "$@"; }

start
for ((size = 1000; size < 1100; size++)); do get "$size" >"$work/warm"; done
load 2000
sleep 1

not_done=()
took=()
for ((turn = 1; turn <= upgrades; turn++)); do
  if ((turn % 5 == 0)) && "$binary" upgrade --socket "$work/private/upgrade.sock" --config "$work/broken.yaml" >"$work/broken" 2>&1; then
    not_done+=("a broken file came up: $(<"$work/broken")")
  fi
  sleep 1.05 # A whole second of ordinary service, to compare with.
  before=$(now)
  began=${EPOCHREALTIME/./}
  if said=$("$binary" upgrade --config "$work/portcullis.yaml" 2>&1); then
    gate=$(awk '{ print $2 }' <<<"$said")
    children+=("$gate")
    gates+=("$gate")
  else
    not_done+=("$said")
  fi
  took+=($(((${EPOCHREALTIME/./} - began) / 1000)))
  echo "$(now -d "$before 1 second ago") $before $(now) $(now -d '1 second')" >>"$work/windows"
done
sleep 1.05
alive_before_the_end() { kill -0 "$load" && kill -0 "$gate"; }
check 'load and the last successor lived to the end' alive_before_the_end
end_load
cp "$work/wrk" "$work/wrk.first"
sleep 0.3 # The last lines of the log are written.

# One line for each upgrade: hits and requests of the second before, of the second after, in per cent.
awk -v windows="$work/windows" '
  BEGIN { while ((getline line < windows) > 0) { n++; split(line, w, " "); for (i = 1; i <= 4; i++) edge[n, i] = w[i] } }
  /"cache":"/ {
    time = $0; sub(/.*"time":"/, "", time); sub(/".*/, "", time)
    hit = /"cache":"hit"/
    for (i = 1; i <= n; i++) {
      if (time >= edge[i, 1] && time < edge[i, 2]) { all[i, 1]++; hits[i, 1] += hit }
      if (time >= edge[i, 3] && time < edge[i, 4]) { all[i, 2]++; hits[i, 2] += hit }
    }
  }
  END { for (i = 1; i <= n; i++) printf "%d %d %.2f %.2f\n", all[i, 1], all[i, 2], 100 * hits[i, 1] / (all[i, 1] ? all[i, 1] : 1), 100 * hits[i, 2] / (all[i, 2] ? all[i, 2] : 1) }
' "$work/access.log" >"$work/ratios"

requests=$(awk '/requests in/ { print $1 }' "$work/wrk")
all_done() { printf '%s\n' "${not_done[@]}"; ((${#not_done[@]} == 0)); }
no_failures() {
  # wrk prints these two lines only if there is something to say.
  ((${requests:-0} > 0)) && ! grep -E 'Non-2xx|Socket errors' "$work/wrk" || { cat "$work/wrk"; return 1; }
}
stays_warm() {
  awk -v want="$upgrades" '$1 < 100 || $2 < 100 { bad = 1 } { d = $3 - $4; if (d > 1 || d < -1) bad = 1; n++ } END { exit bad || n != want }' "$work/ratios" ||
    { echo 'requests before, after; hits of 100 before, after:'; cat "$work/ratios"; return 1; }
}
# A process that has ended and was not waited for has no command line.
one_is_left() {
  local pid alive=0
  for pid in "${gates[@]}"; do
    [[ -z $(tr -d '\0' 2>/dev/null <"/proc/$pid/cmdline") ]] || alive=$((alive + 1))
  done
  ((alive == 1))
} 2>/dev/null
the_rest_have_left() { until_true "$patience" one_is_left; }
worst=$(awk '{ d = $3 - $4; if (d < 0) d = -d; if (d > worst) worst = d; b += $3; a += $4 } END { printf "%.2f %% of requests are hits in the seconds before, %.2f %% in those after, %.2f points apart at most", b / NR, a / NR, worst }' "$work/ratios")
median=$(printf '%s\n' "${took[@]}" | sort -n | sed -n "$(((upgrades + 1) / 2))p")

check "$upgrades upgrades came about, $median ms each in the median" all_done
check "none of ${requests:-0} requests failed" no_failures
check "the cache stays warm: $worst" stays_warm
check 'every process but the last has left' the_rest_have_left
took_over() { curl -s "http://127.0.0.1:$admin/metrics" | grep -qxF 'portcullis_upgrades_total{result="success"} 1'; }
check 'the last says that it took over' took_over

# Killed while it stores and serves.
load 40000
sleep 1
kill -KILL "$gate"
end_load
start
before=$(asked)
head=$(get 1042)
after=$(asked)
for ((size = 1000; size < 1100; size++)); do get "$size"; done | grep -ci '^cache-status:.*hit' >"$work/hits"
is_a_hit() { grep -qi '^cache-status:.*hit' <<<"$head" && [[ $before == "$after" ]] || { echo "$head"; echo "asked: $before, $after"; return 1; }; }
all_are_hits() { [[ $(<"$work/hits") == 100 && $(asked) == "$before" ]] || { echo "$(<"$work/hits") of 100 are hits"; return 1; }; }
check 'after kill -9 the first answer is a hit, and the vendor is not asked' is_a_hit
check 'all that was stored before is there' all_are_hits
sed -n "s|^ *99% *|latency while upgraded, 99 in 100 within: |p" "$work/wrk.first"
finish
