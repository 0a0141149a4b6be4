"""Ask a box to do something, through the cloud: offer its data again, or run with another configuration.

`vitalwire command GATEWAY replay [--lane LANE]`, `vitalwire command GATEWAY configure FILE`
"""

from __future__ import annotations

import argparse
import time
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitalwire.command import UsageError
from wire.messages import Lane

if TYPE_CHECKING:
    import httpx

_TIMEOUT_S = 10.0
_LOOK_AGAIN_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which box, what to do, by which cloud."""
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the cloud's address")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="the token of an operator; a demo needs none")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="wait so long for the box's answer")
    parser.add_argument("--expires", type=float, default=86400, metavar="SECONDS", help="not to be done after that")
    parser.add_argument("gateway", metavar="GATEWAY", help="as the cloud's configuration names it")
    orders = parser.add_subparsers(dest="order", required=True, metavar="replay|configure")
    replay = orders.add_parser("replay", help="offer again everything the box still holds")
    replay.add_argument("--lane", choices=[lane.value for lane in Lane], help="only this lane")
    configure = orders.add_parser(
        "configure", help="run with FILE; rolled back by itself when the uplink does not return"
    )
    configure.add_argument("file", type=Path, metavar="FILE")
    configure.add_argument("--deadline", type=float, default=120, metavar="SECONDS", help="for the uplink to return")
    configure.add_argument("--version", default="", help="your name for it; default: the file's name")


def run(arguments: argparse.Namespace) -> int:
    """Prints the command's id and state; with --wait exit 1 unless the box has done it by then."""
    import httpx

    order = _order(arguments)
    headers = {}
    if arguments.token_file is not None:
        try:
            headers["Authorization"] = f"Bearer {arguments.token_file.read_text(encoding='utf-8').strip()}"
        except OSError as error:
            raise UsageError(f"--token-file {arguments.token_file}: {error.strerror}") from None
    path = f"/api/v1/gateways/{arguments.gateway}/commands"
    try:
        with httpx.Client(base_url=arguments.url, headers=headers, timeout=_TIMEOUT_S) as client:
            answer = client.post(path, json={"order": order, "expires_s": arguments.expires})
            if answer.status_code in (401, 403) and not headers:
                raise UsageError(
                    "the cloud does not know who asks: give --token-file FILE with the token of an operator, as "
                    "`vitalwire account token NAME operator` makes one"
                )
            command = _asked(answer)
            deadline = time.monotonic() + arguments.wait
            while command["state"] == "pending" and time.monotonic() < deadline:
                time.sleep(_LOOK_AGAIN_S)
                with suppress(httpx.TransportError):  # issued is issued: a cloud that restarts goes on with it
                    command = _asked(client.get(f"{path}/{command['command_id']}"))
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise UsageError(f"--url {arguments.url}: no cloud answers there: {error}") from None
    print(f"{command['command_id']} {command['state']} {command['detail']}".rstrip())
    return 1 if arguments.wait and command["state"] != "done" else 0


def _order(arguments: argparse.Namespace) -> dict[str, Any]:
    """The order as the API takes it; Any: JSON."""
    if arguments.order == "replay":
        return {"kind": "replay", "lane": arguments.lane}
    file: Path = arguments.file
    try:
        text = file.read_text(encoding="utf-8")
        named = tomllib.loads(text).get("gateway")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{file}: not TOML: {error}") from None
    # The rest is checked by the box: only there are its files, ports and drivers.
    if named != arguments.gateway:
        raise UsageError(f"{file}: gateway: {named!r} is not {arguments.gateway!r}, and no command can rename a box")
    version = arguments.version or file.name
    return {"kind": "apply_configuration", "toml": text, "version": version, "deadline_s": arguments.deadline}


def _asked(response: httpx.Response) -> dict[str, Any]:
    """The command in an answer. Raises UsageError with the cloud's reason."""
    if response.is_success:
        return dict(response.json()["command"])
    try:
        reason = str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        reason = response.reason_phrase
    raise UsageError(f"the cloud refuses ({response.status_code}): {reason}")
