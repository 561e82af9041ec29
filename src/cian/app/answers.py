"""From what a handler returns, or raises, to an answer of HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cian.app.refusal import Refusal, read_object
from cian.data.problems import reason

STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}

Answer = dict[str, Any] | list[Any] | Response


def route(method: str, path: str, handler: Callable[..., Answer], most: int = 0) -> Route:
    """An address whose handler works in a thread.

    Args:
        most: bytes of the JSON object in the body, which the handler gets; 0: it gets none.
    """

    async def endpoint(request: Request) -> Response:
        more = (await read_object(request, most),) if most else ()
        answer = await run_in_threadpool(handler, request, *more)
        return answer if isinstance(answer, Response) else JSONResponse(answer)

    return Route(path, endpoint, methods=[method])


def encoded(content: bytes, kind: str, kept: bool = False) -> Response:
    """
    Args:
        kept: whether the browser may keep it for some minutes: images do not change, masks do.
    """
    return Response(content, media_type=kind, headers={"Cache-Control": "private, max-age=600" if kept else "no-store"})


async def file_of_page(request: Request) -> Response:
    """A file in `static/`. Its name is looked up among those that are there; no path is made of it.

    Raises:
        Refusal: there is no such file.
    """
    name = request.path_params.get("name", "index.html")
    files = {path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*") if path.suffix in _TYPES}
    if (path := files.get(name)) is None or not path.is_file():
        raise Refusal(404, "There is no such file.")
    return Response(path.read_bytes(), headers={"Content-Type": _TYPES[path.suffix], "Cache-Control": "no-cache"})


async def refused(_: Request, error: Exception) -> Response:
    status, more = (error.status, error.more) if isinstance(error, Refusal) else (422, {})
    return JSONResponse({"error": str(error), **more}, status)


async def unknown(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": "There is no such address. Reload the page."}, error.status_code, error.headers)


async def unusable(_: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    return JSONResponse({"error": f"The run cannot be used ({reason(error)}). Check its disk and its rights."}, 409)
