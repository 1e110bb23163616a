"""The git store beside a work tree, and the scripts that run on it.

`Store.git` runs one of them under an id: a script that ran under its id is not run again but its record
given, one whose sandbox died is safe to run again and gets a new id.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any, Protocol

from actors.conversation.worktree import Seen, parse
from terminalpp.types.errors import NotFound, SandboxFailed
from terminalpp.types.ids import derived_id

SECONDS = 600.0
ATTEMPTS = 5
OFF = (
    "-c core.hooksPath=/dev/null -c core.autocrlf=false -c core.quotePath=false -c core.fsmonitor=false "
    "-c core.fileMode=true -c core.symlinks=true -c core.ignoreCase=false -c core.protectNTFS=false "
    "-c core.protectHFS=false -c core.looseCompression=0 -c gc.auto=0 -c safe.directory='*'"
)
PLAIN = "* -text -eol -filter -ident -working-tree-encoding !diff !whitespace"
FORMAT = "'%y %m %s %C@ %P\\0'"

PREPARE = """\
export GIT_DIR={store} GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 LC_ALL=C
if [ ! -f "$GIT_DIR/ready" ]; then
  mkdir -p "${{GIT_DIR%/*}}" && git init -q --bare --object-format=sha1 --template= "$GIT_DIR" &&
  mkdir -p "$GIT_DIR/info" "$GIT_DIR/empty" && printf '%s\\n' '{plain}' > "$GIT_DIR/info/attributes" &&
  git {off} hash-object -w --stdin < /dev/null > /dev/null && : > "$GIT_DIR/ready" || exit 1
fi
export GIT_WORK_TREE={workspace}
cd "$GIT_WORK_TREE" || exit 1
g() {{ git {off} "$@"; }}
"""

# The listing goes into files, not into the journal: it is read once and may be long. busybox's find has no
# -printf (asking it is the only way to know); its stat has whole seconds, and names end at line breaks there.
LIST = """\
d="$GIT_DIR/seen/{key}" && rm -rf "$d" && mkdir -p "$d" || exit 1
[ -e "$GIT_DIR/began" ] || : > "$GIT_DIR/began" || exit 1
if find /dev/null -printf '' 2> /dev/null; then
  age() {{ find "$1" -printf '%C@'; }}
  find . -mindepth 1 -printf {format} \\( -name .git {pruned} \\) -prune > "$d/list" 2> "$d/errors"
  printf nul > "$d/form"
else
  age() {{ stat -c %Z "$1"; }}
  find . -mindepth 1 \\( -name .git {pruned} \\) -prune -exec stat -c '%F|%a %s %Z %n' {{}} + -o \\
    -exec stat -c '%F|%a %s %Z %n' {{}} + > "$d/list" 2> "$d/errors"
  printf line > "$d/form"
fi
age "$GIT_DIR/began" > "$d/began" || exit 1
: > "$d/known"; : > "$d/recorded"; : > "$d/tracked"
if [ -f "$GIT_DIR/index" ]; then
  g ls-files -z > "$d/known" || exit 1
  age "$GIT_DIR/index.began" > "$d/recorded" || exit 1
fi
if [ -e .git ]; then
  (unset GIT_DIR GIT_WORK_TREE; g ls-files -z) > "$d/tracked" 2> "$d/refused" || [ -f "$GIT_DIR/index" ] || {{
    cat "$d/refused" >&2; exit 1; }}
fi
# Commits, branches and stashes made inside stay there; that they were made is told. A branch without a commit
# has no HEAD to read, and a repository that the team broke has no refs: both are a difference or none.
(unset GIT_DIR GIT_WORK_TREE; g for-each-ref; g rev-parse -q --verify HEAD) > "$d/refs" 2> "$d/refused"
[ -e "$GIT_DIR/refs.began" ] || cp "$d/refs" "$GIT_DIR/refs.began" || exit 1
if cmp -s "$d/refs" "$GIT_DIR/refs.began"; then : > "$d/history"; else echo changed > "$d/history"; fi
"""

# check-ignore ends with 1 when nothing matches.
RULED = """\
d="$GIT_DIR/seen/{key}"
ask() {{ g "$@" check-ignore -z --no-index --stdin; [ $? -le 1 ]; }}
ask -c core.excludesFile="$GIT_WORK_TREE/.git/info/exclude" < "$d/asked" > "$d/ignored" || exit 1
cd "$GIT_DIR/empty" && export GIT_WORK_TREE="$GIT_DIR/empty" &&
ask -c core.excludesFile="$d/include" < "$d/asked" > "$d/included" || exit 1
"""

RECORD = """\
d="$GIT_DIR/seen/{key}"
export GIT_INDEX_FILE="$GIT_DIR/index.{key}"
rm -f "$GIT_INDEX_FILE" "$GIT_INDEX_FILE.lock" && : > "$GIT_INDEX_FILE.began" || exit 1
trap 'rm -f "$GIT_INDEX_FILE" "$GIT_INDEX_FILE.lock" "$GIT_INDEX_FILE.began"' EXIT
[ ! -f "$GIT_DIR/index" ] || cp "$GIT_DIR/index" "$GIT_INDEX_FILE" || exit 1
said=$({{ g update-index -z --force-remove --stdin < "$d/out" &&
  g update-index -z --index-info < "$d/folders" &&
  g update-index -z --add --remove --replace --stdin < "$d/in"; }} 2>&1) && [ -z "$said" ] || {{
  printf '%s\\n' "${{said:-git update-index failed}}" >&2; exit 1; }}
