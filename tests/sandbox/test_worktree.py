"""Records of a work tree inside real sandboxes; the law itself is tried in tests/homecoming."""

from __future__ import annotations

from typing import Any

import pytest

from actors.conversation.workspace import GitWorkspace
from actors.sandbox.tppd import journal
from terminalpp.types.errors import SandboxFailed
from terminalpp.types.ids import new_id

WORK = "/home/user/work"


class Inside:
    """`actors.conversation.workspace.Place` on a test's sandbox, without the entity in between."""

    def __init__(self, sandbox: Any) -> None:
        self.sandbox, self.ran = sandbox, {}

    async def run(self, exec_id: str, script: str, timeout_s: float, *, merge: bool = True) -> dict[str, Any]:
        if exec_id not in self.ran:
            argv = ["/bin/sh", "-c", script]
            self.ran[exec_id] = await self.sandbox.tppd.run(
                exec_id, argv, epoch=self.sandbox.epoch, wait_s=timeout_s
            )
        record = self.ran[exec_id].record
        out, err = self.head(exec_id, "stdout"), self.head(exec_id, "stderr")
        words = {"stdout": out.decode("utf-8", "replace"), "stderr": err.decode("utf-8", "replace")}
        size = record.out_bytes
        return {"status": "completed", "exit_code": record.exit_code, "stdout_bytes": size, **words}

    def head(self, exec_id: str, stream: Any) -> bytes:
        return journal.read(self.sandbox.run_dir, exec_id, stream, 0, 1 << 16).data

    async def bytes_of(self, exec_id: str, offset: int, limit: int) -> tuple[bytes, int]:
        data = b""
        while len(data) < limit:
            at = offset + len(data)
            chunk = journal.read(self.sandbox.run_dir, exec_id, "stdout", at, min(limit - len(data), 1 << 20))
            if not chunk.data:
                break
            data += bytes(chunk.gap_bytes) + chunk.data
        return data, offset + len(data)

    async def read_file(self, path: str) -> bytes:
        return await self.sandbox.tppd.read_file(path)

    async def write_file(self, path: str, data: bytes) -> None:
        await self.sandbox.tppd.write_file(path, data, epoch=self.sandbox.epoch)


@pytest.fixture
async def tree(sandbox: Any) -> Any:
    """A git repository in a fresh work tree, and what runs a command in it."""

    async def sh(command: str) -> str:
        done = await sandbox.sh(f"cd {WORK} && {command}")
        assert done.code == 0, done.err.decode()
        return done.text

    await sandbox.sh(f"mkdir -p {WORK}")
    await sh(
        "git init -q . && git config user.name t && git config user.email t@example.org && "
        "printf 'lib/\\nbuild/\\n.env\\n' > .gitignore && echo A > app.py && mkdir void && "
        "git add . && git commit -qm start"
    )
    return sandbox, sh


def place(sandbox: Any, **options: Any) -> GitWorkspace:
    return GitWorkspace(Inside(sandbox), WORK, new_id(), **options)


def names(change: Any) -> set[str]:
    return {file["path"] for file in change.files}


async def test_what_ignore_rules_name_is_work_and_what_rules_name_is_told(tree):
    sandbox, sh = tree
    work = place(sandbox)
    base = await work.snapshot(new_id())
    await sh("mkdir -p lib node_modules/m __pycache__ && echo 1 > lib/mathx.py && echo K=1 > .env")
    await sh("echo 2 > node_modules/m/i.js && echo 3 > __pycache__/a.pyc")
    await sh("mkfifo pipe && printf x > secret && chmod 0 secret")
    change, _ = await work.now(base)
    assert names(change) == {"lib/mathx.py", ".env"}
    assert {(left.path, left.lost) for left in change.left} == {
        (b"node_modules", False), (b"__pycache__", False), (b"pipe", True), (b"secret", True),
    }  # fmt: skip
    assert all(left.why and left.files == 1 for left in change.left)


async def test_build_output_is_told_apart_from_work_of_the_same_name(tree):
    sandbox, sh = tree
    written: list[str] = []

    async def authored() -> list[str]:
        return written

    work = place(sandbox, authored=authored)
    base = await work.snapshot(new_id())
    await sh("mkdir build && echo source > build/make.py")
    assert names((await work.now(base))[0]) == {"build/make.py"}, "nothing says that a tool makes this folder"
    other = place(sandbox, authored=authored)
    await sh("rm -r build && touch pyproject.toml")
    base = await other.snapshot(new_id())
    await sh("mkdir build && echo wheel > build/lib.py && echo tool > build/hand.py")
    written.append(f"{WORK}/build/hand.py")
    change, _ = await other.now(base)
    assert names(change) == {"build/hand.py"}
    assert [(left.path, left.files, left.lost) for left in change.left] == [(b"build", 1, False)]


async def test_include_patterns_overrule_the_rules(tree):
    sandbox, sh = tree
    work = place(sandbox, include=["node_modules/m/"])
    base = await work.snapshot(new_id())
    await sh("mkdir -p node_modules/m node_modules/n && echo 1 > node_modules/m/i.js")
    await sh("echo 2 > node_modules/n/i.js")
    change, _ = await work.now(base)
    assert names(change) == {"node_modules/m/i.js"}
    assert [left.path for left in change.left] == [b"node_modules"]


