"""Routes of files and uploads, beside the pages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .context import WebContext
from .crops import crop_in
from .image_replies import ImageReplies
from .lora_places import RESULT_SUFFIXES
from .run_zip import zip_of_run
from .security import Refusal
from .served_files import served_file
from .uploading import Uploads

__all__ = ["file_routes"]

# Types that a browser shows, and in which it runs no script.
_SHOWN = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
}
_DRAIN_SECONDS = 30.0
Endpoint = Callable[[Request], Awaitable[Response]]


def file_routes(context: WebContext, uploads: Uploads) -> list[Route]:
    """Return the routes of images, files of runs, and uploads.

    Args:
        context: folders of the server.
        uploads: receiver of uploads.
    """
    images = ImageReplies()

    async def run_file(request: Request) -> Response:
        path = served_file(_run_of(context, request), request.path_params["place"])
        if "side" in request.query_params:
            return await _reduced(images, request, path)
        return _download(path, _SHOWN.get(path.suffix.lower()))

    async def run_zip(request: Request) -> Response:
        run_dir = _run_of(context, request)
        whole = request.query_params.get("checkpoints") == "1"
        name = run_dir.name.encode("ascii", "replace").decode().replace('"', "")
        return StreamingResponse(
            zip_of_run(run_dir, checkpoints=whole),
            media_type="application/zip",
            headers={"content-disposition": f'attachment; filename="{name}.zip"'},
        )

    async def result(request: Request) -> Response:
        path = served_file(context.loras.results, request.path_params["place"])
        if path.suffix.lower() not in RESULT_SUFFIXES:
            raise Refusal(415, "Only LoRA files are served here.")
        return _download(path)

    async def upload(request: Request) -> Response:
        parts = request.path_params
        added = await uploads.take(request, parts["dataset"], parts["name"])
        body = {
            "files": added.files,
            "skipped": added.skipped,
            "folder": str(added.folder),
            "message": added.message,
        }
        return JSONResponse(body, status_code=201)

    return [
        *_image_routes(context, images),
        Route("/runs/{run}/files/{place:path}", _answered(run_file)),
        Route("/runs/{run}/run.zip", _answered(run_zip)),
        Route("/lora-files/download/{place:path}", _answered(result)),
        Route("/uploads/{dataset}/{name}", _answered(upload), methods=["PUT"]),
    ]


def _image_routes(context: WebContext, images: ImageReplies) -> list[Route]:
    """Return the routes of images and crops of the image folders."""

    async def image(request: Request) -> Response:
        root = context.images.find(request.path_params["root"])
        if root is None:
            raise Refusal(404, "There is no such folder.")
        path = served_file(root, request.path_params["place"])
        return await _reduced(images, request, path)

    async def crop(request: Request) -> Response:
        root = context.images.find(request.path_params["root"])
        if root is None:
            raise Refusal(404, "There is no such folder.")
        path = served_file(root, request.path_params["place"])
        found = crop_in(context, path, request.path_params, request.query_params)
        return await _reduced(
            images, request, path, read=found.decode, version=found.key
        )

    return [
        Route("/images/{root}/{place:path}", _answered(image)),
        Route("/crops/{kind}/{concept}/{root}/{place:path}", _answered(crop)),
    ]


def _download(path: Path, kind: str | None = None) -> Response:
    """Return a response with a file, which is shown if it has a type."""
    return FileResponse(
        path,
        media_type=kind or "application/octet-stream",
        filename=path.name,
        headers={"cache-control": "private, no-cache"},
        content_disposition_type="attachment" if kind is None else "inline",
    )


async def _reduced(
    images: ImageReplies, request: Request, path: Path, **options: Any
) -> Response:
    side = request.query_params.get("side", "256")
    known = request.headers.get("if-none-match", "")
    return await images.reply(path, side, known, **options)


def _run_of(context: WebContext, request: Request) -> Path:
    run_dir = context.runs.find(request.path_params["run"])
    if run_dir is None or not run_dir.is_dir():
        raise Refusal(404, "There is no such run.")
    return run_dir


def _answered(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint that answers with status and message when it refuses."""

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Refusal as refusal:
            await _drain(request)
            return JSONResponse(
                {"message": refusal.message},
                status_code=refusal.status,
                headers={"connection": "close"},
            )
        except ClientDisconnect:
            return Response(status_code=400)

    return answered


async def _drain(request: Request) -> None:
    """Read the rest of an upload: browsers show no answer that comes before its end."""

    async def read() -> None:
        async for _ in request.stream():
            pass

    with contextlib.suppress(asyncio.TimeoutError, ClientDisconnect, RuntimeError):
        await asyncio.wait_for(read(), _DRAIN_SECONDS)
