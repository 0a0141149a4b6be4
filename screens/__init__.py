"""The web assets every screen shares and the screens themselves: static files, no build step, no server code."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent
"""Folder a server mounts at `/screens/`; `er/index.html` in it is the answer to `GET /er`."""
