"""Sign-in by an identity provider: OpenID Connect, authorization code with PKCE, state and nonce."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections import OrderedDict
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from cloud.access_config import OidcConfig, is_safe_url
from cloud.oidc_claims import OidcRefused, Person, read_person, verify
from cloud.sign_in_limits import network_of
from wire.clock import MICROSECONDS, Clock
from wire.configuration import ConfigError

T = TypeVar("T")

_TIMEOUT_S = 10.0
# All of one request: a provider that sends a byte now and then must not keep a browser waiting for ever.
_TOTAL_S = 15.0
# Keys and metadata are some KB.
_MOST_BYTES = 1 << 20
# Long enough to find a second factor in a pocket.
PENDING_S = 600
# 2 KB each at most. A source has half, so that no other's are pushed out; its own last 50 s even at the 200 requests a
# second that the rim lets through. Full policy: the oldest of the source that has most goes, and begins again.
_MOST_PENDING = 20_000
_METADATA_US = 3600 * MICROSECONDS
# A key we do not know may be new; a stranger who makes up key names must not make us ask each time.
_KEYS_AGAIN_US = 60 * MICROSECONDS


class OidcUnavailable(Exception):
    """The provider does not answer as it should: try again."""


class _Metadata(msgspec.Struct, frozen=True):
    """Of OpenID Connect Discovery, what we use."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str


class _Tokens(msgspec.Struct, frozen=True):
    """Of the token response: the access token is never used and never kept."""

    id_token: str


class _Pending(NamedTuple):
    """A browser that is at the provider."""

    browser: str
    nonce: str
    verifier: str
    next: str
    began_us: int
    source: str


class Departure(NamedTuple):
    """Where to send a browser, and the secret that it alone is to bring back."""

    url: str
    browser: str


class Arrival(NamedTuple):
    """Who came back, and where they wanted to go."""

    person: Person
    next: str


