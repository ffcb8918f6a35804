# shellcheck shell=bash disable=SC2154
# Sourced by the scripts beside it: a check counts, prints one line, and never ends the script. `finish` prints the sum.

passed=0
failed=0

# check WHAT COMMAND...: the command's output is shown only if it fails.
check() {
  local what=$1 output
  shift
  if output=$("$@" 2>&1); then
    passed=$((passed + 1))
    echo "ok    $what"
  else
    failed=$((failed + 1))
    echo "FAIL  $what"
    [[ -z $output ]] || sed 's/^/      /' <<<"$output" | head -n 40
  fi
}

finish() {
  echo "$(basename "$0" .sh): $passed passed, $failed failed"
  ((failed == 0))
}

# program PATH: its full path; fails if it cannot be run.
program() {
  [[ -f $1 && -x $1 ]] || { echo "no program at '$1': give the built binary" >&2; return 1; }
  realpath "$1"
}

# A port on loopback on which nothing listens now, below those that the kernel gives to outgoing connections.
free_port() {
  local port
  while :; do
    port=$((RANDOM % 12000 + 20000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  echo "$port"
}

# until_true SECONDS COMMAND...: polls; fails when the time is over.
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || return 1
    sleep 0.05
  done
}

# Ends what this script started, and removes its directory. `children` and `work` are the script's.
clean() {
  local child
  for child in "${children[@]}"; do
    kill "$child" 2>/dev/null
  done
  wait "${children[@]}" 2>/dev/null
  rm -rf "$work"
}
