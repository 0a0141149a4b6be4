"""Names on the bus. A gateway is known by the topic the broker lets it write, never by what a payload says."""

from __future__ import annotations

import re

from wire.messages import Lane

VERSION = "vw/1"
# A space closes the connection, a dot or wildcard would reach other subjects (DEPENDENCIES.md).
GATEWAY_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def check_gateway_id(gateway: str) -> str:
    """The id itself, or ValueError naming what is allowed."""
    if not GATEWAY_ID.fullmatch(gateway):
        raise ValueError(f"gateway {gateway!r}: 1 to 63 of a-z, 0-9 and '-', starting with a letter or digit")
    return gateway


def up(gateway: str, lane: Lane) -> str:
    """Where a gateway publishes its batches."""
    return f"{VERSION}/{check_gateway_id(gateway)}/up/{lane.value}"


def receipts(gateway: str) -> str:
    """Where the cloud tells a gateway what is committed."""
    return f"{VERSION}/{check_gateway_id(gateway)}/down/receipts"


def commands(gateway: str) -> str:
    """Where the cloud sends a gateway its commands."""
    return f"{VERSION}/{check_gateway_id(gateway)}/down/commands"


def status(gateway: str) -> str:
    """Where a gateway's presence is retained."""
    return f"{VERSION}/{check_gateway_id(gateway)}/status"


def subject(topic: str) -> str:
    """An MQTT topic as the NATS subject it becomes."""
    return topic.replace("/", ".")


def gateway_of(subject_or_topic: str) -> str:
    """The gateway a subject or topic belongs to. Raises ValueError."""
    parts = subject_or_topic.replace(".", "/").split("/")
    if len(parts) < 4 or "/".join(parts[:2]) != VERSION:
        raise ValueError(f"{subject_or_topic!r} is not a topic of {VERSION}")
    return check_gateway_id(parts[2])
