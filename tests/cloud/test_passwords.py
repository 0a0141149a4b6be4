from __future__ import annotations

import asyncio
import threading

import argon2
import pytest

from cloud import passwords
from cloud.passwords import (
    NOBODYS_HASH,
    PasswordDesk,
    TooBusy,
    Verdict,
    WeakPassword,
    check_choice,
    hash_password,
    verify,
)

GOOD = "blue kettle on tuesday"


def test_a_hash_is_argon2id_of_rfc_9106_and_opens_by_its_password_alone() -> None:
    made = hash_password(GOOD)
    assert made.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert verify(made, GOOD) == Verdict(True)
    assert verify(made, GOOD + " ") == Verdict(False)
    assert verify("not a hash", GOOD) == Verdict(False)


def test_what_looks_the_same_is_the_same() -> None:
    assert verify(
        hash_password("caf\N{LATIN SMALL LETTER E WITH ACUTE} au lait please"), "cafe\u0301 au lait please"
    ).is_right


def test_older_parameters_are_replaced_when_the_password_is_seen() -> None:
    old = argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(GOOD)
    verdict = verify(old, GOOD)
    assert verdict.is_right
    assert verify(verdict.new_hash, GOOD) == Verdict(True)


@pytest.mark.parametrize(
    "password",
    ["elevenchars", "x" * 257, "aaaaaaaaaaaa", "abababababab", "Password1234!", "vitalwire-2026", "passwordpassword",
     "123456789012", "abcdefghijklm", "QWERTYUIOPas", "wang.li-is-me"],
)  # fmt: skip
def test_what_is_guessed_first_is_refused(password: str) -> None:
    with pytest.raises(WeakPassword):
        check_choice(password, "wang.li")


@pytest.mark.parametrize("password", [GOOD, "值班室的老挂钟慢了七分钟整", "x7#Kq2!mZp9w", "a" * 60 + "bcde"])
def test_what_is_long_and_uncommon_is_taken(password: str) -> None:
    check_choice(password, "wang.li")


async def test_an_account_without_a_password_costs_the_same_and_never_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = argon2.extract_parameters(NOBODYS_HASH)
    assert parameters == argon2.extract_parameters(hash_password(GOOD))
    asked: list[str] = []
    monkeypatch.setattr(passwords, "verify", lambda hashed, _: asked.append(hashed) or Verdict(True))
    assert not (await PasswordDesk().verify("", GOOD)).is_right
    assert asked == [NOBODYS_HASH]


async def test_more_than_people_sign_in_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, running = threading.Event(), []

    def slow(_hash: str, _password: str) -> Verdict:
        running.append(1)
        gate.wait(5)
        return Verdict(True)

    monkeypatch.setattr(passwords, "verify", slow)
    desk = PasswordDesk(at_once=2, most_waiting=3)
    waiting = [asyncio.ensure_future(desk.verify("h", "p")) for _ in range(5)]
    await asyncio.sleep(0)
    for _ in range(1000):
        with pytest.raises(TooBusy):
            await desk.verify("h", "p")
    gate.set()
    assert [verdict.is_right for verdict in await asyncio.gather(*waiting)] == [True] * 5
    assert len(running) == 5
    assert (await desk.verify("h", "p")).is_right
