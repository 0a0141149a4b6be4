"""`vitalwire account` on a store that may be in use."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from cloud.access_config import AccessConfig, AccessMode
from cloud.api.tokens import read_tokens
from cloud.passwords import verify
from cloud.store import accounts, schema
from cloud.store.accounts import Account
from cloud.store.database import Database
from tests.cloud.api.apps import build
from tests.conftest import ROOT
from tests.threats.served import served
from vitalwire.__main__ import main

GOOD = "blue kettle on tuesday"
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Open all the while, as a running cloud has it."""
    (tmp_path / "good").write_text(GOOD + "\n")
    opened = Database(tmp_path / "store.sqlite")
    yield opened
    opened.close()


def account(tmp_path: Path, *words: str) -> int:
    return main(["account", "--store", str(tmp_path / "store.sqlite"), *words])


def found(database: Database, name: str) -> Account:
    account = database.read_now(lambda connection: accounts.find(connection, name))
    assert account is not None
    return account


def add(tmp_path: Path, name: str, *words: str) -> int:
    return account(tmp_path, "add", name, "--password-file", str(tmp_path / "good"), *words)


def test_the_first_operator_is_made_and_nobody_is_there_before(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert account(tmp_path, "list") == 0
    assert capsys.readouterr().out == ""
    assert add(tmp_path, "root.op", "--role", "operator") == 0
    made = found(database, "root.op")
    assert (made.role, made.hospital, made.title, made.is_disabled) == ("operator", "", "root.op", 0)
    assert verify(made.password_hash, GOOD).is_right
    capsys.readouterr()
    assert account(tmp_path, "list") == 0
    assert capsys.readouterr().out == "root.op\toperator\t-\tactive\tlocal\n"
    c = schema.audit.c
    rows = database.read_now(lambda connection: connection.execute(sa.select(c.action, c.object, c.source)).all())
    assert [tuple(row) for row in rows] == [("account add", "root.op", "command line")]


def test_role_password_and_disable_each_end_what_is_signed_in(database: Database, tmp_path: Path) -> None:
    assert add(tmp_path, "wang.li", "--role", "er_clinician", "--hospital", "H1") == 0
    acts = (
        ("role", "wang.li", "--role", "er_clinician", "--hospital", "H2"),
        ("password", "wang.li", "--password-file", str(tmp_path / "good")),
        ("disable", "wang.li"),
    )
    for number, act in enumerate(acts):
        mark = bytes([number]) * 32
        database.transaction(lambda c, mark=mark: accounts.begin(c, mark, found(database, "wang.li"), "10.0.0.1", 1))
        assert len(database.read_now(lambda c, mark=mark: accounts.standing(c, [mark]))) == 1
        assert account(tmp_path, *act) == 0
        assert database.read_now(lambda c, mark=mark: accounts.standing(c, [mark])) == []
    assert (found(database, "wang.li").hospital, found(database, "wang.li").is_disabled) == ("H2", 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "wang.li", "--role", "king"), "allowed: er_clinician, dispatcher, operator"),
        (("add", "wang.li", "--role", "integration"), "allowed:"),
        (("add", "wang.li", "--role", "er_clinician"), "needs --hospital"),
        (("add", "wang.li", "--role", "operator", "--hospital", "H1"), "leave --hospital out"),
        (("add", "W li", "--role", "operator"), "is no name"),
        (("add", "wang.li", "--role", "operator"), "no terminal"),
        (("add", "wang.li", "--role", "operator", "--password-file", "nowhere"), "nowhere"),
        (("disable", "nobody"), "no such account"),
        (("password", "nobody"), "no such account"),
    ],
)
def test_a_wrong_call_is_one_sentence(
    database: Database, tmp_path: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert account(tmp_path, *words) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert database.read_now(accounts.every) == []


def test_a_weak_password_or_a_taken_name_is_refused(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good").write_text("password1234\n")
    assert add(tmp_path, "wang.li", "--role", "operator") == 2
    assert "guessed first" in capsys.readouterr().err
    (tmp_path / "good").write_text(GOOD)
    assert add(tmp_path, "wang.li", "--role", "operator") == 0
    assert add(tmp_path, "wang.li", "--role", "auditor") == 2
    assert "there is such an account" in capsys.readouterr().err


def test_the_commands_of_the_documentation_run_as_they_stand_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good").write_text(GOOD)
    (tmp_path / "cloud.toml").write_text('state_dir = "state"\n[access]\nmode = "accounts"\n')
    lines = (ROOT / "docs" / "access.md").read_text(encoding="utf-8").splitlines()
    calls = [shlex.split(line)[1:] for line in lines if line.startswith("vitalwire account add")]
    assert len(calls) == 2
    for call in calls:
        assert main([*call, "--password-file", "good"]) == 0, call
    capsys.readouterr()
    assert main(["account", "-c", "cloud.toml", "list"]) == 0
    assert [line.split("\t")[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["root.op", "operator"],
        ["wang.li", "er_clinician"],
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("list",), "-c CONFIG or --store FILE"),
        (("--store", "a", "list", "-c", "b"), "give one of them"),
        (("list", "--store", "a", "-c", "b"), "give one of them"),
    ],
)
def test_a_store_is_named_once(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["account", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_token_of_the_documentation_is_known_by_its_line_and_kept_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (ROOT / "docs" / "access.md").read_text(encoding="utf-8").splitlines()
    (call,) = [shlex.split(line)[1:] for line in lines if line.startswith("vitalwire account token")]
    assert main(call) == 0
    first, second = capsys.readouterr().out.splitlines()
    token = first.removeprefix("token, shown this once: ")
    (tmp_path / "tokens").write_text(second.removeprefix("line for tokens_file: "))
    assert token not in second
    tokens = read_tokens(AccessConfig(mode=AccessMode.ACCOUNTS, tokens_file=str(tmp_path / "tokens")))
    found = tokens.find(token)
    assert found is not None
    assert (found.name, found.role) == ("ward.script", "operator")


@pytest.mark.parametrize(("name", "grant"), [("a b", "operator"), ("ab", "king"), ("ab", "operator@H1")])
def test_a_token_no_cloud_would_take_is_not_made(name: str, grant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["account", "token", name, grant]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1


async def test_a_command_without_a_token_is_told_to_give_one(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    app = build(database, AccessConfig(mode=AccessMode.ACCOUNTS), gateways=("gw-1",))
    async with served(app) as api:
        assert await asyncio.to_thread(main, ["command", "--url", api.url, "gw-1", "replay"]) == 2
    said = capsys.readouterr().err
    assert "--token-file" in said
    assert "Origin" not in said
