"""The web application and the server that runs it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from cloud.api import (
    break_glass_routes,
    command_routes,
    consent_routes,
    fleet,
    live,
    oidc_routes,
    reach_routes,
    routes,
    sign_in,
)
from cloud.api.audit import Audit
from cloud.api.auth import Access, Refused
from cloud.api.bodies import BadBody
from cloud.api.hasty import Doorway, HastyProtocol
from cloud.api.rates import Rates
from cloud.api.reach import Reach, UnknownHospital
from cloud.api.rim import MOST_HEADER_BYTES, BeyondLimit, Rim
from cloud.api.sign_in_desk import SignInDesk, TryLater, WrongNameOrPassword
from cloud.api.strangers import Strangers
from cloud.api.unseen import UnseenAlerts
from cloud.api.wrapped_app import WrappedApp
from cloud.commands import Commands, TooManyCommands, UnknownCommand
from cloud.config import ApiConfig, parse_address
from cloud.counters import Counters
from cloud.feed import Feed
from cloud.fleet import UnknownGateway
from cloud.store.database import Database, StoreUnavailable
from cloud.store.fleet import FleetReader
from cloud.store.reader import StoreReader, UnknownSession
from wire.clock import Clock

_STOP_S = 3
# Screens only listen; anything longer is not one of ours.
_WS_MAX_BYTES = 64 * 1024


def build_app(
    *,
    access: Access,
    desk: SignInDesk,
    reach: Reach,
    unseen: UnseenAlerts,
    database: Database,
    audit: Audit,
    strangers: Strangers,
    reader: StoreReader,
    fleet_reader: FleetReader,
    commands: Commands,
    feed: Feed,
    counters: Counters,
    clock: Clock,
    rates: Rates,
) -> FastAPI:
    """The application with what its routes use."""
    app = WrappedApp("vitalwire", lambda within: Rim(within, rates, audit, counters))
    app.state.access, app.state.desk, app.state.audit, app.state.reader = access, desk, audit, reader
    app.state.reach, app.state.database, app.state.unseen = reach, database, unseen
    app.state.strangers = strangers
    app.state.feed, app.state.counters, app.state.clock = feed, counters, clock
    app.state.fleet_reader, app.state.commands = fleet_reader, commands
    # Not include_router: its routes would hide from the test that looks for the permission of each.
    for routed in (
        sign_in,
        oidc_routes,
        routes,
        reach_routes,
        break_glass_routes,
        consent_routes,
        fleet,
        command_routes,
        live,
    ):
        app.router.routes += routed.router.routes
    app.add_exception_handler(Refused, _refuse)
    app.add_exception_handler(WrongNameOrPassword, _wrong)
    app.add_exception_handler(TryLater, _later)
    app.add_exception_handler(BadBody, _bad)
    app.add_exception_handler(UnknownHospital, _bad)
    app.add_exception_handler(BeyondLimit, _beyond)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(UnknownSession, _not_found)
    app.add_exception_handler(UnknownGateway, _no_gateway)
    app.add_exception_handler(UnknownCommand, _no_command)
    app.add_exception_handler(TooManyCommands, _wait)
    app.add_exception_handler(StoreUnavailable, _unavailable)
    return app


async def _refuse(_: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, Refused)
    response = JSONResponse({"error": error.reason}, status_code=error.status)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response  # to a WebSocket it is sent as the denial of its handshake


async def _wrong(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": "wrong name or password"}, status_code=401)


async def _later(_: Request, error: Exception) -> Response:
    assert isinstance(error, TryLater)
    return JSONResponse({"error": str(error)}, status_code=429, headers={"Retry-After": str(error.seconds)})


async def _bad(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=422)


async def _beyond(_: Request, error: Exception) -> Response:
    assert isinstance(error, BeyondLimit)
    return JSONResponse({"error": error.reason}, status_code=error.status, headers={"Connection": "close"})


async def _gone(_: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it; as an error of ours each would be a traceback


async def _not_found(_: Request, error: Exception) -> Response:
    # The message lists other sessions: for a person at the command line, not for a browser.
    return JSONResponse({"error": "no such session"}, status_code=404)


async def _no_gateway(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": "no such gateway"}, status_code=404)


async def _no_command(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error.args[0])}, status_code=404)


async def _wait(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=409)


async def _unavailable(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the store does not answer"}, status_code=503)


def _is_fault(record: logging.LogRecord) -> bool:
    """uvicorn 0.54 takes every denied WebSocket handshake for an application that forgot to answer."""
    return "returned without completing handshake" not in record.msg


logging.getLogger("uvicorn.error").addFilter(_is_fault)


class _Server(uvicorn.Server):
    """Leaves signals to the command: cancellation is the exit. Listens with a limit on TLS handshakes."""

    def __init__(self, config: uvicorn.Config, handshake_s: float) -> None:
        super().__init__(config)
        self._handshake_s = handshake_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's for sockets that are open; its own leaves half a handshake 60 s, before any other limit."""
        config, loop = self.config, asyncio.get_running_loop()

        def connection() -> asyncio.Protocol:
            shared = {"server_state": self.server_state, "app_state": self.lifespan.state}
            return config.http_protocol_class(config=config, **shared)  # type: ignore[call-arg]  # uvicorn's own way

        self.servers = [
            await loop.create_server(
                connection,
                sock=one,
                ssl=config.ssl,
                backlog=config.backlog,
                ssl_handshake_timeout=self._handshake_s if config.ssl else None,
            )
            for one in sockets or ()
        ]
        self.started = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ApiServer:
    """Listens at once when built, so that a port in use is told before anything starts; serves while running."""

    def __init__(self, app: FastAPI, config: ApiConfig, listener: socket.socket, doorway: Doorway) -> None:
        tls = config.tls
        self._listener, self._tls = listener, tls
        self._server = _Server(
            uvicorn.Config(
                app,
                http=cast(type[asyncio.Protocol], partial(HastyProtocol, doorway)),  # it is called, nothing more
                log_config=None,
                log_level="error",  # a malformed request is counted: as a line each they would fill the disk
                access_log=False,
                h11_max_incomplete_event_size=MOST_HEADER_BYTES,
                server_header=False,
                # Never by uvicorn's own default, which believes every process of this machine.
                proxy_headers=bool(config.trusted_proxies),
                forwarded_allow_ips=list(config.trusted_proxies),
                lifespan="off",
                ws="websockets-sansio",
                ws_max_size=_WS_MAX_BYTES,
                ws_per_message_deflate=False,  # waveforms are compressed already
                timeout_graceful_shutdown=_STOP_S,
                ssl_certfile=tls.cert_file if tls else None,
                ssl_keyfile=tls.key_file if tls else None,
                ssl_ca_certs=tls.ca_file or None if tls else None,
            ),
            doorway.head_s,
        )

    def reload_certificate(self) -> None:
        """New connections are shown what the certificate's file says now."""
        config, tls = self._server.config, self._tls
        if tls is not None and config.loaded and config.ssl is not None:  # before that it reads the file by itself
            config.ssl.load_cert_chain(tls.cert_file, tls.key_file)

    async def run(self) -> None:
        """Serves until cancelled, then lets open requests end."""
        serving = asyncio.ensure_future(self._server.serve(sockets=[self._listener]))
        try:
            await asyncio.shield(serving)
        finally:
            self._server.should_exit = True
            await asyncio.wait([serving], timeout=_STOP_S + 1)
            if not serving.done():
                serving.cancel()


def listen(config: ApiConfig, key: str = "api.listen") -> socket.socket:
    """A listening socket. Raises OSError naming the address."""
    address = parse_address(config.listen)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(512)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"{key} = {config.listen!r}: {error.strerror}") from error
    return listener
