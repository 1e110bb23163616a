"""Files of a sandbox: the part of `Client` that reads and writes them.

Paths are absolute; bytes that are no UTF-8 stand in them as Python's surrogates (`os.fsdecode`).
`if_match` takes an `etag` (or `*`: whatever is there), `if_none_match` too (`*`: only when nothing is there);
when that does not hold, PreconditionFailed is raised and nothing was done. A request with such a condition is
not repeated by itself: the first one may have been carried out, and would make the second fail.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

from terminalpp.client.routes import Routes
from terminalpp.client.shapes import File, FileListed
from terminalpp.client.transport import segment, understanding

LONG_S = 3600.0


class Files(Routes):
    """The requests about files of a sandbox."""

    def _files(self, sandbox_id: str, verb: str = "", **paths: str) -> str:
        query = "&".join(f"{name}={segment(path)}" for name, path in paths.items())
        return f"/v1/sandboxes/{segment(sandbox_id)}/files{verb}?{query}"

    async def read_file(
        self, sandbox_id: str, path: str, *, offset: int = 0, limit: int | None = None
    ) -> bytes:
        """All of a regular file, or `limit` bytes of it from `offset`, fewer at its end.

        Raises NotFound, FileProblem, RangeNotSatisfiable (`offset` lies behind the end)."""
        headers = {}
        if offset or limit is not None:
            headers["range"] = f"bytes={offset}-{'' if limit is None else offset + limit - 1}"
        url = self._files(sandbox_id, path=path)
        return (await self._transport.request("GET", url, headers=headers, timeout_s=600.0)).content

    async def stream_file(self, sandbox_id: str, path: str) -> AsyncIterator[bytes]:
        """A file of any size in pieces. Not repeated; a file that changes meanwhile raises Unavailable."""
        url = self._files(sandbox_id, path=path)
        async with self._transport.stream(url, query={}, headers={}, silence_s=600.0) as pieces:
            async for piece in pieces:
                yield piece

    async def write_file(
        self,
        sandbox_id: str,
        path: str,
        data: bytes | AsyncIterator[bytes],
        *,
        mode: str | None = None,
        parents: bool = True,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> File:
        """Make `data` the file, at once and as a whole. `mode`: octal digits. An iterator is sent once."""
        headers = _conditions(if_match, if_none_match)
        return await self._transport.json(
            "PUT",
            self._files(sandbox_id, path=path),
            query={"mode": mode, "parents": None if parents else "false"},
            content=data,
            headers={"content-type": "application/octet-stream", **headers},
            timeout_s=LONG_S,
            repeat=not headers,
        )

    async def change_file(
        self,
        sandbox_id: str,
        path: str,
        *,
        mode: str | None = None,
        modified_at: str | None = None,
        if_match: str | None = None,
    ) -> File:
        """Set the mode (octal digits), the time of the last change (RFC 3339), or both."""
        body = {"mode": mode, "modified_at": modified_at}
        headers = _conditions(if_match, None)
        return await self._transport.json(
            "PATCH",
            self._files(sandbox_id, path=path),
            json={name: value for name, value in body.items() if value is not None},
            headers=headers,
            repeat=not headers,
        )

    async def delete_file(
        self, sandbox_id: str, path: str, *, recursive: bool = False, if_match: str | None = None
    ) -> None:
        """Delete a file, a symlink or a directory; what is not there is fine."""
        headers = _conditions(if_match, None)
        await self._transport.request(
            "DELETE",
            self._files(sandbox_id, path=path),
            query={"recursive": "true" if recursive else None},
            headers=headers,
            timeout_s=LONG_S,
            repeat=not headers,
        )

    async def stat_file(self, sandbox_id: str, path: str, *, follow: bool = False) -> File:
        """What is there; of a symlink itself unless `follow`. Raises NotFound."""
        query = {"follow": "true" if follow else None}
        return await self._transport.json("GET", self._files(sandbox_id, "/stat", path=path), query=query)

    async def list_files(
        self, sandbox_id: str, path: str, *, depth: int = 1, limit: int = 100_000
    ) -> list[FileListed]:
        """What is in a directory, `depth` levels deep, by the bytes of the names."""
        items: list[FileListed] = []
        cursor = None
        while len(items) < limit:
            query = {"depth": depth, "limit": min(500, limit - len(items)), "cursor": cursor}
            page = await self._transport.json(
                "GET", self._files(sandbox_id, "/list", path=path), query=query
            )
            with understanding("the list of files"):
                items += page["items"]
                cursor = page["next_cursor"]
            if cursor is None:
                break
        return items

    async def make_directory(
        self,
        sandbox_id: str,
        path: str,
        *,
        mode: str | None = None,
        parents: bool = True,
        key: str | None = None,
    ) -> File:
        """With `parents` it may be there already. Raises Conflict, FileProblem."""
        query = {"mode": mode, "parents": None if parents else "false"}
        return await self._post_files(sandbox_id, "/mkdir", query, key, path=path)

    async def move_file(
        self, sandbox_id: str, source: str, to: str, *, overwrite: bool = False, key: str | None = None
    ) -> File:
        """Rename in one step. Raises NotFound, Conflict (there is something at `to`), FileProblem."""
        query = {"overwrite": "true" if overwrite else None}
        return await self._post_files(sandbox_id, "/move", query, key, **{"from": source, "to": to})

    async def copy_file(
        self, sandbox_id: str, source: str, to: str, *, overwrite: bool = False, key: str | None = None
    ) -> File:
        """A file, a symlink as such, or a directory with all in it. Raises as `move_file`."""
        query = {"overwrite": "true" if overwrite else None}
        return await self._post_files(sandbox_id, "/copy", query, key, **{"from": source, "to": to})

    async def _post_files(
        self, sandbox_id: str, verb: str, query: dict[str, Any], key: str | None, **paths: str
    ) -> File:
        url = self._files(sandbox_id, verb, **paths)
        return await self._transport.json("POST", url, query=query, key=key, timeout_s=LONG_S)

    async def download_archive(
        self, sandbox_id: str, path: str, format: Literal["tar", "gzip", "zstd"] = "tar"
    ) -> AsyncIterator[bytes]:
        """A directory as a tar, in pieces, with names relative to it. Not repeated."""
        url = f"/v1/sandboxes/{segment(sandbox_id)}/archive?path={segment(path)}"
        async with self._transport.stream(
            url, query={"format": format}, headers={}, silence_s=600.0
        ) as pieces:
            async for piece in pieces:
                yield piece


def _conditions(if_match: str | None, if_none_match: str | None) -> dict[str, str]:
    given = {"if-match": if_match, "if-none-match": if_none_match}
    return {name: value for name, value in given.items() if value is not None}
