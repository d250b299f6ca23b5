#!/bin/bash
# Makes ready what the "windows" presets need beside Debian's packages: cmocka for mingw-w64, built from Debian's own
# source package into build/windows-tools, and Wine's state in build/wine (700 MB). Does nothing where both are there.
# Who wants the library without its tests needs neither: cmake --preset windows -DP2P_BUILD_TESTS=OFF
set -euo pipefail
cd "$(dirname "$0")/.."

triple=x86_64-w64-mingw32
prefix=$PWD/build/windows-tools/$triple

build_cmocka() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    # A list of sources of our own, so that nothing under /etc changes.
    mkdir -p "$work/lists/partial"
    local sources=/etc/apt/sources.list.d/debian.sources
    [ -f $sources ] || sources=/etc/apt/sources.list.d/ubuntu.sources
    if [ -f $sources ]; then
        sed 's/^Types: .*/Types: deb-src/' $sources > "$work/src.sources"
    else
        sed -n 's/^deb /deb-src /p' /etc/apt/sources.list > "$work/src.list"
    fi
    local options=(-o Dir::Etc::sourcelist="$(echo "$work"/src.*)" -o Dir::Etc::sourceparts=-
                   -o Dir::State::lists="$work/lists" -o APT::Sandbox::User=root)
    apt-get -qq "${options[@]}" update
    (cd "$work" && apt-get -qq "${options[@]}" source --download-only cmocka && tar xf cmocka_*.orig.tar.?z)
    cmake -G Ninja -S "$work"/cmocka-*/ -B "$work/build" -DCMAKE_TOOLCHAIN_FILE="$PWD/tools/cmake/mingw-w64.cmake" \
        -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$prefix" -DWITH_STATIC_LIB=ON -DWITH_EXAMPLES=OFF \
        > "$work/log" 2>&1 && cmake --build "$work/build" >> "$work/log" 2>&1 &&
        cmake --install "$work/build" >> "$work/log" 2>&1 || { cat "$work/log"; return 1; }
}

[ -f "$prefix/lib/libcmocka-static.a" ] || build_cmocka
tools/wine.sh cmd /c rem
