#!/bin/bash
# The image of deploy/Dockerfile, built from a static binary and run: `tests/real/image.sh BINARY`. It pulls nothing. The first
# stage of the file is what is built; the one that compiles needs an image that is not here.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
source tests/real/checks.sh

binary=$(program "${1:-}") || exit 2
work=$(mktemp -d)
children=()
image=portcullis-test:$$
container=
# An unprivileged or nested machine has neither overlays nor namespaces.
store=(--root "$work/store" --runroot "$work/run" --storage-driver vfs)
export BUILDAH_ISOLATION=chroot

# PID and all that it started.
family() {
  local child
  echo "$1"
  for child in $(cat "/proc/$1/task/"*/children 2>/dev/null); do
    family "$child"
  done
}

remove_all() {
  local child
  for child in "${children[@]}"; do
    kill $(family "$child") 2>/dev/null
  done
  [[ -z $container ]] || buildah "${store[@]}" rm "$container" >/dev/null 2>&1
  clean
}
trap remove_all EXIT

mkdir "$work/context" "$work/conf"
cp "$binary" "$work/context/portcullis"
cp /etc/ssl/certs/ca-certificates.crt "$work/context/" 2>/dev/null || touch "$work/context/ca-certificates.crt"

is_static() { ! ldd "$binary" 2>&1 | grep -q '=>'; }
build() {
  buildah "${store[@]}" build --quiet --target prebuilt --tag "$image" --file deploy/Dockerfile "$work/context"
}
inside() { buildah "${store[@]}" run "$container" -- "$@"; }

check 'the binary needs no library' is_static
check 'the image is built' build
container=$(buildah "${store[@]}" from --pull-never "$image" 2>/dev/null)
root=$(buildah "${store[@]}" mount "$container" 2>/dev/null)

if [[ -z $container || -z $root ]]; then
  finish
  exit 1
fi

user_is_nobody() { [[ $(buildah "${store[@]}" inspect --format '{{.OCIv1.Config.User}}' "$container") == 65532:65532 ]]; }
has_only_what_it_needs() {
  local files
  files=$(cd "$root" && find . -type f ! -path './run/*' ! -path './proc/*' ! -path './sys/*' ! -path './dev/*' | sort)
  [[ $files == $'./etc/ssl/certs/ca-certificates.crt\n./portcullis' ]] || { echo "$files"; return 1; }
}
check 'it runs as 65532' user_is_nobody
check 'it holds the program and the authorities, nothing else' has_only_what_it_needs
check 'the program starts in it' inside /portcullis --version

port=$(free_port)
admin=$(free_port)
cat >"$work/conf/portcullis.yaml" <<YAML
version: 1
listeners:
  - { name: public, address: "127.0.0.1:$port" }
admin: { address: "127.0.0.1:$admin" }
routes:
  - { name: hello, match: { path: { exact: /hello } }, respond: { status: 200, text: "from the image" } }
YAML
chmod -R a+rX "$work/conf"
chmod a+x "$work"
buildah "${store[@]}" run --volume "$work/conf:/etc/portcullis:ro" "$container" -- \
  /portcullis run --config /etc/portcullis/portcullis.yaml >"$work/log" 2>&1 &
children+=($!)

answers() { [[ $(curl -sf "http://127.0.0.1:$port/hello") == 'from the image' ]]; }
answers_soon() { until_true 20 answers || { tail -n 20 "$work/log"; return 1; }; }
runs_as_nobody() {
  local pid
  for pid in $(family "${children[0]}"); do
    [[ $(tr '\0' ' ' <"/proc/$pid/cmdline") == '/portcullis run '* ]] && grep -qP '^Uid:\t65532\t65532\t65532' "/proc/$pid/status" && return
  done
  return 1
}
check 'it serves its configuration' answers_soon
check 'the process is 65532' runs_as_nobody
finish
