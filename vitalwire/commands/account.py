"""Who may sign in at the cloud: add people, give them a role, disable, list; works on the store, also while it runs.

`vitalwire account add NAME --role ROLE [--hospital ID] -c CONFIG`, `account role|disable|list|password`
`vitalwire account token NAME GRANT`
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import hashlib
import os
import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vitalwire.command import UsageError
from vitalwire.store_file import add_store_anywhere, check_is_there, check_named, opened_store

if TYPE_CHECKING:
    from cloud.store.accounts import Account
    from cloud.store.database import Database

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,62}")
_HOSPITAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which store, what to do, to whom. There is no argument for a password: it would stand in `ps` and history."""
    acts = parser.add_subparsers(dest="act", required=True, metavar="add|role|disable|list|password|token")
    add = acts.add_parser("add", help="a new account; asks for its password")
    role = acts.add_parser("role", help="another role or hospital; signs the person out everywhere")
    disable = acts.add_parser("disable", help="no more sign-in; signs the person out everywhere")
    password = acts.add_parser("password", help="another password; signs the person out and enables the account")
    listing = acts.add_parser("list", help="every account")
    add_store_anywhere(parser, (add, role, disable, password, listing))
    for act in (add, role, disable, password):
        act.add_argument("name", metavar="NAME", help="2 to 63 of a-z, 0-9, '.', '_' and '-'")
    token = acts.add_parser("token", help="a new token for a program; needs no store and changes none")
    token.add_argument("name", metavar="NAME", help="as the audit trail shall call it")
    token.add_argument("grant", metavar="GRANT", help="operator, er_clinician@H1, integration:SCOPE,SCOPE@H1, ...")
    for act in (add, role):
        act.add_argument("--role", required=True, metavar="ROLE", help="er_clinician, operator, auditor, ...")
        act.add_argument("--hospital", default="", metavar="ID", help="whose patients an er_clinician sees")
    for act in (add, password):
        act.add_argument("--password-file", type=Path, metavar="FILE", help="its first line; default: asks")
    add.add_argument("--title", default="", help="how screens call the person; default: NAME")


def run(arguments: argparse.Namespace) -> int:
    """Prints what was done. Whatever changes an account is in the audit log as the command line's act."""
    if arguments.act == "token":
        return _token(arguments.name, arguments.grant)
    from cloud.app import store_location
    from cloud.config import read

    check_named(arguments)
    if arguments.store is not None:
        check_is_there(arguments.store)
    with opened_store(arguments.store or store_location(read(arguments.config))) as database:
        return _list(database) if arguments.act == "list" else _change(database, arguments)


def _token(name: str, grant: str) -> int:
    """Prints a token, which is kept nowhere, and the line by which a cloud knows it."""
    from cloud.api.tokens import parse_grant

    _check_name(name)
    try:
        parse_grant(name, grant)
    except ValueError as error:
        raise UsageError(f"GRANT: {error}") from None
    token = secrets.token_urlsafe(32)
    print(f"token, shown this once: {token}")
    print(f"line for tokens_file: {name} {grant} {hashlib.sha256(token.encode()).hexdigest()}")
    return 0


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name: 2 to 63 of a-z, 0-9, '.', '_' and '-'")


def _list(database: Database) -> int:
    from cloud.store import accounts

    for account in database.read_now(accounts.every):
        state = "disabled" if account.is_disabled else "active"
        print(f"{account.name}\t{account.role}\t{account.hospital or '-'}\t{state}\t{account.issuer or 'local'}")
    return 0


def _change(database: Database, arguments: argparse.Namespace) -> int:
    """Does one act, then writes it down: an act without a trail is told, not hidden."""
    from cloud.api.audit import Audit
    from wire.clock import SystemClock

    clock = SystemClock()
    now_us = clock.now_us()
    {"add": _add, "role": _role, "disable": _disable, "password": _password}[arguments.act](database, arguments, now_us)
    who = f"uid {os.getuid()}"
    written = Audit(database, clock).write(who, "", f"account {arguments.act}", arguments.name, "command line", "done")
    asyncio.run(written)
    print(f"{arguments.name}: {arguments.act} done")
    return 0


def _add(database: Database, arguments: argparse.Namespace, now_us: int) -> None:
    from cloud.passwords import hash_password
    from cloud.store import accounts

    _check_name(arguments.name)
    _check_role(arguments)
    if database.read_now(lambda connection: accounts.find(connection, arguments.name)):
        raise UsageError(f"{arguments.name}: there is such an account")
    made = accounts.Account(
        name=arguments.name,
        issuer="",
        subject=arguments.name,
        title=arguments.title[:100] or arguments.name,
        role=arguments.role,
        hospital=arguments.hospital,
        password_hash=hash_password(_chosen(arguments)),
        is_disabled=0,
        made_us=now_us,
        changed_us=now_us,
    )
    if not database.transaction(lambda connection: accounts.add(connection, made)):
        raise UsageError(f"{arguments.name}: there is such an account")


def _role(database: Database, arguments: argparse.Namespace, now_us: int) -> None:
    _check_role(arguments)
    account = _known(database, arguments.name)
    if account.issuer:
        raise UsageError(f"{arguments.name}: role and hospital come from {account.issuer} at every sign-in")
    _set(database, arguments.name, now_us, role=arguments.role, hospital=arguments.hospital)


def _disable(database: Database, arguments: argparse.Namespace, now_us: int) -> None:
    _set(database, arguments.name, now_us, is_disabled=1)


def _password(database: Database, arguments: argparse.Namespace, now_us: int) -> None:
    from cloud.passwords import hash_password

    if _known(database, arguments.name).issuer:
        raise UsageError(f"{arguments.name}: signs in elsewhere and has no password here")
    _set(database, arguments.name, now_us, password_hash=hash_password(_chosen(arguments)), is_disabled=0)


def _known(database: Database, name: str) -> Account:
    from cloud.store import accounts

    account = database.read_now(lambda connection: accounts.find(connection, name))
    if account is None:
        raise UsageError(f"{name}: no such account")
    return account


def _set(database: Database, name: str, now_us: int, **columns: str | int) -> None:
    from cloud.store import accounts

    if not database.transaction(lambda connection: accounts.change(connection, name, now_us, **columns)):
        raise UsageError(f"{name}: no such account")


def _check_role(arguments: argparse.Namespace) -> None:
    from cloud.api.permissions import HOSPITAL_ROLES, INTEGRATION, ROLES

    people = [role for role in ROLES if role != INTEGRATION]
    if arguments.role not in people:
        raise UsageError(f"--role {arguments.role}: allowed: {', '.join(people)}")
    if arguments.role in HOSPITAL_ROLES and not _HOSPITAL.fullmatch(arguments.hospital):
        raise UsageError(f"--role {arguments.role} needs --hospital ID, 1 to 63 of letters, digits, '.', '_' and '-'")
    if arguments.role not in HOSPITAL_ROLES and arguments.hospital:
        raise UsageError(f"--role {arguments.role} sees no hospital's patients: leave --hospital out")


def _chosen(arguments: argparse.Namespace) -> str:
    """The password, from its file or asked for twice. Raises UsageError."""
    from cloud.passwords import WeakPassword, check_choice

    file: Path | None = arguments.password_file
    if file is not None:
        try:
            password = (file.read_text(encoding="utf-8").splitlines() or [""])[0]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--password-file {file}: {error}") from None
    elif sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise UsageError("the two are not the same")
    else:
        raise UsageError("no terminal to ask for the password on: use --password-file")
    try:
        check_choice(password, arguments.name)
    except WeakPassword as error:
        raise UsageError(str(error)) from None
    return password
