"""Server of the browser interface."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import webbrowser
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from ..._exceptions import StiefelLoraError
from ...config.custom_code import forbid_custom_code
from ..controllers.library import demo
from ..controllers.memory import home
from .access import Access
from .context import WebContext
from .missing_clients import without_clients
from .routes import file_routes
from .security import Guard
from .server_options import ServerOptions
from .uploading import Uploads

# Read by NiceGUI when it is imported. Nothing is stored, but the folder is searched.
os.environ.setdefault("NICEGUI_STORAGE_PATH", str(home() / "web-storage"))

with without_clients():
    from fastapi import FastAPI
    from nicegui import app as nicegui_app
    from nicegui import ui

from .pages import register_all

__all__ = ["build_app", "run"]

Lifespan = Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]

_TICK_SECONDS = 0.5
# Ticks between checks for dead jobs.
_SETTLE_EVERY = 10
# Seconds for which a browser that lost its connection finds its page as it was.
_RECONNECT_SECONDS = 10.0
_MOST_MESSAGES = 200
# Bytes of one message of a browser.
_MESSAGE_BYTES = 2 << 20
# The token of the first address is neither kept in the history nor shown.
_WITHOUT_TOKEN = """<script>
if (new URLSearchParams(location.search).has("token"))
  history.replaceState(null, "", location.pathname + location.hash);
</script>"""


def build_app(context: WebContext, access: Access) -> ASGIApp:
    """Create the application with all pages. Possible once per process.

    Args:
        context: settings, queue and folders of the server.
        access: rules of access.
    """
    uploads = Uploads(context.uploads)
    outer = FastAPI(
        lifespan=_lifespan(context, uploads),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    outer.router.routes.extend(file_routes(context, uploads))
    register_all(context)
    ui.add_head_html(_WITHOUT_TOKEN, shared=True)
    ui.run_with(
        outer,
        title="Stiefel LoRA",
        dark=None,
        reconnect_timeout=_RECONNECT_SECONDS,
        message_history_length=_MOST_MESSAGES,
        show_welcome_message=False,
    )
    return Guard(outer, access)


def run(
    config: Path | None,
    options: ServerOptions,
    access: Access,
    listener: socket.socket,
    announcement: str,
) -> None:
    """Serve until interrupted.

    Args:
        config: config file to open, or None for the settings of the last session.
        options: options of the server.
        access: rules of access.
        listener: socket that listens.
        announcement: text that is printed when pages can be opened.

    Raises:
        ConfigError: If the configuration is invalid.
        OutputError: If the queue folder is not writable.
    """
    context = make_context(config, options)
    app = build_app(context, access)

    async def announce() -> None:
        print(announcement, flush=True)
        if options.open_browser:
            token = "" if access.token is None else f"?token={access.token}"
            webbrowser.open(f"http://{options.host}:{options.port}/{token}")

    nicegui_app.on_startup(announce)
    # It logs addresses that do not exist, which can contain the token.
    logging.getLogger("nicegui").setLevel(logging.ERROR)
    settings = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Its limit of the length of headers; the faster httptools has none.
        http="h11",
        ws="wsproto",
        ws_max_size=_MESSAGE_BYTES,
        # A browser that is left open must not keep the server from ending.
        timeout_graceful_shutdown=2,
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(settings).run(sockets=[listener])


def make_context(config: Path | None, options: ServerOptions) -> WebContext:
    """Create the state of a server and load its settings.

    Only a configuration that was named at the start adds its image folders to those
    that are shown: settings that came from a browser must not.

    Raises:
        ConfigError: If the configuration is invalid.
        OutputError: If the queue folder is not writable.
    """
    context = WebContext(
        options.datasets,
        options.runs or (Path("runs"),),
        options.models,
        allow_custom_code=options.allow_custom_code,
    )
    shown = demo()
    if config is not None:
        context.document.load(config)
        context.document.forget_history()
        _show_folders(context, context.document.config().model_dump())
    if not options.allow_custom_code:
        named = context.document.data.get("plugins", ()) if config else ()
        forbid_custom_code(named)
    if config is None:
        context.restore()
    if shown is not None:
        from ...config import load_config

        _show_folders(context, load_config(shown).model_dump())
    return context


def _show_folders(context: WebContext, settings: dict[str, object]) -> None:
    for key in ("concepts", "validation_concepts"):
        for concept in settings[key]:  # type: ignore[attr-defined]
            context.images.add(concept["path"])


def _lifespan(context: WebContext, uploads: Uploads) -> Lifespan:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        uploads.clean()
        tasks = [
            asyncio.create_task(_save(context)),
            asyncio.create_task(_settle(context)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            context.runs.close()
            context.captioning.stop()
            context.save()

    return lifespan


async def _save(context: WebContext) -> None:
    """Save changed settings, until cancelled."""
    while True:
        context.save()
        await asyncio.sleep(_TICK_SECONDS)


async def _settle(context: WebContext) -> None:
    """Record ended jobs and start waiting ones, until cancelled."""
    while True:
        # A queue on a full disk is no reason to end; the pages show the error.
        with contextlib.suppress(StiefelLoraError, OSError):
            await asyncio.to_thread(context.trainings.settle)
        await asyncio.sleep(_SETTLE_EVERY * _TICK_SECONDS)
