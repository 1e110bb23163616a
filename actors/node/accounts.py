"""Accounts of the host under which a bubblewrap sandbox runs: one for commands, another for its helper."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from runtime import sandbox_probe

FIRST_UID = 1_000_000_000
UIDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Accounts:
    """The accounts of a sandbox on the host: `user` its commands and workspace, `helper` tppd and the shims.

    `helper` None: only one account can be had here, and both are `user`.
    """

    user: int
    user_group: int
    helper: int | None = None
    helper_group: int = 0

    def __str__(self) -> str:
        return "another uid" if self.helper is not None else "same uid, filtered"

    def words(self) -> list[str]:
        """For `tppd launch`."""
        return [str(one) for one in (self.helper, self.helper_group, self.user, self.user_group)]


def root_accounts(sandbox_id: str) -> Accounts:
    """As root: two that this sandbox alone has, and that own nothing else."""
    number = int.from_bytes(hashlib.sha256(sandbox_id.encode()).digest()[:8], "big") % UIDS
    user, helper = FIRST_UID + number, FIRST_UID + UIDS + number
    return Accounts(user, user, helper, helper)


async def own_accounts(tppd: Path, bwrap: str, folder: Path) -> Accounts:
    """As an ordinary user: one's own, and the first of /etc/subuid and subgid where that is tried and works.

    Tried: with the second account, can what is needed be reached?
    """
    own = Accounts(os.getuid(), os.getgid())
    helper, group = _subordinate("/etc/subuid", own.user), _subordinate("/etc/subgid", own.user)
    if helper is None or group is None:
        return own
    both = dataclasses.replace(own, helper=helper, helper_group=group)
    check = 'test -x "$1" && test -x "$2" && test -x "$3"'
    tried = [str(tppd), "launch", *both.words(), "1", "/bin/sh", "-c", check, "sh"]
    status, _said = await sandbox_probe.run([*tried, str(tppd), bwrap, str(folder)])
    return own if status else both


def _subordinate(path: str, uid: int) -> int | None:
    """The first id that `path` gives to this user, by name or number."""
    names = {str(uid)}
    with contextlib.suppress(KeyError):
        names.add(pwd.getpwuid(uid).pw_name)
    with contextlib.suppress(OSError):
        for line in Path(path).read_text().splitlines():
            name, first, count = [*line.split(":"), "", ""][:3]
            if name in names and first.isdecimal() and count.isdecimal() and int(count) > 0:
                return int(first)
    return None
