#!/bin/bash
# Builds p2pnet and runs its whole test suite; installs what is missing first (Debian, Ubuntu).
#
#   tools/test.sh           everything: all of the following but the last
#   tools/test.sh native    gcc and clang with ASan and UBSan, ThreadSanitizer, release
#   tools/test.sh macos     for macOS by Zig: compiled and linked, not run
#   tools/test.sh windows   for Windows by mingw-w64, run under Wine
#   tools/test.sh quick     gcc with ASan and UBSan only
#
# Ends with a summary, and with a non-zero status if anything failed.
set -euo pipefail
cd "$(dirname "$0")/.."

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)

# install WHAT PACKAGE...
install() {
    if ! command -v apt-get > /dev/null || ! command -v "${as_root[0]:-true}" > /dev/null; then
        echo "tools/test.sh needs, and cannot install by itself: $*" >&2
        exit 1
    fi
    echo "Installing $*"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# install_commands COMMAND:PACKAGES...: the packages of those commands that are not there.
install_commands() {
    local missing=() entry
    for entry in "$@"; do
        # shellcheck disable=SC2206 # some are several packages
        command -v "${entry%%:*}" > /dev/null || missing+=(${entry#*:})
    done
    [ ${#missing[@]} -eq 0 ] || install "${missing[@]}"
}

install_for_native() {
    install_commands cmake:cmake ninja:ninja-build gcc:gcc g++:g++ clang:clang pkg-config:pkg-config \
        valgrind:"valgrind libc6-dbg" strace:strace ip:iproute2 erl:erlang-base python3:python3
    # Ubuntu has it as a snap only.
    (install_commands chromium:chromium) || echo "There is no Chromium: the test of p2p-bench's page will be skipped"
    pkg-config --exists cmocka || install libcmocka-dev
    # What p2p-bench compares with.
    { pkg-config --exists libuv libevent_core && [ -e /usr/include/ev.h ]; } ||
        install libuv1-dev libevent-dev libev-dev
    # Only an installed clang says which package its sanitizers are in.
    clang -fsanitize=address -o /dev/null -x c - <<< 'int main(void) { return 0; }' 2> /dev/null ||
        install "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"
}

install_for_windows() {
    install_commands cmake:cmake ninja:ninja-build gcc:gcc g++:g++ clang:clang python3:python3 taskset:util-linux \
        erl:erlang-base wine:"wine wine64" \
        x86_64-w64-mingw32-gcc-win32:gcc-mingw-w64-x86-64-win32 i686-w64-mingw32-gcc-win32:gcc-mingw-w64-i686-win32
    tools/windows.sh
}

install_for_macos() {
    install_commands cmake:cmake ninja:ninja-build npm:"nodejs npm" python3:python3
    tools/macos.sh
}

configurations=()

# build PRESET [cmake argument...]: says why not, if it can't.
build() {
    local preset=$1
    echo
    echo "== $preset"
    rm -f "build/$preset/test_results.xml"
    mkdir -p build
    cmake --preset "$@" > "build/$preset.log" 2>&1 || { cat "build/$preset.log"; return 1; }
    cmake --build --preset "$preset"
}

# test_built PRESET [ctest argument...]: what went wrong is told by the summary.
test_built() {
    local preset=$1
    shift
    ctest --preset "$preset" --output-junit test_results.xml --test-output-size-passed 65536 "$@" || true
}

# run PRESET [ctest argument...]
run() {
    configurations+=("$1=build/$1/test_results.xml")
    build "$1" && test_built "$@" || return 0
}

# compile PRESET: a configuration without tests; that it builds is what it has to show.
compile() {
    local preset=$1 result=failed
    build "$preset" && result=built
    configurations+=("$preset=$result")
}

# Each configuration leaves out what another one has already shown.

native() {
    install_for_native
    run dev
    run dev-clang -LE '^(slow|lint|install)$'
    run tsan -LE '^(slow|lint|install|headers)$'
    run release -LE '^headers$'
}

macos() {
    install_for_macos
    compile macos-x86_64
    compile macos-arm64
}

stop_wine() {
    local job
    for job in $(jobs -p); do kill "$job" 2> /dev/null || true; done
    tools/wine.sh --stop
    P2P_WINE=build/wine-dev tools/wine.sh --stop
}

windows() {
    install_for_windows
    trap stop_wine EXIT
    compile windows-clang
    compile windows-i686

    # Programs of this machine's own, to talk to those under Wine.
    local native=$PWD/build/native-examples
    cmake --preset release -B "$native" -DP2P_BUILD_TESTS=OFF -DP2P_BUILD_SHARED=OFF > build/native-examples.log
    cmake --build "$native"

    configurations+=(windows-dev=build/windows-dev/test_results.xml windows=build/windows/test_results.xml)
    local checked=no optimized=no
    build windows-dev -DP2P_NATIVE_BUILD="$native" && checked=yes
    build windows -DP2P_NATIVE_BUILD="$native" && optimized=yes

    # Wine is fastest on one core: the two are run at once, each on a core of its own, where there are two, with its own
    # Wine.
    local cores log=build/windows-dev.test.log
    cores=$(python3 -c 'import os; print(*sorted(os.sched_getaffinity(0)))')
    if [ $checked = yes ]; then
        # Wine's state is made before tests need it, several at once.
        P2P_WINE=$PWD/build/wine-dev P2P_WINE_CPU=${cores##* } tools/wine.sh cmd /c rem
        P2P_WINE=$PWD/build/wine-dev P2P_WINE_CPU=${cores##* } \
            test_built windows-dev -LE '^(slow|lint|headers)$' > "$log" 2>&1 &
    fi
    [ $optimized = no ] || P2P_WINE_CPU=${cores%% *} test_built windows -LE '^lint$'
    if [ $checked = yes ]; then
        wait $!
        cat "$log"
    fi
}

case "${1-}" in
    "") native; macos; windows ;;
    native | macos | windows) "$1" ;;
    quick) install_for_native; run dev ;;
    *) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

echo
python3 tools/test_summary.py "${configurations[@]}"