async def test_repositories_inside_come_as_their_files(tree):
    sandbox, sh = tree
    await sh("mkdir old && cd old && git init -q . && echo 1 > kept.py && git add . && "
             "git -c user.name=x -c user.email=x@y commit -qm old")  # fmt: skip
    work = place(sandbox)
    base = await work.snapshot(new_id())
    await sh("mkdir new bare && cd new && git init -q . && echo main > main.py && git add . && "
             "git -c user.name=x -c user.email=x@y commit -qm new")  # fmt: skip
    await sh("git init -q bare && echo 2 > bare/b.py && echo changed > old/kept.py")
    change, _ = await work.now(base)
    assert names(change) == {"new/main.py", "bare/b.py", "old/kept.py"}
    assert b"Subproject" not in change.patch
    assert {left.path for left in change.left} >= {b"new/.git", b"bare/.git"}


async def test_commits_made_inside_are_told(tree):
    sandbox, sh = tree
    work = place(sandbox)
    base = await work.snapshot(new_id())
    await sh("echo more > more.py && git add more.py")
    assert (await work.now(base))[0].left == []
    await sh("git commit -qm more")
    change, _ = await work.now(base)
    assert names(change) == {"more.py"}
    assert [(left.path, left.lost) for left in change.left] == [(b".git", False)]


async def test_an_edit_of_the_same_size_and_time_is_seen(tree):
    sandbox, sh = tree
    work = place(sandbox)
    await sh("for i in 1 2 3 4 5 6 7 8; do echo value = $i > f$i.py; done")
    base = await work.snapshot(new_id())
    same = "touch -r f$i.py ../was; echo value = 9 > f$i.py; touch -r ../was f$i.py"
    await sh(f"for i in 1 2 3 4 5 6 7 8; do {same}; done")
    assert len(names((await work.now(base))[0])) == 8


async def test_restore_brings_back_files_links_modes_and_empty_folders(tree):
    sandbox, sh = tree
    work = place(sandbox)
    await sh("mkdir -p inner && cd inner && git init -q . && echo 1 > x.py")
    base = await work.snapshot(new_id())
    before = await sh("find . -name .git -prune -o -printf '%y %m %l %p\\n' | sort")
    await sh("rm -r void inner/x.py app.py && mkdir app.py more && echo x > app.py/x && ln -s app.py link && "
             "mkdir -p node_modules && echo stays > node_modules/m")  # fmt: skip
    changed = await work.snapshot(new_id())
    await work.restore(new_id(), base)
    await sh("rm -r node_modules")
    assert await sh("find . -name .git -prune -o -printf '%y %m %l %p\\n' | sort") == before
    assert await work.snapshot(new_id()) == base
    await work.restore(new_id(), changed)
    assert await work.snapshot(new_id()) == changed
    assert await sh("test -d more && test ! -e void && ls more | wc -l") == "0"


async def test_a_record_is_repeated_by_its_key_and_does_not_read_again(tree):
    sandbox, sh = tree
    work = place(sandbox)
    key = new_id()
    first = await work.snapshot(key)
    await sh("echo more >> app.py")
    assert await work.snapshot(key) == first
    assert await work.snapshot(new_id()) != first


async def test_files_too_large_for_a_patch_are_named(tree):
    sandbox, sh = tree
    work = place(sandbox)
    base = await work.snapshot(new_id())
    await sh("head -c 90000000 /dev/urandom > big.bin && echo small > small.txt")
    change, _ = await work.now(base)
    assert names(change) == {"small.txt"}
    assert [(left.path, left.lost) for left in change.left] == [(b"big.bin", True)]
    assert "too large" in change.left[0].why


async def test_a_busybox_find_lists_the_same(tree):
    """Without -printf the listing is made with stat; here a `find` that refuses it stands first in PATH."""
    sandbox, sh = tree
    await sh("mkdir -p ../bin && printf '%s\\n' '#!/bin/sh' 'case \"$*\" in *-printf*) exit 1;; esac' "
             "'exec /usr/bin/find \"$@\"' > ../bin/find && chmod +x ../bin/find")  # fmt: skip
    plain, slim = place(sandbox), place(sandbox)
    inside = slim.place
    run = inside.run

    async def with_slim_find(exec_id: str, script: str, timeout_s: float, *, merge: bool = True) -> Any:
        return await run(exec_id, f"PATH=/home/user/bin:$PATH; {script}", timeout_s, merge=merge)

    inside.run = with_slim_find
    await sh("mkdir -p lib a/b && ln -s nowhere link && printf x > 'odd  name ' && chmod +x app.py")
    base = await slim.snapshot(new_id())
    assert base == await plain.snapshot(new_id())
    await sh("echo changed > lib/x && rm app.py && rmdir a/b")
    assert (await slim.now(base))[0].files == (await plain.now(base))[0].files
    await sh("printf x > 'a\nb'")
    with pytest.raises(SandboxFailed, match="line break"):
        await slim.snapshot(new_id())