tree=$(g write-tree) || exit 1
{keep}rm -rf "$d"
echo "$tree"
"""
KEEP = """\
mv -f "$GIT_INDEX_FILE.began" "$GIT_DIR/index.began" && mv -f "$GIT_INDEX_FILE" "$GIT_DIR/index" || exit 1
"""

# A placeholder is written by read-tree like any file, and taken away at once.
RESTORE = """\
export GIT_INDEX_FILE="$GIT_DIR/index.{key}"
trap 'rm -f "$GIT_INDEX_FILE" "$GIT_INDEX_FILE.lock" "$GIT_INDEX_FILE.began"' EXIT
: > "$GIT_INDEX_FILE.began" && cp "$GIT_DIR/index" "$GIT_INDEX_FILE" || exit 1
g read-tree -u --reset {tree} || exit 1
g ls-files -z -- ':(top,glob)**/{placeholder}' > "$GIT_INDEX_FILE.folders" || exit 1
xargs -0 rm -f -- {placeholder} < "$GIT_INDEX_FILE.folders" && rm -f "$GIT_INDEX_FILE.folders" || exit 1
"""


class Place(Protocol):
    """The place of the work tree: commands with a record each, and files by absolute path."""

    async def run(
        self, exec_id: str, script: str, timeout_s: float, *, merge: bool = True
    ) -> dict[str, Any]:
        """The command's record (`Execution`) after its end or `timeout_s`; once per id."""
        ...

    async def bytes_of(self, exec_id: str, offset: int, limit: int) -> tuple[bytes, int]:
        """Output from `offset` on, up to `limit` bytes, and where to go on."""
        ...

    async def read_file(self, path: str) -> bytes:
        """A file's bytes. Raises NotFound, FileProblem."""
        ...

    async def write_file(self, path: str, data: bytes) -> None:
        """Make or replace a file. Raises FileProblem, DiskFull."""
        ...


class Store:
    """The store of one conversation about the work tree `workspace`, both absolute paths in the place."""

    def __init__(self, place: Place, workspace: str, path: str) -> None:
        self.place, self.workspace, self.path = place, workspace, path

    async def seen(self, key: str, name: str) -> bytes:
        """What a script left in the folder of a listing. Raises SandboxFailed when it is gone."""
        try:
            return await self.place.read_file(f"{self.path}/seen/{key}/{name}")
        except NotFound as gone:
            raise SandboxFailed(f"a listing of the workspace was taken away: {gone.detail}") from gone

    async def hand(self, key: str, name: str, records: Iterable[bytes], end: bytes = b"\0") -> None:
        """Write records, each ended by `end`, where a script will read them."""
        data = b"".join(record + end for record in records)
        await self.place.write_file(f"{self.path}/seen/{key}/{name}", data)

    async def git(self, id: str, script: str, number: int = 0) -> tuple[str, dict[str, Any]]:
        """Run a script with the store set up; the id that it really ran under, and its record."""
        whole = (
            PREPARE.format(
                store=shlex.quote(self.path), workspace=shlex.quote(self.workspace), off=OFF, plain=PLAIN
            )
            + script
        )
        seen: dict[str, Any] = {}
        for attempt in range(ATTEMPTS):
            exec_id = derived_id(id, number, attempt)
            seen = await self.place.run(exec_id, whole, SECONDS, merge=False)
            if seen["status"] == "completed" and seen["exit_code"] == 0:
                return exec_id, seen
            if seen.get("reason") != "lost":
                break
        words = (seen.get("stderr") or seen.get("stdout") or seen.get("reason") or seen["status"]).strip()
        if seen.get("exit_code") == 127 or "git: not found" in words:
            raise SandboxFailed(
                "there is no git in the sandbox", "Use an image that has git, or the built-in one."
            )
        raise SandboxFailed(f"the workspace {self.workspace} cannot be recorded: {words[-500:]}")


def entries(raw: bytes, whole_names: bool) -> list[Seen]:
    """The listing's entries. Raises SandboxFailed for names that this sandbox's find cannot tell."""
    if whole_names:
        return parse(raw, b"\0")
    kinds = {b"regular file": b"f", b"regular empty file": b"f", b"directory": b"d", b"symbolic link": b"l"}
    records = []
    for line in filter(None, raw.split(b"\n")):
        kind, bar, rest = line.partition(b"|")
        mode, size, changed, path = [*rest.split(b" ", 3), b"", b"", b""][:4]
        if not bar or not path.startswith(b"./"):
            raise SandboxFailed(
                "a file's name holds a line break, which this image's `find` cannot tell",
                "Use an image with GNU findutils, or rename the file.",
            )
        records.append(b" ".join((kinds.get(kind, b"?"), mode, size, changed, path[2:])))
    return parse(b"\0".join(records), b"\0")
