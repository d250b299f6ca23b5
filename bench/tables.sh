#!/usr/bin/env bash
# Every table of docs/performance.md, one after the other: about 25 minutes on two processors that are idle otherwise.
#
#   bench/tables.sh [FOLDER]      FOLDER (build/tables unless given) gets a text, a JSON file and a page for each
#   SECONDS_A_RUN=0.4 ROUNDS=9 bench/tables.sh
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-build/tables}
bench=${BUILD:-build/release}/bench/p2p-bench
seconds=${SECONDS_A_RUN:-0.4}
rounds=${ROUNDS:-9}
mkdir -p "$folder"

# table NAME ARGUMENT...: a table that fails is told of, and the others are still made.
table() {
    local name=$1
    shift
    echo "== $name"
    "$bench" "$@" --seconds "$seconds" --json "$folder/$name.json" --html "$folder/$name.html" |
        tee "$folder/$name.txt" || echo "tables.sh: $name: not all of it could be measured" >&2
}

both=(--backend epoll,io_uring)
table echo echo "${both[@]}" --peer all --conns 1,100,1000 --runs 15
table pipelined echo "${both[@]}" --peer all --conns 100 --depth 16 --runs "$rounds"
table long echo "${both[@]}" --peer all --conns 10,100 --size 16384,262144 --runs "$rounds"
table broadcast broadcast "${both[@]}" --peer all --conns 10,100,500 --runs "$rounds"
table dispatch dispatch --backend epoll --peer all --conns 9000 --active 100 --writes 1000 --runs "$rounds"
table growth idle --backend epoll,io_uring,poll --peer raw --conns 100,1000,10000,19000 --active 100 --runs "$rounds"
table accept accept "${both[@]}" --peer all --runs "$rounds"
table idle idle --backend all --peer all --conns 19000 --active 1 --runs 1
table timers timers --backend epoll --peer all --runs 3
table threads post wake --backend epoll,io_uring --peer all --runs "$rounds"
table backends echo idle --backend all --peer raw --runs "$rounds"
table core echo --backend null --peer none --depth 1,16 --runs "$rounds"

{
    bench/cost.sh epoll io_uring
    SERVER=bench/echo_recv bench/cost.sh epoll
} | tee "$folder/instructions.txt"
