"""Keys of model providers that were added while the server runs, encrypted in the home.

`secrets/model-keys.json` holds `{provider: {"key": …, "added_at": …}}`, each key encrypted (Fernet:
AES-128-CBC with HMAC-SHA-256) under `secrets/keys.key`; both are 0600. That keeps keys out of a copy of the
one file, out of a grep and a screen share, not from somebody who can read the whole home.

Who calls a model reads the file when it calls, again only when it changed, so a key is used at once. What
cannot be decrypted (the key file was lost or replaced) counts as not there, and `listed` says so: nothing
else stops working, and adding the key again mends it. Keys are given to nobody but the library that calls the
provider.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, InvalidToken

from runtime.home import Home, from_os_error, read_json, write_atomically
from terminalpp.types.errors import HomeCorrupt, NotFound
from terminalpp.types.providers import KEY_FILE

SECRET = "keys.key"
SHORTEST_HIDDEN = 6  # characters; of a shorter key no text could be cleared


class ModelKeys:
    """The stored keys of one home. Every method looks at the disk."""

    def __init__(self, home: Path) -> None:
        self._home = Home(home)
        self._file = home / "secrets" / KEY_FILE
        self._read: tuple[Any, dict[str, dict[str, str]], dict[str, str]] = (None, {}, {})
        self._lock = threading.Lock()

    def all(self) -> dict[str, str]:
        """The keys by provider, as litellm names it."""
        return dict(self._current()[1])

    def listed(self) -> list[dict[str, Any]]:
        """`{provider, added_at, usable}` in the order of names; never a key."""
        rows, keys = self._current()
        return [
            {"provider": name, "added_at": row.get("added_at"), "usable": name in keys}
            for name, row in sorted(rows.items())
        ]

    def add(self, provider: str, key: str) -> None:
        """Keep a key, in the place of an older one. Raises HomeCorrupt and DiskFull."""
        with self._changing() as rows:
            box = self._box(create=True)
            now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            rows[provider] = {"key": box.encrypt(key.encode()).decode(), "added_at": now}

    def remove(self, provider: str) -> None:
        """Forget a key. Raises NotFound."""
        with self._changing() as rows:
            if rows.pop(provider, None) is None:
                raise NotFound(f"no key is stored for {provider}", "`./tpp model ls` lists them.")

    def hidden(self, text: str) -> str:
        """`text` without any of the stored keys: a provider may repeat the one it refuses."""
        for key in self.all().values():
            if len(key) >= SHORTEST_HIDDEN:
                text = text.replace(key, "[key]")
        return text

    def _current(self) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
        with self._lock:
            mark = tuple(map(_stamp, (self._file, self._home / f"secrets/{SECRET}")))
            if mark != self._read[0]:
                rows = self._rows()
                self._read = (mark, rows, self._decrypted(rows))
            return self._read[1], self._read[2]

    def _rows(self) -> dict[str, dict[str, str]]:
        return {name: row for name, row in read_json(self._file).items() if isinstance(row, dict)}

    def _decrypted(self, rows: dict[str, dict[str, str]]) -> dict[str, str]:
        found: dict[str, str] = {}
        with contextlib.suppress(HomeCorrupt):
            if not rows:
                return found
            box = self._box(create=False)
            for name, row in rows.items():
                with contextlib.suppress(InvalidToken, ValueError):
                    found[name] = box.decrypt(str(row.get("key")).encode()).decode()
        return found

    def _box(self, *, create: bool) -> Fernet:
        try:
            return Fernet(self._home.secret(SECRET, create=create) + "=")  # 32 bytes are 43 letters
        except ValueError:
            raise HomeCorrupt(f"{self._home / 'secrets' / SECRET} is damaged") from None

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, dict[str, str]]]:
        """The rows, written back when the block ends well; under a lock, so that no writer undoes another."""
        lock = self._home / "secrets" / f"{KEY_FILE}.lock"
        try:
            lock.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise from_os_error(error, lock) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            rows = self._rows()
            yield rows
            write_atomically(self._file, json.dumps(rows, indent=1) + "\n")
        finally:
            os.close(descriptor)


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Changes with every replacement of the file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


@functools.cache
def of(home: Path) -> ModelKeys:
    """The one object of this process for a home."""
    return ModelKeys(home)
