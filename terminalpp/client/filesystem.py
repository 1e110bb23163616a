"""Files of a sandbox as an object: `sandbox.files`. Paths are absolute. `Client` can do more with them."""

from __future__ import annotations

from terminalpp.client import shapes
from terminalpp.client.client import Client
from terminalpp.types import errors


class AsyncFilesystem:
    """`sandbox.files`. Raises NotFound, FileProblem, Conflict as each method says."""

    def __init__(self, client: Client, sandbox_id: str) -> None:
        self._client = client
        self._sandbox_id = sandbox_id

    async def read(self, path: str) -> str:
        """A text file. Raises NotFound; FileProblem for what is no regular file or no UTF-8."""
        data = await self.read_bytes(path)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise errors.FileProblem(f"{path} is no UTF-8: {error}", "Read it with `read_bytes`.") from error

    async def read_bytes(self, path: str) -> bytes:
        """Any regular file. Raises NotFound, FileProblem."""
        return await self._client.read_file(self._sandbox_id, path)

    async def write(self, path: str, data: str | bytes, *, mode: str | None = None) -> shapes.File:
        """Make `data` the file, all at once, with the directories above it. `mode`: octal digits."""
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else bytes(data)
        return await self._client.write_file(self._sandbox_id, path, content, mode=mode)

    async def list(self, path: str, *, depth: int = 1) -> list[shapes.FileListed]:
        """What is in a directory, `depth` levels deep, by name. Raises NotFound, FileProblem."""
        return await self._client.list_files(self._sandbox_id, path, depth=depth)

    async def exists(self, path: str) -> bool:
        """Whether anything is there: of a symlink, itself. Raises NotFound when the sandbox is gone."""
        try:
            await self._client.stat_file(self._sandbox_id, path)
        except errors.NotFound:
            await self._client.sandbox(self._sandbox_id)  # that the sandbox is gone is another matter
            return False
        return True

    async def get_info(self, path: str) -> shapes.File:
        """Type, size, mode, times and etag of what is there; of a symlink itself. Raises NotFound."""
        return await self._client.stat_file(self._sandbox_id, path)

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Delete a file, or with `recursive` a directory with all in it. What is not there is fine."""
        await self._client.delete_file(self._sandbox_id, path, recursive=recursive)

    async def rename(self, old_path: str, new_path: str, *, overwrite: bool = False) -> shapes.File:
        """In one step; `new_path` is the whole new name. Raises NotFound, Conflict (something is there)."""
        return await self._client.move_file(self._sandbox_id, old_path, new_path, overwrite=overwrite)

    async def make_dir(self, path: str) -> shapes.File:
        """With those above it; it may be there. Raises Conflict when another thing is."""
        return await self._client.make_directory(self._sandbox_id, path)
