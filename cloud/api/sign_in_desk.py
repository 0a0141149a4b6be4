"""Signs people in by their password: limited, in bounded work, with one answer for every way of being wrong."""

from __future__ import annotations

import hashlib

from cloud.access_config import AccessMode
from cloud.api.audit import Audit
from cloud.api.strangers import Strangers
from cloud.counters import Counters
from cloud.devices import Devices
from cloud.oidc import OidcProvider
from cloud.oidc_claims import OidcRefused, Person
from cloud.passwords import PasswordDesk, TooBusy
from cloud.sign_in_limits import SignInLimits
from cloud.sign_ins import SignIns
from cloud.store import accounts
from cloud.store.accounts import Account
from cloud.store.database import Database
from wire.clock import Clock

# What an unknown name is called in the audit log: people type passwords into the field for names.
_UNKNOWN = "(unknown)"


class WrongNameOrPassword(Exception):
    """Said of an unknown name, a wrong password and a disabled account alike."""


class TryLater(Exception):
    """Too many attempts."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many attempts; try again in {seconds} s")
        self.seconds = seconds


class SignInDesk:
    """The only way from a password to a sign-in."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        counters: Counters,
        audit: Audit,
        strangers: Strangers,
        sign_ins: SignIns,
        passwords: PasswordDesk,
        devices: Devices,
        mode: AccessMode,
        provider: OidcProvider | None = None,
    ) -> None:
        self._database, self._counters, self._audit, self._sign_ins = database, counters, audit, sign_ins
        self._passwords, self._limits, self._clock = passwords, SignInLimits(clock), clock
        self._strangers, self.devices = strangers, devices
        self.provider = provider
        self.is_open = mode is AccessMode.ACCOUNTS

    async def by_password(self, name: str, password: str, source: str, device: str = "") -> str:
        """What the browser is to hold; `device` is the cookie that it got when somebody signed in before.

        Raises WrongNameOrPassword, TryLater, StoreUnavailable.
        """
        if not self.is_open:
            raise WrongNameOrPassword
        browser = self.devices.find(device, name)
        if wait := self._limits.take(name, source, browser):
            self._counters.add("sign_ins_limited")
            if wait.is_first:  # a million of them are a million counts and one row for each wait
                await self._audit.write(_UNKNOWN, "", "sign in", "", source, "limited")
            raise TryLater(wait.seconds)
        account = await self._database.read(lambda connection: accounts.find(connection, name))
        if not await self._is_right(account, password, name, source, browser):
            self._counters.add("sign_ins_refused")
            who, role = (account.name, account.role) if account else (_UNKNOWN, "")
            await self._audit.write(who, role, "sign in", "", source, "refused")
            raise WrongNameOrPassword
        assert account is not None
        self._limits.give_back(name, source, browser, succeeded=True)
        self._counters.add("sign_ins")
        await self._audit.write(account.name, account.role, "sign in", "", source, "allowed")
        return await self._sign_ins.begin(account, source)

    async def by_provider(self, person: Person, source: str) -> str:
        """What the browser of somebody the provider vouches for is to hold. Raises OidcRefused, StoreUnavailable."""
        assert self.provider is not None
        issuer, now_us = self.provider.config.issuer, self._clock.now_us()
        # A subject may be a mail address or a staff number: the audit log needs neither.
        name = f"oidc:{hashlib.sha256(f'{issuer} {person.subject}'.encode()).hexdigest()[:16]}"
        said = Account(
            name=name,
            issuer=issuer,
            subject=person.subject,
            title=person.title or name,
            role=person.role,
            hospital=person.hospital,
            password_hash="",
            is_disabled=0,
            made_us=now_us,
            changed_us=now_us,
        )
        account = await self._database.write(lambda one: accounts.vouched(one, said))
        if account.is_disabled:
            raise OidcRefused("the account is disabled")
        self._counters.add("sign_ins")
        await self._audit.write(account.name, account.role, "sign in by provider", "", source, "allowed")
        return await self._sign_ins.begin(account, source)

    async def provider_refused(self, source: str) -> None:
        """Somebody came back from the provider, or pretended to, and is not let in."""
        self._counters.add("sign_ins_refused")
        await self._strangers.write("sign in by provider", "", source, "refused", principal=_UNKNOWN)

    async def _is_right(self, account: Account | None, password: str, name: str, source: str, browser: str) -> bool:
        """The same work whoever was named."""
        password_hash = account.password_hash if account else ""
        try:
            verdict = await self._passwords.verify(password_hash, password)
        except TooBusy:
            self._counters.add("sign_ins_too_busy")
            self._limits.give_back(name, source, browser, succeeded=False)
            raise TryLater(1) from None
        if account is None or account.is_disabled or not verdict.is_right:
            return False
        if verdict.new_hash:
            await self._database.write(
                lambda one: accounts.rehash(one, account.name, account.password_hash, verdict.new_hash)
            )
        return True
