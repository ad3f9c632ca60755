# What the scripts share: the program, a server in a temporary folder, and cleaning up. Sourced by
# bash. Only processes that were started here are ended: those that the shell knows to run still, so
# that no number is used that may be somebody else's by now.
# shellcheck shell=bash

# Bytes are bytes, whatever the language of whoever runs this.
export LC_ALL=C

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Seconds after which something that did not come has failed.
export patience=20
# Where the server listens; what is set already is passed over.
unset port
folder=

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

clean_up() {
    local pid running
    running=$(jobs -rp)
    for pid in $running; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in $running; do
        wait "$pid" 2>/dev/null || true
    done
    [ -z "$folder" ] || rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Sets $mms: the program in $MMS, else the one that cargo builds.
find_mms() {
    if [ -n "${MMS:-}" ]; then
        mms=$MMS
        return
    fi
    local quiet=--quiet
    mms=${CARGO_TARGET_DIR:-$root/target}/debug/mms
    [ -x "$mms" ] || quiet=
    # shellcheck disable=SC2086 # no option at all, not an empty one
    (cd "$root" && cargo build $quiet)
}

make_folder() {
    folder=$(mktemp -d "${TMPDIR:-/tmp}/mms-script.XXXXXX")
}

# start_server USERS [OPTION…]: starts a server on $port, or else a free one, and sets $port and
# $server.
start_server() {
    local users=$1 line ready
    shift
    rm -f "$folder/ready"
    mkfifo "$folder/ready"
    exec {ready}<>"$folder/ready"
    (cd "$folder" && exec "$mms" server "${port:-0}" "$users" "$@") >"$folder/ready" \
        2>"$folder/stderr" {ready}>&- &
    server=$!
    line=
    while [ -z "$line" ]; do
        # A server that fails ends at once.
        read -r -t 1 -u "$ready" line || kill -0 "$server" 2>/dev/null ||
            fail "the server did not start: $(cat "$folder/stderr")"
    done
    exec {ready}>&-
    export port=${line##*:}
    [[ $line == 'mms: listening on '* ]] || fail "the server said: $line"
}

# kill_server: as if the power went, for a process.
kill_server() {
    kill -9 "$server"
    # The shell would tell of it otherwise.
    wait "$server" 2>/dev/null || true
}
