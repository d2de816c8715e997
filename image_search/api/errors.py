"""Errors as programs get them: a status, a code and a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match, Route

from image_search.api import AfterRefused, FolderNotFound, FolderRefused, Overloaded
from image_search.api.schemas import ErrorOut
from image_search.errors import (
    EmbeddingRefused,
    FilmsUnavailable,
    ImageNotFound,
    ImageSearchError,
    ModelUnavailable,
    OriginalMissing,
    SchemaError,
    StoreFull,
    StoreUnavailable,
    TextNotSupported,
    UnreadableFilm,
    UnreadableImage,
)
from image_search.search.query import ConditionNotUnderstood

_KINDS: tuple[tuple[type[ImageSearchError], int, str], ...] = (
    (Overloaded, 503, "busy"),
    (ImageNotFound, 404, "image_not_found"),
    (OriginalMissing, 404, "original_missing"),
    (FolderRefused, 403, "folder_refused"),
    (FolderNotFound, 404, "folder_not_found"),
    (UnreadableImage, 422, "unreadable_image"),
    (UnreadableFilm, 422, "unreadable_film"),
    (FilmsUnavailable, 501, "films_unavailable"),
    (AfterRefused, 422, "invalid_request"),
    (ConditionNotUnderstood, 422, "invalid_request"),
    (TextNotSupported, 422, "text_not_supported"),
    (ModelUnavailable, 503, "model_unavailable"),
    (StoreUnavailable, 503, "database_unavailable"),
    (StoreFull, 507, "database_full"),
    (SchemaError, 409, "model_mismatch"),
    (EmbeddingRefused, 409, "model_mismatch"),
    (ImageSearchError, 500, "failed"),
)
_RETRY_AFTER = "5"  # seconds; an unavailable database is retried about as often


def status_and_code(error: ImageSearchError) -> tuple[int, str]:
    """Status and code of an error, by its nearest kind."""
    return next((status, code) for kind, status, code in _KINDS if isinstance(error, kind))


def error_response(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A problem as a response."""
    return JSONResponse({"code": code, "message": message}, status, {"Cache-Control": "no-store", **(headers or {})})


def answer_error(error: ImageSearchError) -> JSONResponse:
    """An ImageSearchError as a response."""
    status, code = status_and_code(error)
    retry = {"Retry-After": str(round(error.retry_after)) if isinstance(error, Overloaded) else _RETRY_AFTER}
    return error_response(status, code, str(error), retry if status == 503 else None)


def install_error_handlers(app: FastAPI) -> None:
    """Make an application answer every error of its own as a Problem."""

    @app.exception_handler(ImageSearchError)
    async def answer_own(_: Request, error: ImageSearchError) -> JSONResponse:
        return answer_error(error)

    @app.exception_handler(ClientDisconnect)
    async def answer_broken_off(_: Request, __: ClientDisconnect) -> JSONResponse:
        return error_response(400, "bad_request", "The request broke off.")

    @app.exception_handler(RequestValidationError)
    async def answer_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(422, "invalid_request", describe_faults(error.errors()))

    @app.exception_handler(HTTPException)
    async def answer_http(request: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_").replace("-", "_")
        headers = dict(error.headers or {})
        message = str(error.detail)
        if error.status_code == 404:
            message = "There is nothing at this address. /api/docs lists those that there are."
        elif error.status_code == 405:  # Starlette names the methods of the first route of an address only
            headers["Allow"] = ", ".join(sorted(_find_methods(app.routes, request)))
            message = f"This address does not take {request.method}. It takes: {headers['Allow']}."
        return error_response(error.status_code, code, message, headers)


def _find_methods(routes: Iterable[BaseRoute], request: Request) -> set[str]:
    fitting = [r for r in routes if isinstance(r, Route) and r.matches(request.scope)[0] != Match.NONE]
    methods = {method for route in fitting for method in route.methods or ()}
    for route in routes:  # of an included router
        if (included := getattr(route, "original_router", None)) is not None:
            methods |= _find_methods(included.routes, request)
    return methods


def describe_faults(faults: Any) -> str:
    """One sentence for all invalid fields."""
    sentences = []
    for fault in faults:
        field = ".".join(str(part) for part in fault["loc"] if part != "body")
        said = fault["msg"].removeprefix("Value error, ")  # that is Pydantic's, the rest is this program's
        if fault.get("type") == "json_invalid":
            field, said = "", f"the body is not JSON ({fault['ctx']['error']})"  # loc is a number of characters
        elif fault["loc"] == ("body",) and fault.get("type") == "missing":
            said = "the body is missing; send JSON"
        sentences.append(f"{field}: {said}" if field else said)
    return f"The request does not fit: {'; '.join(sentences)[:1000]}. See /api/docs."


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Responses for OpenAPI: these statuses and those of every route are answered with a Problem."""
    everywhere = (400, 401, 403, 413, 422, 429, 500, 503)
    return {
        status: {"model": ErrorOut, "description": HTTPStatus(status).phrase}
        for status in sorted({*everywhere, *statuses})
    }
