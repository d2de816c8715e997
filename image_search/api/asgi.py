"""What everything that stands in front of the application needs to know of a request."""

from __future__ import annotations

import ipaddress
import math

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import Scope

from image_search.api.problems import answer_problem

CHANGING = {"POST", "PUT", "PATCH", "DELETE"}


def read_headers(scope: Scope) -> Headers:
    """The headers of a request."""
    return Headers(scope=scope)


def find_client(scope: Scope) -> str:
    """The address of the computer that asks, "" when it is not known."""
    return scope["client"][0] if scope.get("client") else ""


def is_loopback(host: str) -> bool:
    """Whether a host is this computer itself."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def answer_too_many(message: str, wait: float) -> JSONResponse:
    """429. wait: seconds until the next attempt may succeed."""
    return answer_problem(429, "too_many_requests", message, {"Retry-After": str(max(1, math.ceil(wait)))})
