#!/usr/bin/env bash
# What a message echoed by a server costs: system calls (strace) and user-space instructions (callgrind), neither of
# which depends on how busy the machine is. Each is counted for two amounts of messages, and the difference divided, so
# that starting, connecting and ending cancel out. The server is examples/06_async_server, which gets its messages by
# on_message, or bench/echo_recv, which takes them by p2p_message_recv.
#
#   bench/cost.sh [backend…]        default: epoll poll select io_uring; build/release must be built
#   CONNECTIONS=100 SIZE=64 DEPTHS="1 16" SERVER=bench/echo_recv bench/cost.sh
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build/release}
connections=${CONNECTIONS:-100}
size=${SIZE:-64}
server=${SERVER:-examples/06_async_server}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# serve MESSAGES_A_CONNECTION DEPTH BACKEND WRAPPER…: one run of the server under a wrapper, with its load.
serve() {
    local messages=$1 depth=$2 backend=$3 port='' pid
    shift 3
    : >"$scratch/out"
    "$@" "$build/$server" --backend "$backend" --port 0 >"$scratch/out" 2>"$scratch/err" &
    local wrapper=$!
    while [ -z "$port" ]; do
        kill -0 "$wrapper" 2>/dev/null || { cat "$scratch/err" >&2; exit 1; }
        port=$(sed -n 's/^listening on .*:\([0-9]*\) (.*/\1/p' "$scratch/out")
    done
    "$build/bench/echo_load" "$port" "$connections" "$depth" "$size" "$messages" >/dev/null
    # strace runs the server as its child; valgrind is the server.
    pid=$(pgrep -P "$wrapper" || echo "$wrapper")
    kill -TERM "$pid"
    # Valgrind holds signals back while io_uring_enter waits, so something has to happen.
    while kill -0 "$wrapper" 2>/dev/null; do
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || true
        sleep 0.05
    done
    wait "$wrapper"
}

system_calls() { # MESSAGES DEPTH BACKEND
    serve "$@" strace -f -c -o "$scratch/strace"
    awk '$NF == "total" { print $4 }' "$scratch/strace"
}

instructions() {
    serve "$@" valgrind -q --tool=callgrind --callgrind-out-file="$scratch/callgrind"
    awk '/^(summary|totals):/ { print $2; exit }' "$scratch/callgrind"
}

# difference KIND DEPTH BACKEND
difference() {
    local few=200 many=1200 first second
    first=$("$1" "$few" "$2" "$3")
    second=$("$1" "$many" "$2" "$3")
    awk -v a="$first" -v b="$second" -v n=$(((many - few) * connections)) 'BEGIN { printf "%.3f", (b - a) / n }'
}

printf '%d connections, %d bytes; a message echoed by %s costs\n' "$connections" "$size" "$server"
printf '%-8s %10s %14s %14s\n' backend 'in flight' 'system calls' instructions
[ $# -gt 0 ] || set -- epoll poll select io_uring
for backend in "$@"; do
    for depth in ${DEPTHS:-1 16}; do
        calls=$(difference system_calls "$depth" "$backend")
        count=$(difference instructions "$depth" "$backend")
        printf '%-8s %10d %14s %14.0f\n' "$backend" "$depth" "$calls" "$count"
    done
done
