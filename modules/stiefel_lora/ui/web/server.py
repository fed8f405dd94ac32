"""Server of the browser interface."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from ..controllers.memory import home
from .context import WebContext

# Read by NiceGUI when it is imported.
os.environ.setdefault("NICEGUI_STORAGE_PATH", str(home() / "web-storage"))

from fastapi import FastAPI
from nicegui import ui

from .pages import register_all

__all__ = ["build_app", "run"]

Lifespan = Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]

_TICK_SECONDS = 0.5
# Seconds for which a browser that lost its connection finds its page as it was.
_RECONNECT_SECONDS = 10.0
_MOST_MESSAGES = 200


def build_app(context: WebContext) -> ASGIApp:
    """Create the application with all pages. Possible once per process.

    Args:
        context: settings, queue and folders of the server.
    """
    outer = FastAPI(
        lifespan=_lifespan(context), docs_url=None, redoc_url=None, openapi_url=None
    )
    register_all(context)
    ui.run_with(
        outer,
        title="Stiefel LoRA",
        dark=None,
        reconnect_timeout=_RECONNECT_SECONDS,
        message_history_length=_MOST_MESSAGES,
        show_welcome_message=False,
    )
    return outer


def run(config: Path | None, *, host: str, port: int) -> None:
    """Serve until interrupted."""
    context = WebContext(runs=[Path("runs")])
    context.restore()
    if config is not None:
        context.load_settings(config)
    app = build_app(context)
    uvicorn.run(app, host=host, port=port, log_level="warning", ws="wsproto")


def _lifespan(context: WebContext) -> Lifespan:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(_work(context))
        try:
            yield
        finally:
            task.cancel()
            context.save()

    return lifespan


async def _work(context: WebContext) -> None:
    """Read runs and save the state, until cancelled."""
    while True:
        behind = context.runs.read_on()
        context.save()
        await asyncio.sleep(0.02 if behind else _TICK_SECONDS)
