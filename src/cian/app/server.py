"""The server of the page: its addresses, and what they answer."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cian.app.answers import encoded, file_of_page, refused, route, unknown, unusable
from cian.app.labels import MOST_MASK, STATES, parse_mask
from cian.app.look import MOST_OTHERS
from cian.app.project import Project
from cian.app.refusal import Refusal, given, image_index, read_body, whole
from cian.app.runs import all_runs, scores_of
from cian.app.security import Guard
from cian.app.site import Site
from cian.app.strokes import UNTOUCHED, parse_strokes
from cian.app.thumbs import WIDTHS, jpeg, png, thumbnail
from cian.app.trial import MOST_BYTES, try_image
from cian.data.images import read_image
from cian.data.masks import resize_mask
from cian.data.table import IGNORE
from cian.errors import CianError

_MOST_STROKES = 8 * 2**20  # bytes of a request with strokes
_KINDS = ("prediction", "seed", "truth", "label", "before")
_DRAWN_SIDE = 1024  # of the label map of strokes, before it is enlarged to the image


def build(project: Project, token: str, cookie: str = "cian", hosts: tuple[str, ...] = ()) -> Starlette:
    """The application on a run.

    Args:
        token, cookie, hosts: see `Guard`.
    """
    site = Site(project)
    answers = _Answers(site)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(site.close)

    image = "/api/image/{i}"
    return Starlette(
        routes=[
            Route("/", file_of_page, methods=["GET"]),
            Route("/static/{name:path}", file_of_page, methods=["GET"]),
            route("GET", "/api/run", answers.run),
            route("GET", "/api/images", answers.images),
            route("GET", f"{image}/thumb", answers.thumb),
            route("GET", f"{image}/photo", answers.photo),
            route("GET", f"{image}/mask/{{kind}}", answers.mask),
            route("GET", f"{image}/label", answers.label),
            route("PUT", f"{image}/label", answers.store, _MOST_STROKES + MOST_MASK),
            route("DELETE", f"{image}/label", answers.forget),
            route("POST", f"{image}/snap", answers.snap, _MOST_STROKES),
            route("GET", "/api/learn", answers.learning),
            route("POST", "/api/learn", answers.learn, 1000),
            route("DELETE", "/api/learn", answers.stop),
            route("GET", "/api/changes", answers.changes),
            route("GET", "/api/affinity/{i}", answers.affinity),
            Route("/api/try", answers.try_, methods=["POST"]),
            route("GET", "/api/runs", answers.runs),
        ],
        middleware=[Middleware(Guard, token=token, cookie=cookie, hosts=hosts)],
        exception_handlers={CianError: refused, HTTPException: unknown, OSError: unusable},
        lifespan=lifespan,
    )


class _Answers:
    def __init__(self, site: Site):
        self.site, self.project = site, site.project

    def run(self, request: Request) -> dict[str, Any]:
        project = self.project
        return {
            "name": project.name,
            "classes": project.classes,
            "images": len(project.table),
            "stages": list(project.stages()),
            "learning": self.site.learner.state() if self.site.learner.running else None,
            "rounds": len(project.rounds()),
            "has_truth": any(mask is not None for mask in project.table.masks),
            "has_affinity": project.affinity_weights(project.run.path) is not None,
            "has_model": project.has_model,
            "saved": self.site.labels.counts(),
        }

    # Images.

    def images(self, request: Request) -> dict[str, Any]:
        overview = self.site.overview
        rows = overview.rows()
        return {"images": rows, "pending": overview.scan.pending + overview.ranking.busy}

    def thumb(self, request: Request) -> Response:
        i = self._index(request)
        asked = given(request, "w", 1, 4096, WIDTHS[0])
        width = next((each for each in WIDTHS if each >= asked), WIDTHS[-1])
        kept = self.project.own("thumbs", str(width), f"{self.project.table.ids[i]}.jpg")
        return encoded(thumbnail(self.project.image(i), kept, width), "image/jpeg", kept=True)

    def photo(self, request: Request) -> Response:
        side = int(given(request, "side", 16, 4096, 1024))
        return encoded(jpeg(read_image(self.project.image(self._index(request)), side)), "image/jpeg", kept=True)

    def mask(self, request: Request) -> Response:
        i, kind = self._index(request), request.path_params["kind"]
        if kind not in _KINDS:
            raise Refusal(404, f"There is no such mask. Ask for {', '.join(_KINDS)}.")
        width = given(request, "w", 1, 1e6, 1e6)
        mask = self.site.mask(kind, i, urgent="w" not in request.query_params)
        if mask is None:
            return Response(status_code=204)
        if (scale := width / max(mask.shape)) < 1:
            mask = resize_mask(mask, _scaled(mask.shape, scale))
        return encoded(png(mask), "image/png")

    # Labels.

    def label(self, request: Request) -> dict[str, Any]:
        i = self._index(request)
        self.site.snapper.prepare(i)  # a page asks for the label when it opens an image to correct
        return vars(self.site.labels.get(i))

    def store(self, request: Request, body: dict[str, Any]) -> dict[str, Any]:
        i, classes = self._index(request), self.project.table.num_classes
        state, version = body.get("state"), whole(body.get("version"), "version", 0, 2**53)
        if state not in STATES:
            raise Refusal(400, f"state is neither {' nor '.join(STATES)}. Reload the page.")
        size = self.project.size(i)
        strokes = parse_strokes(body.get("strokes"), classes, size)
        if state == "approved":
            mask = parse_mask(body.get("mask"), classes, size)
        else:
            shape = _scaled(size, min(1.0, _DRAWN_SIDE / max(size)))
            drawn = self.site.snapper.draw(i, strokes, _base(body), shape)
            mask = resize_mask(np.where(drawn == UNTOUCHED, IGNORE, drawn).astype(np.uint8), size)
        saved = self.site.labels.put(i, version, state, [stroke.as_json() for stroke in strokes], mask)
        return {"version": saved.version}

    def forget(self, request: Request) -> dict[str, Any]:
        self.site.labels.delete(self._index(request), int(given(request, "version", 0, 2**53)))
        return {"version": 0}

    def snap(self, request: Request, body: dict[str, Any]) -> Response:
        i = self._index(request)
        strokes = parse_strokes(body.get("strokes"), self.project.table.num_classes, self.project.size(i))
        return encoded(png(self.site.snapper.snap(i, strokes, _base(body))), "image/png")

    # Learning.

    def learning(self, request: Request) -> dict[str, Any]:
        return self.site.learner.state()

    def learn(self, request: Request, body: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(preview := body.get("preview", False), bool):
            raise Refusal(400, "preview is neither true nor false. Reload the page.")
        self.site.learner.start(preview)
        return self.site.learner.state()

    def stop(self, request: Request) -> dict[str, Any]:
        self.site.learner.stop()
        return self.site.learner.state()

    def changes(self, request: Request) -> dict[str, Any]:
        if (changes := self.site.changes) is None:
            return {"scores": None, "images": [], "pending": 0}
        scores = {"before": scores_of(changes.round), "after": scores_of(self.project.run.path)}
        return {
            "scores": scores if all(scores.values()) else None,
            "images": changes.rows(),
            "pending": changes.scan.pending,
        }

    # The network.

    def affinity(self, request: Request) -> dict[str, Any]:
        i, count = self._index(request), len(self.project.table)
        x, y = (given(request, name, 0, 1) for name in ("x", "y"))
        named = request.query_params.get("others")
        others = None if named is None else [image_index(text, count) for text in named.split(",") if text]
        if others is not None and len(others) > MOST_OTHERS:
            raise Refusal(400, f"others names more than {MOST_OTHERS} images. Name fewer.")
        return self.site.looker.maps(i, x, y, others, before=given(request, "before", 0, 1, 0) == 1)

    async def try_(self, request: Request) -> Response:
        content = await read_body(request, MOST_BYTES)
        return JSONResponse(await run_in_threadpool(try_image, self.site.network, content))

    def runs(self, request: Request) -> list[dict[str, Any]]:
        return all_runs(self.project, self.site.learner.running)

    def _index(self, request: Request) -> int:
        return image_index(request.path_params["i"], len(self.project.table))


def _base(body: dict[str, Any]) -> str:
    base = body.get("base", "prediction")
    if base not in ("prediction", "label"):
        raise Refusal(400, "base is neither prediction nor label. Reload the page.")
    return base


def _scaled(shape: tuple[int, ...], scale: float) -> tuple[int, int]:
    height, width = (max(1, round(side * scale)) for side in shape)
    return height, width
