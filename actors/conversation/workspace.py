"""Snapshots of a work tree in a git store of its own, beside the workspace and never in it.

The person's `.git` is not used, not locked and not changed: objects and index live in `/home/user/.tpp`.
Attributes and filters of the repository are off, so files are recorded and restored byte by byte. What
`.gitignore` names is left out, unless the person's own repository tracks it. Each operation works on a
copy of the index, so a killed one leaves no lock behind and two may run at once.

Operations are commands in the sandbox under ids derived from the visit that asks: repeated after a crash
they return their recorded result. One whose sandbox died is safe to run again and gets a new id.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

from actors.agent.hands import Sandbox
from terminalpp.types.errors import SandboxFailed, TooLarge
from terminalpp.types.ids import derived_id, new_id

TEXT_BYTES = 120_000  # of a diff for a reader
PATCH_BYTES = 64 << 20  # what the journal keeps of one output
SECONDS = 600.0
ATTEMPTS = 5
_HEADER = re.compile(rb'^diff --git a/(.+) b/\1$', re.MULTILINE)
_OFF = (
    "-c core.hooksPath=/dev/null -c core.autocrlf=false -c core.quotePath=true -c core.fsmonitor=false "
    "-c core.looseCompression=0 -c gc.auto=0 -c safe.directory='*'"
)
_LITTER = "/.tpp/ __pycache__/ *.pyc .pytest_cache/ .mypy_cache/ .ruff_cache/ node_modules/ .venv/ .DS_Store"
_EXCLUDE = "".join(f"{name}\\n" for name in _LITTER.split())

_PREPARE = """\
export GIT_DIR={store}
if [ ! -f "$GIT_DIR/ready" ]; then
  mkdir -p "$(dirname "$GIT_DIR")" && git init -q --bare "$GIT_DIR" && mkdir -p "$GIT_DIR/info" &&
  printf '* -text -eol -filter -ident -working-tree-encoding\\n' > "$GIT_DIR/info/attributes" &&
  printf '{exclude}' > "$GIT_DIR/info/exclude" && : > "$GIT_DIR/ready" || exit 1
fi
export GIT_WORK_TREE={workspace} GIT_INDEX_FILE="$GIT_DIR/index.{key}"
cd "$GIT_WORK_TREE" || exit 1
rm -f "$GIT_INDEX_FILE" "$GIT_INDEX_FILE.lock"
trap 'rm -f "$GIT_INDEX_FILE" "$GIT_INDEX_FILE.lock"' EXIT
if [ -f "$GIT_DIR/index" ]; then cp "$GIT_DIR/index" "$GIT_INDEX_FILE"
elif [ -e .git ]; then
  (unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE; git {off} ls-files -z 2>/dev/null) |
    git {off} update-index --add --remove -z --stdin 2>/dev/null
fi
g() {{ git {off} "$@"; }}
record() {{ g add -A --ignore-errors . 2>/dev/null; g write-tree; }}
"""


class GitWorkspace:
    """`graphs.ports.Workspace` on a sandbox."""

    def __init__(self, sandbox: Sandbox, workspace: str, conversation_id: str) -> None:
        self.sandbox, self.workspace = sandbox, workspace
        self.store = f"/home/user/.tpp/trees/{conversation_id}.git"

    async def snapshot(self, key: str) -> str:
        """Record the tree; its id. Raises SandboxFailed when git is missing or the folder is gone."""
        return await self._tree(derived_id(key, "snapshot"), keep=True)

    async def restore(self, key: str, snapshot: str) -> None:
        """Make the work tree equal to `snapshot`; ignored files stay."""
        tree = shlex.quote(snapshot)
        await self._git(
            derived_id(key, "restore", snapshot),
            f'record >/dev/null && g read-tree -u --reset {tree} && cp "$GIT_INDEX_FILE" '
            '"$GIT_DIR/index.new" && mv "$GIT_DIR/index.new" "$GIT_DIR/index"',
        )

    async def diff(self, key: str, base: str, to: str) -> dict[str, Any]:
        """`{files, patch_bytes, text}` between two snapshots; `text` is cut at TEXT_BYTES."""
        files, patch, size = await self._diff(derived_id(key, "diff", base, to), base, to, TEXT_BYTES)
        return {"files": files, "patch_bytes": size, "text": patch.decode("utf-8", "replace")}

    async def patch(self, base: str) -> tuple[list[dict[str, Any]], bytes, str]:
        """Files, patch and tree from `base` to the work tree as it is at this moment. Raises TooLarge."""
        key = new_id()
        now = await self._tree(derived_id(key, "now"), keep=False)
        files, patch, size = await self._diff(derived_id(key, "patch"), base, now, PATCH_BYTES)
        if size > PATCH_BYTES:
            raise TooLarge(
                f"the changes are {size} bytes as a patch; the limit is {PATCH_BYTES}",
                "Have the team delete what it generated, or name that in .gitignore.",
            )
        return files, unambiguous(patch), now

    async def _tree(self, id: str, *, keep: bool) -> str:
        keeping = ' && cp "$GIT_INDEX_FILE" "$GIT_DIR/index.new" && mv "$GIT_DIR/index.new" "$GIT_DIR/index"'
        _, seen = await self._git(id, f"tree=$(record){keeping if keep else ''} && echo $tree")
        return str(seen["stdout"]).strip()

    async def _diff(self, id: str, base: str, to: str, limit: int) -> tuple[list[dict[str, Any]], bytes, int]:
        between = f"{shlex.quote(base)} {shlex.quote(to)}"
        options = "--no-color --no-ext-diff --no-textconv --no-renames"
        counted, seen = await self._git(derived_id(id, "files"), f"g diff {options} --numstat -z {between}")
        raw, _ = await self.sandbox.bytes_of(counted, 0, PATCH_BYTES)
        made, seen = await self._git(
            derived_id(id, "patch"), f"g diff {options} --binary --src-prefix=a/ --dst-prefix=b/ {between}"
        )
        patch, _ = await self.sandbox.bytes_of(made, 0, limit)
        return numstat(raw), patch, int(seen["stdout_bytes"] or 0)

    async def _git(self, id: str, script: str) -> tuple[str, dict[str, Any]]:
        """Run a script with the store set up; the id that it really ran under, and its record."""
        whole = (
            _PREPARE.format(
                store=shlex.quote(self.store),
                workspace=shlex.quote(self.workspace),
                off=_OFF,
                exclude=_EXCLUDE,
                key=id[:13],
            )
            + script
        )
        seen: dict[str, Any] = {}
        for attempt in range(ATTEMPTS):
            exec_id = derived_id(id, attempt)
            seen = await self.sandbox.run(exec_id, whole, SECONDS, merge=False)
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


def unambiguous(patch: bytes) -> bytes:
    """The patch with the names in `diff --git` lines quoted, as `git apply` must read them.

    For a file without content that line alone names it, and git cannot read its own line when a folder's
    name ends with a space. Git quotes what else is odd.
    """
    return _HEADER.sub(rb'diff --git "a/\1" "b/\1"', patch)


def numstat(raw: bytes) -> list[dict[str, Any]]:
    """`git diff --numstat -z` as `{path, added, removed}`; binary files count None."""
    files = []
    for entry in raw.split(b"\0"):
        added, _, rest = entry.partition(b"\t")
        removed, _, path = rest.partition(b"\t")
        if path:
            files.append(
                {
                    "path": path.decode("utf-8", "replace"),
                    "added": _number(added),
                    "removed": _number(removed),
                }
            )
    return files


def _number(text: bytes) -> int | None:
    return int(text) if text.isdigit() else None
