"""Requests that are refused, and how values of a client are checked."""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.requests import Request

from cian.errors import CianError


class Refusal(CianError):
    """A request that cannot be answered.

    Attributes:
        status: of HTTP, 4xx.
        more: what the answer says besides the error.
    """

    def __init__(self, status: int, message: str, more: dict[str, Any] | None = None):
        super().__init__(message)
        self.status, self.more = status, more or {}


async def read_body(request: Request, most: int) -> bytes:
    """The body of a request.

    Raises:
        Refusal: it has more than `most` bytes; they are not read.
    """
    too_large = Refusal(413, f"The request has more than {most / 2**20:g} MB. Send less.")
    length = request.headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and (len(length) > 15 or int(length) > most):
        raise too_large
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise too_large
        parts.append(part)
    return b"".join(parts)


async def read_object(request: Request, most: int) -> dict[str, Any]:
    """The JSON object in the body of a request. NaN and infinity are no JSON.

    Raises:
        Refusal: the body is too large, or no JSON object.
    """
    body = await read_body(request, most)
    try:
        value = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refusal(400, "The body is not a JSON object. Reload the page.")
    return value


def _no_number(text: str) -> None:
    raise ValueError(text)


def number(value: object, name: str, low: float, high: float) -> float:
    """
    Raises:
        Refusal: the value is not a number from `low` to `high`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not (low <= value <= high):
        raise Refusal(400, f"{name} is not a number from {low:g} to {high:g}. Reload the page.")
    return float(value)


def whole(value: object, name: str, low: int, high: int) -> int:
    """
    Raises:
        Refusal: the value is not a whole number from `low` to `high`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not (low <= value <= high):
        raise Refusal(400, f"{name} is not a whole number from {low} to {high}. Reload the page.")
    return value


def given(request: Request, name: str, low: float, high: float, default: float | None = None) -> float:
    """A number in the query of a request.

    Raises:
        Refusal: it is missing (without a default), no number, or out of range.
    """
    text = request.query_params.get(name)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    return number(value, name, low, high)


def image_index(text: str, count: int) -> int:
    """An image's place in the table, as an address names it.

    Raises:
        Refusal: there is no such image.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) < count):
        raise Refusal(404, "There is no such image in this run. Reload the page.")
    return int(text)
