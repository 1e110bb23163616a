"""The folder of one bubblewrap sandbox, `<home>/sandboxes/<id>/`: what is in it and to whom it belongs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import struct
from pathlib import Path
from typing import Any

from actors.node import cgroups
from actors.node.accounts import Accounts
from actors.node.bubblewrap_command import Fds
from actors.sandbox.tppd.protocol import SOCKET

_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS of linux/fs.h
_TOP_DIRECTORY = 0x00020000  # FS_TOPDIR_FL; `chattr +T`


def make_folder(folder: Path) -> None:
    """The folder of a sandbox, on a part of the disk of its own where the file system has such parts."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _spread(folder.parent)
    folder.mkdir(exist_ok=True, mode=0o700)


def _spread(root: Path) -> None:
    """Ask ext4 to put what is in `root` into different block groups.

    Else all lie in one, and there ext4 looks for a free inode past all those that were deleted in the last
    minutes: after the deletion of a large sandbox to make a file took 800 us instead of 15. It is for speed
    alone: other file systems know nothing of it, and need not.
    """
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = struct.unpack("i", fcntl.ioctl(fd, _GET_FLAGS, bytes(4)))[0]
        if not flags & _TOP_DIRECTORY:
            fcntl.ioctl(fd, _SET_FLAGS, struct.pack("i", flags | _TOP_DIRECTORY))
    except OSError:
        return
    finally:
        os.close(fd)


def make_folders(folder: Path, accounts: Accounts) -> None:
    """The run directory belongs to the helper, the workspace to the user; blocks.

    Where an earlier version gave the run directory to the user, all of it is handed over, once.
    """
    for name in ("run", "home"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    helper, group = accounts.helper, accounts.helper_group
    if os.getuid() != 0 or helper is None:
        return
    if (folder / "home").stat().st_uid != accounts.user:
        os.chown(folder / "home", accounts.user, accounts.user_group)
    if (folder / "run").stat().st_uid == helper:
        return
    for parent, _folders, files in os.walk(folder / "run", topdown=False):  # the top, which tells, at last
        for path in [*(os.path.join(parent, name) for name in files), parent]:
            os.chown(path, helper, group, follow_symlinks=False)


def open_fds(stack: contextlib.ExitStack, folder: Path) -> Fds:
    """Open what bwrap and tppd inherit, and take the lock that says that the sandbox lives."""
    def keep(fd: int) -> int:
        stack.callback(os.close, fd)
        return fd

    alive = keep(os.open(folder / "alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    run = keep(os.open(folder / "run", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    status = keep(os.open(folder / "bwrap.json", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(SOCKET, dir_fd=run)
    listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
    listener.bind(f"/proc/self/fd/{run}/{SOCKET}")
    listener.listen(256)
    counter = cgroups.open_oom_counter(folder.name)
    return Fds(run, listener.fileno(), alive, status, None if counter is None else keep(counter))


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write the file whole or not at all."""
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(value))
    os.replace(aside, path)


def tail(log: Path) -> str:
    """The last three lines of a log in one."""
    with contextlib.suppress(FileNotFoundError):
        return " | ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
    return ""


def delete(folder: Path) -> None:
    """Delete a sandbox's folder, whatever modes its files have."""
    def open_up(function: Any, path: str, _: Any) -> None:
        os.chmod(os.path.dirname(path), 0o700)  # a directory the sandbox user made read-only
        os.chmod(path, 0o700, follow_symlinks=True)
        function(path)

    try:
        shutil.rmtree(folder, onerror=open_up)
    except FileNotFoundError:
        return