class OidcProvider:
    """One configured provider. Made before anything is served: its client reads every trusted certificate, 0.1 s."""

    def __init__(self, config: OidcConfig, redirect_url: str, secret: str, clock: Clock) -> None:
        self.config, self._redirect_url, self._secret, self._clock = config, redirect_url, secret, clock
        self._pending: dict[str, _Pending] = {}
        # Source -> the states it began, oldest first.
        self._begun: dict[str, OrderedDict[str, None]] = {}
        self._discovering, self._discoveries = asyncio.Lock(), 0
        self._metadata: tuple[int, _Metadata] | None = None
        self._keys: tuple[int, KeySet] | None = None
        # A connection is not kept: the provider may have ended it when the next person comes. Nor is a cookie, which
        # would travel with somebody else's code.
        self._client = httpx.AsyncClient(
            timeout=_TIMEOUT_S,
            limits=httpx.Limits(max_keepalive_connections=0),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    async def __aenter__(self) -> OidcProvider:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def depart(self, next_path: str, source: str) -> Departure:
        """Begins a sign-in. Raises OidcUnavailable."""
        metadata = await self._discover()
        state, browser, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(4))
        began_us, source = self._clock.monotonic_us(), network_of(source)
        self._keep(state, _Pending(browser, nonce, verifier, next_path[:1000], began_us, source))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self.config.client_id,
            "redirect_uri": self._redirect_url,
            "scope": self.config.scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        joint = "&" if urlsplit(metadata.authorization_endpoint).query else "?"
        return Departure(metadata.authorization_endpoint + joint + urlencode(query), browser)

    async def arrive(self, state: str, code: str, browser: str, issuer: str = "") -> Arrival:
        """Ends what `depart` began in the same browser, once. Raises OidcRefused, OidcUnavailable."""
        pending = self._take(state)
        if pending is None or self._clock.monotonic_us() - pending.began_us > PENDING_S * MICROSECONDS:
            raise OidcRefused("no such sign-in was begun, or too long ago")
        if not hmac.compare_digest(pending.browser.encode(), browser.encode(errors="replace")):
            raise OidcRefused("begun in another browser")
        if issuer and issuer != self.config.issuer:
            raise OidcRefused("the answer comes from another provider")  # RFC 9207
        if not code:
            raise OidcRefused("the provider says no")
        id_token = await self._redeem(code, pending.verifier)
        claims = await self._verified(id_token, pending.nonce)
        return Arrival(read_person(claims, self.config), pending.next)

    def _keep(self, state: str, pending: _Pending) -> None:
        self._pending[state] = pending
        mine = self._begun.setdefault(pending.source, OrderedDict())
        mine[state] = None
        if len(mine) > _MOST_PENDING // 2:
            self._take(next(iter(mine)))
        elif len(self._pending) > _MOST_PENDING:
            greediest = max(self._begun.values(), key=len)
            self._take(next(iter(greediest)))

    def _take(self, state: str) -> _Pending | None:
        pending = self._pending.pop(state, None)
        if pending is not None:
            mine = self._begun[pending.source]
            del mine[state]
            if not mine:
                del self._begun[pending.source]
        return pending

    async def _verified(self, id_token: str, nonce: str) -> dict[str, Any]:
        now_s = self._clock.now_us() // MICROSECONDS
        known = self._keys
        try:
            return dict(verify(id_token, await self._fetch_keys(again=False), self.config, nonce, now_s))
        except OidcRefused:
            fresh = await self._fetch_keys(again=True)
            if known is None or fresh is known[1]:
                raise
        return dict(verify(id_token, fresh, self.config, nonce, now_s))

    async def _redeem(self, code: str, verifier: str) -> str:
        """The ID token for a code. Raises OidcRefused, OidcUnavailable."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_url,
            "code_verifier": verifier,
        }
        metadata = await self._discover()
        auth = httpx.BasicAuth(self.config.client_id, self._secret)
        status, body = await self._ask("POST", metadata.token_endpoint, form=form, auth=auth)
        if 400 <= status < 500:
            raise OidcRefused(f"the provider does not take the code: {status}")
        return _read(status, body, _Tokens).id_token

    async def _ask(
        self, method: str, url: str, *, form: dict[str, str] | None = None, auth: httpx.BasicAuth | None = None
    ) -> tuple[int, bytes]:
        """Status and bounded body; no redirect is followed. Raises OidcUnavailable."""
        body = bytearray()
        headers = {"Accept": "application/json"}
        try:
            async with (
                asyncio.timeout(_TOTAL_S),
                self._client.stream(method, url, data=form, auth=auth, headers=headers) as response,
            ):
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > _MOST_BYTES:
                        raise OidcUnavailable(f"{url} answers with more than {_MOST_BYTES} bytes")
                return response.status_code, bytes(body)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise OidcUnavailable(f"{url}: {type(error).__name__}") from None

    async def _discover(self) -> _Metadata:
        asked = self._discoveries
        async with self._discovering:  # however many begin at once, the provider is asked once
            now_us = self._clock.monotonic_us()
            if self._metadata is not None and now_us - self._metadata[0] < _METADATA_US:
                return self._metadata[1]
            if self._discoveries != asked:
                raise OidcUnavailable("it did not answer who asked just before")
            self._discoveries += 1
            metadata = await self._ask_metadata()
            self._metadata = now_us, metadata
            return metadata

    async def _ask_metadata(self) -> _Metadata:
        url = self.config.issuer.rstrip("/") + "/.well-known/openid-configuration"
        metadata = _read(*await self._ask("GET", url), _Metadata)
        if metadata.issuer != self.config.issuer:
            raise OidcUnavailable(f"{url} speaks for {metadata.issuer!r}")
        if not all(map(is_safe_url, (metadata.authorization_endpoint, metadata.token_endpoint, metadata.jwks_uri))):
            raise OidcUnavailable(f"{url} names an address without TLS")
        return metadata

    async def _fetch_keys(self, *, again: bool) -> KeySet:
        now_us = self._clock.monotonic_us()
        if self._keys is not None and (not again or now_us - self._keys[0] < _KEYS_AGAIN_US):
            return self._keys[1]
        status, body = await self._ask("GET", (await self._discover()).jwks_uri)
        try:
            keys = KeySet.import_key_set(_read(status, body, dict))  # type: ignore[arg-type] # what it is not, it refuses
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise OidcUnavailable(f"the provider's keys cannot be read: {error}") from None
        self._keys = now_us, keys
        return keys


def open_provider(config: OidcConfig, public_url: str, clock: Clock) -> OidcProvider:
    """The provider, with the secret from its file. Raises ConfigError."""
    try:
        secret = Path(config.client_secret_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"access.oidc.client_secret_file: {config.client_secret_file}: {error}") from None
    return OidcProvider(config, f"{public_url.rstrip('/')}/api/v1/oidc/callback", secret, clock)


def _read(status: int, body: bytes, kind: type[T]) -> T:
    """The body of a good answer. Raises OidcUnavailable."""
    if status != 200:
        raise OidcUnavailable(f"the provider answers {status}")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise OidcUnavailable(f"the provider's answer cannot be read: {error}") from None
