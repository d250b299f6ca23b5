#!/bin/bash
# Runs a Windows program under Wine, as CTest does with each test:
#
#   tools/wine.sh PROGRAM [argument...]
#   tools/wine.sh --stop     ends the Wine server that the first run started
#
# P2P_WINE names the folder with Wine's state (700 MB), build/wine unless given; P2P_WINE_CPU the core it is to run on, the
# first unless given. What went wrong when Wine was started is in the file with the folder's name and ".log".
set -euo pipefail

# This runs a thousand times and more: what starts a process of its own is left to the first run.
WINEPREFIX=${P2P_WINE:-${0%/*}/../build/wine}
[[ $WINEPREFIX = /* ]] || WINEPREFIX=$PWD/$WINEPREFIX
export WINEPREFIX
export WINEARCH=win64 WINEDEBUG=${WINEDEBUG--all}
# No prompts about Mono or Gecko, no menus, and no debugger, which would take seconds to print a crash.
export WINEDLLOVERRIDES='mscoree,mshtml=;winemenubuilder.exe=d;winedbg.exe=d'
unset DISPLAY WAYLAND_DISPLAY
# On one core Wine's server and its clients are three to four times faster than on two, and steadier.
[ -n "${P2P_WINE_CPU-}" ] || P2P_WINE_CPU=$(taskset -cp $$ | sed 's/.*: //; s/[,-].*//')
cpu=(taskset -c "$P2P_WINE_CPU")
ulimit -Sn "$(ulimit -Hn)" # the server keeps the one it was started with

# Wine's services inherit the standard handles of whatever starts them, and would keep a pipe to CTest open for ever:
# so they are started first, with none. The mark is for those who come meanwhile.
mark=$WINEPREFIX/started
start() { # without the lock's descriptor, which the server would keep
    mkdir -p "$WINEPREFIX" && rm -f "$mark" || return
    "${cpu[@]}" wineserver -p < /dev/null > "$WINEPREFIX.log" 2>&1 9>&- || true
    "${cpu[@]}" timeout 180 wine wineboot -i < /dev/null > "$WINEPREFIX.log" 2>&1 9>&- &&
        "${cpu[@]}" wine reg add 'HKCU\Software\Wine' /v Version /d win10 /f < /dev/null > "$WINEPREFIX.log" 2>&1 9>&- &&
        find_server > "$mark"
}

# Prints where the server works by /proc, and by its name, which is made of the numbers of the folder with its state.
find_server() {
    local name process folder
    # shellcheck disable=SC2046 # two numbers
    name=$(printf 'server-%x-%x' $(stat -c '%d %i' "$WINEPREFIX"))
    for process in /proc/[0-9]*; do
        folder=$(readlink "$process/cwd") || continue
        [[ $folder != */"$name" ]] || echo "$process/cwd $folder"
    done
}

is_running() {
    local process='' folder=''
    [ -e "$mark" ] && read -r process folder < "$mark" && [ "$process" -ef "$folder" ]
}

case "${1-}" in
    "") sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 2 ;;
    --stop) [ ! -d "$WINEPREFIX" ] || wineserver -k || true; exit 0 ;;
esac

if ! is_running; then
    mkdir -p "$(dirname "$WINEPREFIX")"
    ( flock 9; is_running || start ) 9> "$WINEPREFIX.lock" || {
        echo "$0: Wine can't be started: see $WINEPREFIX.log" >&2
        exit 1
    }
fi
# One start in some thousands ends without a word when the machine is busy; why is not known. A single case of a test
# program always prints something, so that one that did not is started once more, and its output says so.
if [[ " $* " == *" --case "* ]]; then
    output=$WINEPREFIX.$$.out
    trap 'rm -f "$output"' EXIT
    status=0
    "${cpu[@]}" wine "$@" > "$output" 2>&1 || status=$?
    printf '%s\n' "$(< "$output")"
    [ $status -ne 0 ] && [ ! -s "$output" ] || exit $status
    echo "tools/wine.sh: ended with status $status and without a word; started once more"
fi
exec "${cpu[@]}" wine "$@"
