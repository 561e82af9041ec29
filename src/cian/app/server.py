"""The server of the page: its routes, and what they answer. Names of routes and of values: `static/` uses the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cian.app.labels import MOST_MASK, STATES, LabelStore, parse_mask
from cian.app.network import Network, Worker
from cian.app.overview import Overview
from cian.app.project import Project
from cian.app.refusal import Refusal, given, image_index, read_object, whole
from cian.app.security import Guard
from cian.app.snap import Snapper
from cian.app.strokes import UNTOUCHED, parse_strokes
from cian.app.thumbs import WIDTHS, jpeg, png, thumbnail
from cian.data.images import read_image
from cian.data.masks import resize_mask
from cian.data.table import IGNORE
from cian.errors import CianError

STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}
_MOST_STROKES = 8 * 2**20  # bytes of a request with strokes
_KINDS = ("prediction", "seed", "truth", "label", "before")
_DRAWN_SIDE = 1024  # of the label map of strokes, before it is enlarged to the image


class Site:
    """The routes on a run."""

    def __init__(self, project: Project):
        self.project = project
        self.worker = Worker()
        self.network = Network(project, self.worker)
        self.snapper = Snapper(project, self.network)
        self.labels = LabelStore(project)
        self.overview = Overview(project)
        self.overview.update()

    def routes(self) -> list[Route]:
        image = "/api/image/{i}"
        return [
            Route("/", _page, methods=["GET"]),
            Route("/static/{name:path}", _static, methods=["GET"]),
            _route("/api/run", self.about),
            _route("/api/images", self.images),
            _route(f"{image}/thumb", self.thumb),
            _route(f"{image}/photo", self.photo),
            _route(f"{image}/mask/{{kind}}", self.mask),
            _route(f"{image}/label", self.label),
            _route(f"{image}/label", self.store, "PUT", _MOST_STROKES + MOST_MASK),
            _route(f"{image}/label", self.forget, "DELETE"),
            _route(f"{image}/snap", self.snap, "POST", _MOST_STROKES),
        ]

    # Images.

    def about(self, request: Request) -> dict[str, Any]:
        table = self.project.table
        return {
            "name": self.project.name,
            "classes": self.project.classes,
            "images": len(table),
            "stages": list(self.project.stages()),
            "learning": None,
            "rounds": len(self.project.rounds()),
            "has_truth": any(mask is not None for mask in table.masks),
            "has_affinity": self.project.config.affinity.mode != "none" and self.project.has_model,
            "has_model": self.project.has_model,
            "saved": self.labels.counts(),
        }

    def images(self, request: Request) -> dict[str, Any]:
        rows, states = self.overview.rows(), self.labels.states()
        for i, state in states.items():
            rows[i]["state"] = state
        return {"images": rows, "pending": self.overview.pending}

    def thumb(self, request: Request) -> Response:
        i = self._index(request)
        asked = given(request, "w", 1, 4096, WIDTHS[0])
        width = next((each for each in WIDTHS if each >= asked), WIDTHS[-1])
        kept = self.project.own("thumbs", str(width), f"{self.project.table.ids[i]}.jpg")
        return _picture(thumbnail(self.project.image(i), kept, width), "image/jpeg")

    def photo(self, request: Request) -> Response:
        side = int(given(request, "side", 16, 4096, 1024))
        return _picture(jpeg(read_image(self.project.image(self._index(request)), side)), "image/jpeg")

    def mask(self, request: Request) -> Response:
        i, kind = self._index(request), request.path_params["kind"]
        if kind not in _KINDS:
            raise Refusal(404, f"There is no such mask. Ask for {', '.join(_KINDS)}.")
        width = given(request, "w", 1, 8192, 8192)
        mask = self._mask(kind, i, urgent="w" not in request.query_params)
        if mask is None:
            return Response(status_code=204)
        scale = width / max(mask.shape)
        if scale < 1:
            mask = resize_mask(mask, tuple(max(1, round(side * scale)) for side in mask.shape))
        return _picture(png(mask), "image/png", kept=False)

    def _mask(self, kind: str, i: int, urgent: bool) -> np.ndarray | None:
        file = self.project.mask_file(kind, i)
        if file is not None:
            return self.project.read_mask(kind, i, file)
        folder = None
        if kind == "before":
            last = self.project.last_round
            folder = None if last is None else last / "model"
        if kind not in ("prediction", "before") or (kind == "before" and folder is None):
            return None
        if not self.network.stamp(folder):
            return None
        return self.worker.do(lambda: self.network.prediction(i, folder), urgent).result()

    # Labels.

    def label(self, request: Request) -> dict[str, Any]:
        return vars(self.labels.get(self._index(request)))

    def store(self, request: Request, body: dict[str, Any]) -> dict[str, Any]:
        i, table = self._index(request), self.project.table
        state, version = body.get("state"), whole(body.get("version"), "version", 0, 2**53)
        if state not in STATES:
            raise Refusal(400, f"state is neither {' nor '.join(STATES)}. Reload the page.")
        size = self.project.size(i)
        strokes = parse_strokes(body.get("strokes"), table.num_classes, size)
        if state == "approved":
            mask = parse_mask(body.get("mask"), table.num_classes, size)
        else:
            scale = min(1.0, _DRAWN_SIDE / max(size))
            shape = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
            drawn = self.snapper.draw(i, strokes, self._base(body), shape)
            mask = resize_mask(np.where(drawn == UNTOUCHED, IGNORE, drawn).astype(np.uint8), size)
        saved = self.labels.put(i, version, state, [stroke.as_json() for stroke in strokes], mask)
        return {"version": saved.version}

    def forget(self, request: Request) -> dict[str, Any]:
        self.labels.delete(self._index(request), int(given(request, "version", 0, 2**53)))
        return {"version": 0}

    def snap(self, request: Request, body: dict[str, Any]) -> Response:
        i = self._index(request)
        strokes = parse_strokes(body.get("strokes"), self.project.table.num_classes, self.project.size(i))
        return _picture(png(self.snapper.snap(i, strokes, self._base(body))), "image/png", kept=False)

    @staticmethod
    def _base(body: dict[str, Any]) -> str:
        base = body.get("base", "prediction")
        if base not in ("prediction", "label"):
            raise Refusal(400, "base is neither prediction nor label. Reload the page.")
        return base

    def _index(self, request: Request) -> int:
        return image_index(request.path_params["i"], len(self.project.table))


Answer = dict[str, Any] | list[Any] | Response


def _route(path: str, handler: Callable[..., Answer], method: str = "GET", most: int = 0) -> Route:
    """A route whose handler works in a thread.

    Args:
        most: bytes of the JSON object in the body, which the handler gets; 0: it gets none.
    """

    async def endpoint(request: Request) -> Response:
        more = (await read_object(request, most),) if most else ()
        answer = await run_in_threadpool(handler, request, *more)
        return answer if isinstance(answer, Response) else JSONResponse(answer)

    return Route(path, endpoint, methods=[method])


def _picture(content: bytes, kind: str, kept: bool = True) -> Response:
    """
    Args:
        kept: whether the browser may keep it for some minutes: images do not change, masks do.
    """
    return Response(content, media_type=kind, headers={"Cache-Control": "private, max-age=600" if kept else "no-store"})


async def _page(request: Request) -> Response:
    return await run_in_threadpool(_file, "index.html")


async def _static(request: Request) -> Response:
    return await run_in_threadpool(_file, request.path_params["name"])


def _file(name: str) -> Response:
    """A file of the page. The name is looked up among those that are there; no path is made of it."""
    files = {path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*") if path.suffix in _TYPES}
    if (path := files.get(name)) is None or not path.is_file():
        raise Refusal(404, "There is no such file.")
    return Response(path.read_bytes(), headers={"Content-Type": _TYPES[path.suffix], "Cache-Control": "no-cache"})


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, Refusal):
        return JSONResponse({"error": str(error), **error.more}, error.status)
    return JSONResponse({"error": str(error)}, 422)


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": "There is no such address. Reload the page."}, error.status_code, error.headers)


async def _disk(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    return JSONResponse({"error": f"The run cannot be used ({error.strerror}). Check its disk and its rights."}, 409)


def build(project: Project, token: str, cookie: str = "cian", hosts: tuple[str, ...] = ()) -> Starlette:
    """The application. It starts with the run as it is."""
    site = Site(project)
    return Starlette(
        routes=site.routes(),
        middleware=[Middleware(Guard, token=token, cookie=cookie, hosts=hosts)],
        exception_handlers={CianError: _refused, HTTPException: _unknown, OSError: _disk},
    )
