#!/usr/bin/env bash
# A first look: builds the library and runs the asynchronous echo server under 100 clients, once on each
# backend of this machine. Prints one table. Ends with 1 if a message was lost, reordered or corrupted.
#
# On Debian and Ubuntu it installs what is missing; nothing else outside build/ is changed.
set -euo pipefail
cd "$(dirname "$0")/.."

clients=100
messages=10
log=build/demo.log
bin=build/release/examples
mkdir -p build

# Run a command with its output in the log, which is shown when the command fails.
logged() {
    if ! "$@" >>"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "failed: $* (whole output: $log)" >&2
        exit 1
    fi
}

install_missing() {
    local missing=()
    command -v cmake >/dev/null || missing+=(cmake)
    command -v ninja >/dev/null || missing+=(ninja-build)
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    if [ ${#missing[@]} -eq 0 ]; then return; fi
    if ! command -v apt-get >/dev/null; then
        echo "please install first: ${missing[*]}" >&2
        exit 1
    fi
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
    echo "installing ${missing[*]} ..." >&2
    logged "${as_root[@]}" apt-get update
    logged "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        "${missing[@]}"
}

build() {
    echo "building build/release ..." >&2
    # The tests need more than this demo does, cmocka for one: leave them out where that is not installed.
    if ! cmake --preset release -DP2P_BUILD_TESTS=ON >>"$log" 2>&1; then
        logged cmake --preset release -DP2P_BUILD_TESTS=OFF
    fi
    logged cmake --build --preset release --target 05_choose_backend 06_async_server 07_async_stress_test
}

# The server is a process of its own, so that its CPU time can be told from that of the clients.
run_on() {
    local backend=$1 line status=0 server_pid options=()
    if [ "$2" -gt 0 ]; then options=(--no-header); fi
    exec 3< <(exec "$bin/06_async_server" --backend "$backend" --port 0)
    server_pid=$!
    # shellcheck disable=SC2064 # this server, not the one that runs when the trap does
    trap "kill $server_pid 2>/dev/null || true" EXIT
    if ! read -r -t 20 line <&3; then
        echo "$backend: the server did not start" >&2
        return 1
    fi
    line=${line#listening on }
    "$bin/07_async_stress_test" --backend "$backend" --clients "$clients" --messages "$messages" \
        --connect "${line%% *}" --server-pid "$server_pid" "${options[@]}" || status=1
    # It ends cleanly when asked to, or that is a failure, too.
    kill -TERM "$server_pid"
    wait "$server_pid" || status=1
    trap - EXIT
    return "$status"
}

: >"$log"
install_missing
build

failed=()
mapfile -t backends < <("$bin/05_choose_backend" --list)
for i in "${!backends[@]}"; do
    run_on "${backends[i]}" "$i" || failed+=("${backends[i]}")
done
if [ ${#backends[@]} -eq 0 ]; then
    echo "no backend works on this machine" >&2
    exit 1
fi
if [ ${#failed[@]} -gt 0 ]; then
    echo "FAILED on: ${failed[*]}" >&2
    exit 1
fi
echo "no message was lost, reordered or corrupted"
