"""Resource limits: what people write, what they get, what they are told."""

from __future__ import annotations

import pytest

from actors.sandbox.limits import MIB, Limits, parse
from terminalpp.types.errors import InvalidInput

GIB = 1024**3
DEFAULTS = Limits(cpu=2, memory_bytes=2 * GIB, disk_bytes=10 * GIB, pids=512, nofile=4096)


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"cpu": "1"}, "cpu", 1.0),
        ({"cpu": 0.5}, "cpu", 0.5),
        ({"cpu": "250m"}, "cpu", 0.25),
        ({"memory": "1GB"}, "memory_bytes", GIB),
        ({"memory": "512Mi"}, "memory_bytes", 512 * MIB),
        ({"memory": "1.5 g"}, "memory_bytes", GIB * 3 // 2),
        ({"memory": 64 * MIB}, "memory_bytes", 64 * MIB),
        ({"disk": "20GB"}, "disk_bytes", 20 * GIB),
        ({"pids": "64"}, "pids", 64),
        ({"nofile": 1024}, "nofile", 1024),
    ],
)
def test_read(given, field, value):
    assert getattr(parse(given, DEFAULTS), field) == value


def test_defaults_of_the_seed_and_nothing_given():
    assert parse(None, DEFAULTS) == DEFAULTS
    seed = parse({"cpu": "1", "memory": "1GB", "disk": "10GB"}, DEFAULTS)
    assert (seed.cpu, seed.memory_bytes, seed.disk_bytes) == (1.0, GIB, 10 * GIB)


def test_more_than_the_machine_has_is_lowered():
    machine = Limits(cpu=2, memory_bytes=4 * GIB, disk_bytes=50 * GIB, pids=1000, nofile=65536)
    got = parse({"cpu": "64", "memory": "1TB"}, DEFAULTS, machine)
    assert (got.cpu, got.memory_bytes, got.pids) == (2, 4 * GIB, 512)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cpu": "many"}, "cpu"), ({"cpu": True}, "cpu"), ({"cpu": "0"}, "not between"),
        ({"cpu": "-1"}, "cpu"),
        ({"memory": "1XB"}, "memory"), ({"memory": "1MB"}, "not between"), ({"memory": None}, "memory"),
        ({"pids": "1.5"}, "pids"), ({"pids": 2}, "not between"), ({"gpu": "1"}, "no such limit"),
        ({"memory": "999999TB"}, "not between"),
    ],
)
def test_refused_with_the_name_and_the_reason(given, words):
    with pytest.raises(InvalidInput) as caught:
        parse(given, DEFAULTS)
    assert words in caught.value.detail
