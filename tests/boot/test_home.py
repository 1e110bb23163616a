from __future__ import annotations

import asyncio
import os
import socket

import pytest

from runtime import home as homes
from runtime.home import Home
from runtime.services.postgres import Postgres
from runtime.settings import load
from terminalpp.types.errors import DiskFull, HomeCorrupt, PortInUse


@pytest.fixture
def home(tmp_path) -> Home:
    home = Home(tmp_path / "h")
    home.prepare()
    return home


def mode(path) -> int:
    return path.stat().st_mode & 0o777


def test_a_home_is_private_and_may_be_prepared_again(home):
    home.path.chmod(0o755)
    home.prepare()
    assert mode(home.path) == 0o700
    assert {mode(home / name) for name in homes.FOLDERS} == {0o700}
    first = home.secret("x.token")
    assert home.secret("x.token") == first
    assert mode(home / "secrets" / "x.token") == 0o600


def test_somebody_elses_directory_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(HomeCorrupt, match=r"thesis\.tex"):
        Home(tmp_path).prepare()
    assert mode(tmp_path) == 0o755


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda h: (h / "format").write_text("2\n"), "newer"),
        (lambda h: (h / "format").write_text("\0\0"), "damaged"),
        (lambda h: ((h / "logs").rmdir(), (h / "logs").touch()), "logs"),
    ],
)
def test_a_corrupt_home_names_what_is_wrong(home, damage, named):
    damage(home)
    with pytest.raises(HomeCorrupt, match=named):
        home.prepare()


def test_a_file_in_place_of_the_home_is_refused(tmp_path):
    (tmp_path / "h").touch()
    with pytest.raises(HomeCorrupt, match="in the way"):
        Home(tmp_path / "h").prepare()


def test_damaged_and_lost_secrets_are_refused(home):
    homes.write_atomically(home / "secrets" / "x", "short\n")
    with pytest.raises(HomeCorrupt, match="damaged"):
        home.secret("x")
    with pytest.raises(HomeCorrupt, match="gone"):
        home.secret("y", create=False)


@pytest.mark.parametrize(("version", "named"), [(None, "PG_VERSION"), ("17\n", "17"), ("", "PostgreSQL")])
def test_a_database_that_is_not_ours_to_run_is_refused(home, version, named):
    (home / "pg").mkdir()
    if version is not None:
        (home / "pg" / "PG_VERSION").write_text(version)
    with pytest.raises(HomeCorrupt, match=named):
        asyncio.run(Postgres(home).prepare(load({"TPP_HOME": str(home.path)}), lambda *_: None))


def test_a_full_disk_is_said_before_anything_is_written(home):
    with pytest.raises(DiskFull, match="MiB free"):
        homes.check_disk(home.path, 2**62)
    error = OSError(28, "No space left on device", "/x")
    assert isinstance(homes.from_os_error(error, home.path), DiskFull)


def test_the_lock_has_one_holder(home):
    held = home.try_lock()
    assert home.try_lock() is None
    assert home.locked()
    os.close(held)
    assert not home.locked()


def test_ports_are_remembered_and_moved_when_taken(home):
    port = home.port("a")
    assert home.port("a") == port
    assert home.port("b") != port
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(PortInUse, match=str(port)):
            home.port("a", fixed=port)
        assert home.port("a", ours=True) == port
        moved = home.port("a")
        assert moved != port
    assert home.port("a") == moved


def test_two_homes_choose_different_ports(tmp_path):
    first, second = Home(tmp_path / "1"), Home(tmp_path / "2")
    for each in (first, second):
        each.prepare()
    assert first.port("a") != second.port("a")
