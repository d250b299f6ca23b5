#!/bin/bash
# Builds p2pnet and runs its whole test suite; installs what is missing first (Debian, Ubuntu).
#
#   tools/test.sh         every configuration: gcc and clang with ASan and UBSan, ThreadSanitizer, release
#   tools/test.sh quick   only the first of them
#
# Ends with a summary, and with a non-zero status if anything failed.
set -euo pipefail
cd "$(dirname "$0")/.."

install_missing() {
    local missing=() entry
    for entry in cmake:cmake ninja:ninja-build gcc:gcc g++:g++ clang:clang pkg-config:pkg-config \
                 valgrind:"valgrind libc6-dbg" strace:strace ip:iproute2 erl:erlang-base \
                 python3:python3; do
        # shellcheck disable=SC2206 # some are several packages
        command -v "${entry%%:*}" > /dev/null || missing+=(${entry#*:})
    done
    if ! command -v pkg-config > /dev/null || ! pkg-config --exists cmocka; then
        missing+=(libcmocka-dev)
    fi
    if command -v clang > /dev/null &&
        ! clang -fsanitize=address -o /dev/null -x c - <<< 'int main(void) { return 0; }' 2> /dev/null; then
        missing+=("libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev")
    fi
    [ ${#missing[@]} -eq 0 ] && return

    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        as_root=(sudo)
    fi
    if ! command -v apt-get > /dev/null || ! command -v "${as_root[0]:-true}" > /dev/null; then
        echo "tools/test.sh needs, and cannot install by itself: ${missing[*]}" >&2
        exit 1
    fi
    echo "Installing ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# run PRESET [ctest argument...]: configures, builds and tests. What went wrong is told by the summary.
run() {
    local preset=$1
    shift
    local results=build/$preset/test_results.xml
    rm -f "$results"
    configurations+=("$preset=$results")
    echo
    echo "== $preset"
    cmake --preset "$preset" > "build/$preset.log" 2>&1 || { cat "build/$preset.log"; return 0; }
    cmake --build --preset "$preset" || return 0
    ctest --preset "$preset" --output-junit test_results.xml --test-output-size-passed 65536 "$@" || true
}

case "${1-}" in
    "" | quick) ;;
    *) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

install_missing
install_missing # once more: only an installed clang says which package its sanitizers are in
mkdir -p build
configurations=()

# Each configuration leaves out what another one has already shown.
run dev
if [ "${1-}" != quick ]; then
    run dev-clang -LE '^(slow|lint|install)$'
    run tsan -LE '^(slow|lint|install|headers)$'
    run release -LE '^headers$'
fi

echo
python3 tools/test_summary.py "${configurations[@]}"
