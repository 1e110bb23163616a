"""The files between two recorded trees, each before and after, read from the workspace's git store.

Two quiet commands under ids derived from the task: repeated after a crash they give what they gave.
"""

from __future__ import annotations

from actors.agent.sandbox_tools import AgentSandbox
from actors.conversation.workspace import GitWorkspace
from graphs import weakening
from graphs.runner_settings import Change
from terminalpp.types.errors import SandboxFailed
from terminalpp.types.ids import derived_id

SECONDS = 60.0
MOST_FILES = 600  # read of one change, test files first
LIST_BYTES, READ_BYTES = 16 << 20, 48 << 20
_PLAIN = ("100644", "100755")


async def between(sandbox: AgentSandbox, task_id: str, base: str, to: str) -> list[Change]:
    """The changed files that may hold tests or say how they are run. Raises SandboxFailed."""
    store = GitWorkspace(sandbox.commands, sandbox.workspace, sandbox.log.conversation_id).store.path
    git = f"git --git-dir={store} -c safe.directory='*'"
    raw = await _said(
        sandbox,
        derived_id(task_id, "changed"),
        f"{git} diff-tree -r -z --no-renames --raw {base} {to}",
        LIST_BYTES,
    )
    listed = [entry for entry in _listed(raw) if weakening.wanted(entry[0])]
    listed = sorted(listed, key=lambda entry: not weakening.first(entry[0]))[:MOST_FILES]
    blobs = list(dict.fromkeys(blob for _, *both in listed for blob in both if blob))
    if not blobs:
        return [Change(path, None, None) for path, *_ in listed]
    asked = "\n".join(blobs)
    script = f"{git} cat-file --batch <<'END'\n{asked}\nEND"
    texts = _texts(await _said(sandbox, derived_id(task_id, "changed files"), script, READ_BYTES))
    return [
        Change(path, texts.get(old) if old else None, texts.get(new) if new else None)
        for path, old, new in listed
        if (old is None or old in texts) and (new is None or new in texts)
    ]


async def _said(sandbox: AgentSandbox, exec_id: str, script: str, limit: int) -> bytes:
    seen = await sandbox.plain(exec_id, script, SECONDS)
    if seen.running:
        seen = await sandbox.end(exec_id)
    if seen.exit_code != 0:
        words = (seen.output or seen.reason or seen.status).strip()[-300:]
        raise SandboxFailed(f"the tests cannot be compared with those before the change: {words}")
    return (await sandbox.output(exec_id, 0, min(limit, seen.output_bytes)))[0]


def _listed(raw: bytes) -> list[tuple[str, str | None, str | None]]:
    """(path, blob before, blob after) of `git diff-tree --raw -z`; None for what is no plain file."""
    parts = raw.split(b"\0")
    out = []
    for about, path in zip(parts[::2], parts[1::2], strict=False):
        words = about.decode("ascii", "replace").lstrip(":").split()
        if len(words) >= 5:
            old = words[2] if words[0] in _PLAIN else None
            new = words[3] if words[1] in _PLAIN else None
            out.append((path.decode("utf-8", "replace"), old, new))
    return out


def _texts(raw: bytes) -> dict[str, str]:
    """Contents by blob of `git cat-file --batch`. What is no text is left out."""
    out: dict[str, str] = {}
    at = 0
    while (end := raw.find(b"\n", at)) >= 0:
        words = raw[at:end].split()
        if len(words) != 3 or not words[2].isdigit():
            at = end + 1
            continue
        size = int(words[2])
        body = raw[end + 1 : end + 1 + size]
        if b"\0" not in body:
            out[words[0].decode()] = body.decode("utf-8-sig", "replace")
        at = end + 1 + size + 1
    return out
