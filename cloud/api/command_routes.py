"""The routes of commands to boxes: issue one, see what became of it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from msgspec import Meta

from cloud.api.auth import Requires
from cloud.api.bodies import read_body
from cloud.api.permissions import Permission, Principal
from cloud.api.routes import Json
from cloud.commands import Commands
from wire.commands import (
    MAX_CONFIGURATION_CHARACTERS,
    MAX_DEADLINE_S,
    MIN_DEADLINE_S,
    ApplyConfiguration,
    Order,
    Replay,
)
from wire.messages import Lane

router = APIRouter()

_MOST_COMMANDS = 200
# A configuration of 4-byte characters, each escaped by JSON as twelve.
_MOST_BODY_BYTES = 12 * MAX_CONFIGURATION_CHARACTERS + 4096
_DAY_S = 24 * 3600


class _Replay(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="replay", tag_field="kind"):
    """As wire.commands.Replay."""

    lane: Lane | None = None

    def order(self) -> Order:
        return Replay(self.lane)


class _Apply(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="apply_configuration", tag_field="kind"):
    """As wire.commands.ApplyConfiguration."""

    toml: Annotated[str, Meta(max_length=MAX_CONFIGURATION_CHARACTERS)]
    version: Annotated[str, Meta(max_length=100)] = ""
    deadline_s: Annotated[float, Meta(ge=MIN_DEADLINE_S, le=MAX_DEADLINE_S)] = 120.0

    def order(self) -> Order:
        return ApplyConfiguration(self.toml, self.version, self.deadline_s)


class _Issue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do, and for how long it is worth doing."""

    order: _Replay | _Apply
    expires_s: Annotated[float, Meta(ge=1, le=30 * _DAY_S)] = float(_DAY_S)


@router.post("/api/v1/gateways/{gateway_id}/commands")
async def issue_command(
    gateway_id: str,
    request: Request,
    principal: Annotated[Principal, Depends(Requires(Permission.COMMAND_GATEWAYS, "issue command"))],
) -> Response:
    """Stores a command and answers with it, pending; the box's answer is seen by asking again."""
    issue = await read_body(request, _Issue, _MOST_BODY_BYTES)
    order = issue.order.order()
    command = await _commands(request).issue(gateway_id, order, lifetime_s=issue.expires_s, issued_by=principal.name)
    return Json({"command": command._asdict()}, status_code=202)


@router.get(
    "/api/v1/gateways/{gateway_id}/commands",
    dependencies=[Depends(Requires(Permission.COMMAND_GATEWAYS, "list commands"))],
)
async def list_commands(
    gateway_id: str, request: Request, most: Annotated[int, Query(ge=1, le=_MOST_COMMANDS)] = _MOST_COMMANDS
) -> Response:
    """Commands to a gateway, newest first."""
    found = await _commands(request).newest(gateway_id, most=most)
    return Json({"commands": [command._asdict() for command in found]})


@router.get(
    "/api/v1/gateways/{gateway_id}/commands/{command_id}",
    dependencies=[Depends(Requires(Permission.COMMAND_GATEWAYS, "view command"))],
)
async def view_command(gateway_id: str, command_id: str, request: Request) -> Response:
    """One command as it stands."""
    return Json({"command": (await _commands(request).find(gateway_id, command_id))._asdict()})


def _commands(request: Request) -> Commands:
    commands = request.app.state.commands
    assert isinstance(commands, Commands)
    return commands
