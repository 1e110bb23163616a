from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime import settings
from terminalpp.types.errors import HomeCorrupt, InvalidInput

ROOT = Path(__file__).resolve().parents[2]


def test_the_documentation_holds_the_table_of_all_settings():
    text = (ROOT / "docs" / "configuration.md").read_text()
    for line in settings.table().splitlines():
        assert line in text, f"docs/configuration.md lacks: {line}"
    shown = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `TPP_")}
    assert shown == {settings.variable(name) for name in settings.Settings.model_fields}


def test_children_see_the_same_settings():
    given = {
        "TPP_HOME": "/x y/z",
        "TPP_PORT": "81",
        "TPP_TURN_MAX_USD": "0.5",
        "TPP_MODEL": "a/b",
        "TPP_RAY_CPUS": "",
    }
    first = settings.load(given)
    assert (first.home, first.port, first.turn_max_usd, first.ray_cpus) == (Path("/x y/z"), 81, 0.5, None)
    assert settings.load(first.to_environ()) == first


def test_home_defaults_to_the_users_data_directory():
    assert settings.load({"HOME": "/h"}).home == Path("/h/.local/share/terminalpp")
    assert settings.load({"HOME": "/h", "XDG_DATA_HOME": "/d"}).home == Path("/d/terminalpp")
    assert settings.load({"HOME": "/h", "XDG_DATA_HOME": "relative"}).home == Path(
        "/h/.local/share/terminalpp"
    )
    assert settings.load({}).home.is_absolute()


def test_each_wrong_variable_is_named():
    with pytest.raises(InvalidInput) as caught:
        settings.load({"TPP_PORT": "seven", "TPP_LEASE_SECONDS": "0", "TPP_SANDBOX_DRIVER": "chroot"})
    for name in ("TPP_PORT", "TPP_LEASE_SECONDS", "TPP_SANDBOX_DRIVER"):
        assert name in caught.value.detail
    assert settings.unknown_variables({"TPP_PROT": "1", "TPP_PORT": "1", "HOME": "x"}) == ["TPP_PROT"]


def test_secrets_are_not_in_the_repr():
    shown = repr(settings.load({"TPP_MODEL_API_KEY": "sk-secret", "TPP_DATABASE_URL": "postgres://u:pw@h/d"}))
    assert "sk-secret" not in shown
    assert "pw@h" not in shown


def test_a_home_that_ray_cannot_use_gets_a_short_private_directory(tmp_path):
    assert settings.run_dir(Path("/root/.local/share/terminalpp")) == Path("/root/.local/share/terminalpp")
    for odd in ("/h/with space", "/h/" + "x" * 50, "/h/ünï", "/h/a;b"):
        short = settings.run_dir(Path(odd))
        assert str(short).startswith(f"/tmp/tpp-{os.getuid()}-")
        assert short != settings.run_dir(Path(odd + "2"))
    home = tmp_path / "a home"
    made = settings.ensure_run_dir(home)
    try:
        made.chmod(0o755)
        assert settings.ensure_run_dir(home).stat().st_mode & 0o777 == 0o700
    finally:
        made.rmdir()
    made.symlink_to(tmp_path)
    try:
        with pytest.raises(HomeCorrupt):
            settings.ensure_run_dir(home)
    finally:
        made.unlink()
