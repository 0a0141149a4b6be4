from __future__ import annotations

import stat
from pathlib import Path

from cloud.devices import Devices, open_devices


def test_a_browser_is_known_for_the_accounts_that_signed_in_with_it_and_no_other() -> None:
    devices = Devices(b"k")
    cookie = devices.remember(devices.remember("", "wang"), "chen")
    assert devices.find(cookie, "wang") == devices.find(cookie, "chen") != ""
    assert devices.find(cookie, "li") == ""
    assert "wang" not in cookie
    assert Devices(b"other").find(cookie, "wang") == ""
    assert devices.remember(cookie, "chen") == cookie
    other = devices.remember("", "li")
    tags = other.partition(".")[2]
    assert devices.find(f"{cookie.partition('.')[0]}.{tags}", "li") == ""  # a tag is good in its own browser


def test_what_is_no_cookie_of_ours_is_nobodys_and_is_replaced() -> None:
    devices = Devices(b"k")
    for nonsense in ("", ".", "a.b", "é" * 22, "." * 5000, "\ud800"):
        assert devices.find(nonsense, "wang") == ""
        assert len(devices.remember(nonsense, "wang")) == 45


def test_a_wards_computer_knows_the_last_who_used_it() -> None:
    devices, cookie = Devices(b"k"), ""
    for number in range(30):
        cookie = devices.remember(cookie, f"name-{number}")
    known = [number for number in range(30) if devices.find(cookie, f"name-{number}")]
    assert known == list(range(14, 30))


def test_the_key_is_made_once_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    cookie = open_devices(tmp_path / "state").remember("", "wang")
    assert open_devices(tmp_path / "state").find(cookie, "wang")
    assert stat.S_IMODE((tmp_path / "state" / "secrets" / "devices.key").stat().st_mode) == 0o600
