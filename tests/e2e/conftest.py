"""One running stack for all end-to-end tests: booting takes seconds, and a person boots once."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.e2e.stack import Stack


@pytest.fixture(scope="package")
def stack():
    # bubblewrap here; the Docker driver has its own end-to-end test.
    folder = Path(tempfile.mkdtemp(prefix="tpp-e2e-"))
    stack = Stack(folder / "home", {"TPP_SANDBOX_DRIVER": "bubblewrap"})
    stack.start()
    yield stack
    stack.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def client(stack):
    async with stack.client() as client:
        yield client
