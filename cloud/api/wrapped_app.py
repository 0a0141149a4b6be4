"""An application with a layer around everything, also around the middleware that answers to an error of ours."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from starlette.types import ASGIApp


class WrappedApp(FastAPI):
    """Without the pages that FastAPI adds."""

    def __init__(self, title: str, wrap: Callable[[ASGIApp], ASGIApp]) -> None:
        super().__init__(title=title, openapi_url=None, docs_url=None, redoc_url=None)
        self._wrap = wrap

    def build_middleware_stack(self) -> ASGIApp:
        """As FastAPI's, wrapped."""
        return self._wrap(super().build_middleware_stack())
