#!/bin/sh
# Terminal++'s launcher. It finds a Python (3.11 to 3.13), makes the checkout's own .venv from the
# hash-locked list when that is missing or out of date, and becomes the command line. It needs only
# sh, python3 and (for your projects) git; it writes nothing outside .venv. When all is in place it
# costs a few milliseconds.
set -eu

PATH=${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}
export PATH
unset CDPATH PYTHONPATH PYTHONHOME PYTHONSTARTUP 2>/dev/null || :
if [ -z "${HOME:-}" ]; then
    HOME=$(getent passwd "$(id -u)" 2>/dev/null | cut -d: -f6) || HOME=
    [ -z "$HOME" ] || export HOME
fi

self=$0
[ ! -h "$self" ] || self=$(readlink -f -- "$self")
case $self in */*) folder=${self%/*} ;; *) folder=. ;; esac
ROOT=$(cd -- "${folder:-/}" && pwd -P)
VENV=$ROOT/.venv

ready() {
    [ -x "$VENV/bin/python" ] && [ -f "$VENV/.root" ] || return 1
    IFS= read -r made_for <"$VENV/.root" || return 1
    [ "$made_for" = "$ROOT" ] && cmp -s "$ROOT/requirements.lock" "$VENV/.installed-run"
}

usage() {
    cat <<'TEXT'
Usage: ./tpp COMMAND [ARGS]...      (not installed yet: the first command installs, about a minute)

  demo     Watch the team fix a sample project.
  run      Have the team do a task on a copy of your project.
  chat     Talk with the team about your project.
  logs     Show a conversation from its first event.
  rewind   Go back in a conversation, with its files.
  fork     Begin another conversation with what one was at a point.
  ps       List conversations, sandboxes and agents.
  kill     End all processes in a sandbox, or what one command left.
  sh       Open a shell on a terminal in a sandbox.
  term     Terminals: ls, attach, screen, search, replay, end.
  ports    Ports of a sandbox: list, share, unshare, forward.
  exec     Run a command in a sandbox.
  attach   Take up a command that runs in a sandbox.
  cp       Copy files into a sandbox, or out of it.
  files    Files of a sandbox: ls, cat, mkdir, mv, rm, versions, restore.
  snapshot  Snapshots of a sandbox's files: take, ls, diff, restore, fork, rm.
  up       Start the system.
  down     Stop the system.
  status   Show what runs.
  doctor   Check this machine: every need, green or red with the fix.
  test     Install what the test suite needs and run it.
  db       Look after the database.
  version  Print the version.
  conversation  Conversations: ls, rename, archive, restore, rm.
  sandbox       Sandboxes: create, ls, show, network, logs, start, stop, rm.
  quarantine    What was put aside after defects: list, show, release.
  model         Keys of model providers: add, ls, rm.
  dead-letters  Messages that failed for good: list, show, replay, drop.

First: ./tpp demo        Each command has --help, an example in it, and --json.
TEXT
}

# 0: usable; 3: another version; 4: no venv
probe() {
    "$1" -c 'import sys
sys.exit(3) if not (3, 11) <= sys.version_info[:2] <= (3, 13) else None
try:
    import ensurepip, venv
except ImportError:
    sys.exit(4)' >/dev/null 2>&1
}

find_python() {
    without_venv=
    for candidate in ${TERMINALPP_PYTHON:+"$TERMINALPP_PYTHON"} python3 python3.13 python3.12 python3.11; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        status=0
        probe "$candidate" || status=$?
        case $status in
            0) PYTHON=$candidate; return 0 ;;
            4) without_venv=${without_venv:-$candidate} ;;
        esac
    done
    if [ -n "$without_venv" ]; then
        version=$("$without_venv" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        echo "error: $without_venv has no venv module." >&2
        echo "  → apt install python$version-venv" >&2
    else
        echo "error: no Python 3.11, 3.12 or 3.13 was found." >&2
        echo "  → apt install python3 python3-venv   (or name one: TERMINALPP_PYTHON=/path/to/python3)" >&2
    fi
    return 1
}

if ! ready; then
    case ${1:-} in
        '' | -h | --help) usage; exit 0 ;;
    esac
    find_python || exit 3
    "$PYTHON" -I -X utf8 "$ROOT/terminalpp/cli/install.py" "$ROOT" run >&2 || {
        status=$?
        [ "$status" -eq 130 ] && exit 130
        exit 3
    }
fi

exec "$VENV/bin/python" -I -X utf8 -c 'import sys
sys.path.insert(0, sys.argv.pop(1))
from terminalpp.cli.main import main
main()' "$ROOT" "$@"
