"""Which hosts a policy speaks of: examples, and against a model that knows no parsing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.egress.addresses import Standing, standing
from actors.egress.policy import Policy, host_and_port, host_of, presets
from terminalpp.types.errors import InvalidInput


@pytest.mark.parametrize(
    ("entry", "host", "port", "permitted"),
    [
        ("api.example.org", "api.example.org", 443, True),
        ("api.example.org", "api.example.org", 80, True),
        ("api.example.org", "api.example.org", 22, False),
        ("API.Example.ORG.", "api.example.org", 443, True),
        ("api.example.org:8443", "api.example.org", 8443, True),
        ("api.example.org:8443", "api.example.org", 443, False),
        ("api.example.org", "example.org", 443, False),
        ("api.example.org", "evil-api.example.org", 443, False),
        ("api.example.org", "api.example.org.evil.org", 443, False),
        ("*.example.org", "a.example.org", 443, True),
        ("*.example.org", "a.b.example.org", 443, True),
        ("*.example.org", "example.org", 443, False),
        ("*.example.org", "badexample.org", 443, False),
        ("*", "anything.example", 443, True),
        ("*", "8.8.8.8", 443, False),  # an address is allowed by its number alone
        ("*:22", "anything.example", 22, True),
        ("bücher.example", "xn--bcher-kva.example", 443, True),
        ("8.8.8.8", "8.8.8.8", 443, True),
        ("[2606:4700::1111]:443", "2606:4700::1111", 443, True),
        ("pypi", "files.pythonhosted.org", 443, True),
        ("pypi", "pythonhosted.org", 443, False),
        ("github", "github.com", 22, True),
    ],
)
def test_an_entry_speaks_of_what_it_names(entry: str, host: str, port: int, permitted: bool) -> None:
    assert Policy.of([entry]).permits(host, port) is permitted


@pytest.mark.parametrize(
    "entry",
    ["", ".", "*.", "pipy", "http://example.org", "example.org/path", "user@example.org", "example.org:0",
     "example.org:65536", "example.org:http", "a b.org", "*.*.org", "a.*.org", "127.1", "0x7f.0.0.1",
     "2130706433", "0177.0.0.1", "a" * 64 + ".org", "a." * 200 + "org", "-a.org", "exa\nmple.org",
     "*.10.0.0.1",
     "[::1", "fe80::1%eth0", "a..org", "ex\0.org"],
)  # fmt: skip
def test_what_is_no_host_is_refused_by_name(entry: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Policy.of([entry])
    assert caught.value.detail.startswith("allow: ")
    assert "pypi" in caught.value.next_step


def test_a_private_host_is_named_exactly() -> None:
    policy = Policy.of([], ["db:5432", "10.1.2.3:80"])
    assert policy.permits_private("db", 5432)
    assert policy.permits_private("10.1.2.3", 80)
    assert not Policy.of(["*"]).permits_private("db", 443)
    with pytest.raises(InvalidInput, match="allow_private"):
        Policy.of([], ["*.internal"])


def test_a_policy_is_stored_as_written_and_read_again() -> None:
    policy = Policy.of(["PyPI.org", "npm", "npm", "*.Example.org:8443"], ["db:5432"])
    assert policy.to_json() == {
        "allow": ["pypi.org", "npm", "*.example.org:8443"],
        "allow_private": ["db:5432"],
    }
    assert Policy.from_json(policy.to_json()) == policy
    assert Policy.from_json(None) == Policy()


def test_too_many_entries_are_refused() -> None:
    with pytest.raises(InvalidInput, match="201 entries"):
        Policy.of([f"h{n}.example" for n in range(201)])


def test_every_preset_can_be_read() -> None:
    assert set(presets()) == {"pypi", "npm", "debian", "github"}
    for name in presets():
        assert list(Policy.of([name]).lines()) == presets()[name]


LABEL = st.from_regex(r"[a-z][a-z0-9]{0,3}", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=4)


def spelled(labels: list[str], upper: list[bool], dot: bool) -> str:
    word = ".".join(labels)
    mixed = "".join(c.upper() if up else c for c, up in zip(word, upper + [False] * len(word), strict=False))
    return mixed + ("." if dot else "")


PORT = st.sampled_from([None, 443, 8443])
AT = st.sampled_from([80, 443, 8443])
UPPER = st.lists(st.booleans(), max_size=20)


@given(NAME, NAME, st.booleans(), st.booleans(), PORT, AT, UPPER, st.booleans())
def test_matching_is_that_of_label_lists(
    rule: list[str], asked: list[str], wild: bool, nested: bool, port: int | None, at: int, upper: list[bool],
    dot: bool,
) -> None:  # fmt: skip
    asked = asked + rule if nested else asked
    rule = [*rule, "org"]
    asked = [*asked, "org"] if nested or asked else asked
    entry = ("*." if wild else "") + spelled(rule, upper, dot) + (f":{port}" if port else "")
    fits = len(asked) > len(rule) and asked[-len(rule) :] == rule if wild else asked == rule
    expected = fits and (at == port if port else at in (80, 443))
    assert Policy.of([entry]).permits(host_of(spelled(asked, upper[::-1], dot)), at) is expected


@given(st.text(max_size=40))
def test_any_text_is_a_host_or_refused(text: str) -> None:
    """And what is accepted is accepted again, as it is."""
    try:
        host, _ = host_and_port(text)
    except (ValueError, UnicodeError):
        return
    assert host_of(host) == host
    assert not set(host) & set("/@ ?#*\r\n\0")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", Standing.PUBLIC), ("2606:4700::1111", Standing.PUBLIC),
        ("10.0.0.1", Standing.PRIVATE), ("172.16.0.1", Standing.PRIVATE), ("192.168.1.1", Standing.PRIVATE),
        ("100.64.0.1", Standing.PRIVATE), ("fd00::1", Standing.PRIVATE),
        ("::ffff:10.0.0.1", Standing.PRIVATE),
        ("::ffff:8.8.8.8", Standing.PUBLIC), ("64:ff9b::a00:1", Standing.PRIVATE),
        ("127.0.0.1", Standing.HOST), ("127.9.9.9", Standing.HOST), ("::1", Standing.HOST),
        ("::ffff:127.0.0.1", Standing.HOST), ("64:ff9b::7f00:1", Standing.HOST),
        ("2002:7f00:1::", Standing.HOST),
        ("169.254.169.254", Standing.NEVER), ("::ffff:169.254.169.254", Standing.NEVER),
        ("64:ff9b::a9fe:a9fe", Standing.NEVER), ("fe80::1", Standing.NEVER), ("fe80::1%eth0", Standing.NEVER),
        ("0.0.0.0", Standing.NEVER), ("0.1.2.3", Standing.NEVER), ("::", Standing.NEVER),
        ("224.0.0.1", Standing.NEVER), ("ff02::1", Standing.NEVER), ("255.255.255.255", Standing.NEVER),
        ("168.63.129.16", Standing.NEVER), ("100.100.100.200", Standing.NEVER),
        ("fd00:ec2::254", Standing.NEVER),
        ("::7f00:1", Standing.HOST),
    ],
)  # fmt: skip
def test_the_standing_of_an_address(address: str, expected: Standing) -> None:
    assert standing(address) is expected
