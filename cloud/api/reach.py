"""Which patients somebody may see: the one place that every route and the live feed ask.

A hospital sees what is routed to it until the session closes; break-glass opens one session for one person for a while;
what is routed nowhere is seen as the site's configuration says. For a query the rule is cloud.store.routed.condition.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from cloud.access_config import AccessConfig, AccessMode, Unrouted
from cloud.api.permissions import EVERY_HOSPITAL, HOSPITAL_ROLES, Principal
from cloud.store import accounts, break_glass, routed
from cloud.store.break_glass import Grant
from cloud.store.database import Database
from cloud.store.routed import Routing, Seen
from wire.clock import MICROSECONDS, Clock

# Routes of sessions that have closed since are let go of when there are so many: 2 MB.
_MOST_ROUTES = 10_000
_MINUTE_US = 60 * MICROSECONDS


class UnknownHospital(ValueError):
    """Nobody is at this hospital: what is routed there would be seen by nobody."""


class Reach:
    """The rule, with what it needs of open sessions in memory: the feed asks it for every frame and screen."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        config: AccessConfig,
        of_tokens: frozenset[str] = frozenset(),
        of_screens: frozenset[str] = frozenset(),
    ) -> None:
        """`of_tokens`: the hospitals that tokens are at; `of_screens`: those whose token is a screen's, if any are."""
        self._database, self._clock, self._config = database, clock, config
        self._always_named = config.named_hospitals | of_tokens
        self._of_screens = of_screens
        self._routes: dict[str, frozenset[str]] = {}
        self._grants: dict[tuple[str, str], int] = {}
        self._watching: dict[asyncio.Event, Principal] = {}

    async def load(self) -> None:
        """Reads what stands. Raises StoreUnavailable."""
        now_us = self._clock.now_us()
        self._routes = await self._database.read(routed.open_routes)
        grants = await self._database.read(lambda connection: break_glass.active(connection, now_us))
        self._grants = {(grant.account, grant.session_id): grant.expires_us for grant in grants}

    @property
    def break_glass_minutes(self) -> int:
        """How long a grant lasts."""
        return self._config.break_glass_minutes

    def grants_of(self, principal: Principal) -> dict[str, int]:
        """What stands open for a person by break-glass: session id -> when it ends, µs UTC."""
        if not principal.is_person:
            return {}
        now_us = self._clock.now_us()
        mine = {key: end for key, end in self._grants.items() if key[0] == principal.name and end > now_us}
        return {session_id: end for (_, session_id), end in mine.items()}

    def seen_by(self, principal: Principal) -> Seen | None:
        """The view of a principal for queries; None sees every hospital's."""
        if principal.hospital == EVERY_HOSPITAL:
            return None
        is_unrouted_seen = self._config.unrouted is Unrouted.ALL_HOSPITALS
        account = principal.name if principal.is_person else ""
        return Seen(account, principal.hospital, self._clock.now_us(), is_unrouted_seen)

    async def may_see(self, principal: Principal, session_id: str) -> bool:
        """Whether one stored session may be seen, open or closed."""
        seen = self.seen_by(principal)
        if seen is None:
            return True
        return await self._database.read(lambda connection: routed.may_see(connection, seen, session_id))

    def live_view(self, principal: Principal) -> Callable[[str], bool]:
        """Whether an open session may be seen, asked again for every frame."""
        if principal.hospital == EVERY_HOSPITAL:
            return lambda session_id: True
        is_unrouted_seen = self._config.unrouted is Unrouted.ALL_HOSPITALS

        def sees(session_id: str) -> bool:
            hospitals = self.hospitals_of(session_id)
            if principal.hospital in hospitals if hospitals else is_unrouted_seen:
                return True
            if not principal.is_person:
                return False
            return self._grants.get((principal.name, session_id), 0) > self._clock.now_us()

        return sees

    async def named_hospitals(self) -> frozenset[str]:
        """Every hospital that an account, a token or the configuration names. Raises StoreUnavailable."""
        return self._always_named | await self._of_accounts() - {""}

    async def watched_hospitals(self) -> frozenset[str]:
        """The hospitals whose patients some person can see; a name in the configuration, or a machine, is nobody.

        Empty stands for people at no hospital. Raises StoreUnavailable.
        """
        match self._config.mode:
            case AccessMode.TOKEN:
                return self._of_screens
            case AccessMode.ACCOUNTS:
                return self._of_provider() | await self._of_accounts()
            case AccessMode.DEMO:
                return frozenset()  # where everybody sees everything

    def _of_provider(self) -> frozenset[str]:
        """Whoever comes from the provider has no account before the first time."""
        oidc = self._config.oidc
        if oidc is None or not HOSPITAL_ROLES & frozenset(oidc.roles.values()):
            return frozenset()
        return frozenset(oidc.hospitals.values())

    async def _of_accounts(self) -> frozenset[str]:
        return await self._database.read(lambda connection: accounts.hospitals(connection, HOSPITAL_ROLES))

    def hospitals_of(self, session_id: str) -> frozenset[str]:
        """Where an open session is routed to now."""
        return self._routes.get(session_id, frozenset())

    def is_seen(self, session_id: str, watched: frozenset[str]) -> bool:
        """Whether anybody at these hospitals sees an open session."""
        if self._config.mode is AccessMode.DEMO:
            return True
        if hospitals := self.hospitals_of(session_id):
            return bool(hospitals & watched)
        return self._config.unrouted is Unrouted.ALL_HOSPITALS and bool(watched)

    @contextmanager
    def watching(self, principal: Principal) -> Iterator[Callable[[], Awaitable[None]]]:
        """What it gives returns once the principal may see other open sessions than when this was entered."""
        changed = asyncio.Event()
        self._watching[changed] = principal
        try:
            yield lambda: self._until(changed, principal)
        finally:
            del self._watching[changed]

    async def _until(self, changed: asyncio.Event, principal: Principal) -> None:
        now_us = self._clock.now_us()
        ends = [end for (account, _), end in self._grants.items() if account == principal.name and end > now_us]
        try:
            async with asyncio.timeout((min(ends) - now_us) / MICROSECONDS if ends else None):
                await changed.wait()
        except TimeoutError:
            return  # what was opened for a while is closed again

    async def route(self, session_id: str, hospital: str, *, is_routed: bool, routed_by: str) -> None:
        """Routes a session to a hospital, or no longer; open screens follow at once.

        Raises UnknownHospital, StoreUnavailable.
        """
        if is_routed and hospital not in (named := await self.named_hospitals()):
            known = ", ".join(sorted(named)) or "none"
            raise UnknownHospital(
                f"hospital: {hospital!r} is named by no account, token or [access] hospitals; named are: {known}"
            )
        routing = Routing(session_id, hospital, int(is_routed), self._clock.now_us(), routed_by)
        await self._database.write(lambda connection: routed.append(connection, routing))
        before = self.hospitals_of(session_id)
        after = before - {hospital} | ({hospital} if is_routed else frozenset())
        self._routes[session_id] = after
        if bool(before) != bool(after):  # it is no longer everybody's, or is again
            self._tell(lambda principal: principal.hospital != EVERY_HOSPITAL)
        elif before != after:
            self._tell(lambda principal: principal.hospital == hospital)
        if len(self._routes) > _MOST_ROUTES:
            self._routes = await self._database.read(routed.open_routes)

    async def history(self, session_id: str, most: int) -> list[Routing]:
        """How a session was routed, newest first."""
        return await self._database.read(lambda connection: routed.history(connection, session_id, most))

    async def break_glass(self, principal: Principal, session_id: str, reason: str) -> Grant:
        """Opens one session for one person for a while. Raises StoreUnavailable."""
        now_us = self._clock.now_us()
        expires_us = now_us + self._config.break_glass_minutes * _MINUTE_US
        grant_id = secrets.token_hex(16)
        grant = Grant(grant_id, principal.name, principal.hospital, session_id, reason, now_us, expires_us)
        await self._database.write(lambda connection: break_glass.add(connection, grant))
        self._grants = {key: end for key, end in self._grants.items() if end > now_us}
        self._grants[(principal.name, session_id)] = expires_us
        self._tell(lambda watching: watching.name == principal.name)
        return grant

    def _tell(self, whom: Callable[[Principal], bool]) -> None:
        for changed, principal in self._watching.items():
            if whom(principal):
                changed.set()
