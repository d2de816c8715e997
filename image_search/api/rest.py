"""The REST face, mounted at /api: documented in its OpenAPI document and on a page that needs no other computer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from typing import Annotated, Any, get_origin

from fastapi import APIRouter, FastAPI, Path, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from pydantic import ValidationError
from starlette.datastructures import FormData
from starlette.datastructures import UploadFile as StarletteUpload
from starlette.exceptions import HTTPException

from image_search.api.errors import error_response, error_responses, install_error_handlers
from image_search.api.schemas import (
    MAX_ID,
    Extracted,
    ExtractRequest,
    ImageOut,
    Registered,
    SearchAnswer,
    SearchRequest,
    Status,
    TagOut,
)
from image_search.api.service import LibraryService, Upload
from image_search.registration.uploads import clean_name

_FORM_TYPES = ("multipart/form-data", "application/x-www-form-urlencoded")
_PAGE = FilePath(__file__).with_name("documentation.html")

ImageId = Annotated[int, Path(ge=1, le=MAX_ID)]


def build_rest(library: LibraryService, pictures: APIRouter) -> FastAPI:
    """The application. pictures: routes /images/{image_id}/preview and /original."""
    app = FastAPI(
        title="類似画像検索 / Image Search",
        version="1.0",
        description="Search a library of pictures by words, by a picture or both; register and delete pictures.",
        docs_url=None,
        redoc_url=None,
    )
    install_error_handlers(app)

    @app.post(
        "/search",
        responses=error_responses(404, 415),
        openapi_extra={"requestBody": _describe_search_body()},
        summary="Search by words, a picture, an image of the library, or nothing for the newest",
    )
    async def search(request: Request) -> SearchAnswer:
        async with _open_search(request) as (asked, picture):
            return await library.search(asked, picture)

    @app.get("/images/{image_id}", responses=error_responses(404), summary="An image and its texts")
    async def read_image(image_id: ImageId) -> ImageOut:
        return await library.describe(image_id)

    @app.get("/images/{image_id}/tags", responses=error_responses(404), summary="The likeliest words for an image")
    async def read_tags(image_id: ImageId) -> list[TagOut]:
        return await library.find_tags(image_id)

    @app.post(
        "/images",
        responses=error_responses(415, 507) | {201: {"model": Registered}},
        summary="Register a picture; it can be found at once",
        description="201 for a new picture, 200 when the very same file is in the library already.",
    )
    async def register(picture: UploadFile, response: Response) -> Registered:
        registered = await library.register(_open_picture(picture))
        response.status_code = 201 if registered.is_new else 200
        return registered

    @app.delete("/images/{image_id}", status_code=204, responses=error_responses(404), summary="Delete an image")
    async def delete(image_id: ImageId) -> None:
        await library.delete(image_id)

    @app.post(
        "/extract",
        responses=error_responses(404),
        summary="Read again what the files of a folder say",
        description="A folder of this computer, below APP_EXTRACT_ROOTS. Answers when all its files were read.",
    )
    async def extract(asked: ExtractRequest) -> Extracted:
        return await library.extract(asked.folder)

    @app.get("/status", responses=error_responses(), summary="Database, counts and models")
    async def read_status() -> Status:
        return await library.read_status()

    @app.get("/docs", include_in_schema=False)
    async def read_documentation() -> HTMLResponse:
        return HTMLResponse(_PAGE.read_text(encoding="utf-8"))

    app.include_router(pictures, responses=error_responses(404))

    @app.exception_handler(500)
    async def answer_unforeseen(_: Request, __: Exception) -> Response:
        return error_response(500, "failed", "Something unforeseen went wrong. The program's own output says more.")

    return app


@asynccontextmanager
async def _open_search(request: Request) -> AsyncIterator[tuple[SearchRequest, Upload | None]]:
    """What is asked, from JSON or from a form, and the picture of the form while it is there to be read."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _FORM_TYPES:
        async with request.form(max_files=1, max_fields=100) as form:
            picture = form.get("picture")
            sent = _open_picture(picture) if isinstance(picture, StarletteUpload) else None
            yield _check(lambda: SearchRequest.model_validate(_collect_fields(form))), sent
        return
    body = await request.body()
    if body and kind != "application/json":
        raise HTTPException(415, f"A search is sent as {', '.join(_FORM_TYPES)} or application/json.")
    yield _check(lambda: SearchRequest.model_validate_json(body or b"{}")), None


def _check(parse: Callable[[], SearchRequest]) -> SearchRequest:
    try:
        return parse()
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_input=False)) from error


def _collect_fields(form: FormData) -> dict[str, Any]:
    """Fields of a form; an empty one counts as left out, as browsers send those."""
    fields: dict[str, Any] = {}
    for name in form:
        values = [value for value in form.getlist(name) if isinstance(value, str) and value]
        if not isinstance(form[name], str) and name != "picture":
            fields[name] = "a file"  # the name of the picture's field is misspelt: said as an unknown field
        elif values:
            fields[name] = values if name in _LISTS else values[-1]
    return fields


_LISTS = {name for name, field in SearchRequest.model_fields.items() if get_origin(field.annotation) is tuple}


def _open_picture(upload: StarletteUpload) -> Upload:
    return Upload(clean_name(upload.filename or ""), upload.file.read)


def _describe_search_body() -> dict[str, Any]:
    schema = SearchRequest.model_json_schema()
    picture = {"type": "string", "format": "binary", "description": "A picture to find similar ones to."}
    fields = {name: _leave_out_null(field) for name, field in schema["properties"].items()}
    form = {**schema, "properties": {"picture": picture, **fields}}
    return {
        "content": {"application/json": {"schema": schema}, "multipart/form-data": {"schema": form}},
        "required": False,
    }


def _leave_out_null(field: dict[str, Any]) -> dict[str, Any]:
    """A form has no null: there a field is left out."""
    kept = {name: value for name, value in field.items() if name != "anyOf" and value is not None}
    return next((kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}), {}) | kept
