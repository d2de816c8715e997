"""The REST face, mounted at /api: documented in its OpenAPI document and on a page that needs no other computer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from typing import Annotated, Any, get_origin

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from pydantic import ValidationError
from starlette.datastructures import FormData
from starlette.datastructures import UploadFile as StarletteUpload
from starlette.exceptions import HTTPException

from image_search.api import LibraryService, Upload
from image_search.api.errors import error_response, error_responses, install_error_handlers
from image_search.api.schemas import (
    MAX_PAGE,
    MAX_PAGE_SIZE,
    Count,
    DeletedOut,
    EditsIn,
    Extracted,
    ExtractRequest,
    ImageId,
    ImageOut,
    Registered,
    SearchAnswer,
    SearchRequest,
    Status,
    TagOut,
    TrashOut,
)
from image_search.registration.uploads import clean_name
from image_search.search import PAGE_SIZE

_FORM_TYPES = ("multipart/form-data", "application/x-www-form-urlencoded")
_PAGE = FilePath(__file__).with_name("documentation.html")

Page = Annotated[int, Query(ge=1, le=MAX_PAGE)]
PageSize = Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)]
Hash = Annotated[str, Query(pattern="^[0-9a-f]{64}$")]
HashOrNone = Annotated[str, Query(pattern="^([0-9a-f]{64})?$")]


def build_rest(library: LibraryService, image_routes: APIRouter) -> FastAPI:
    """The application. image_routes: routes /images/{image_id}/preview, /original and /film."""
    app = FastAPI(
        title="類似画像検索 / Image Search",
        version="1.0",
        description="Search a library of images by words, by an image or both; register and delete images.",
        docs_url=None,
        redoc_url=None,
    )
    install_error_handlers(app)

    @app.post(
        "/search",
        responses=error_responses(404, 415),
        openapi_extra={"requestBody": _describe_search_body()},
        summary="Search by words, an image file, an image of the library, or nothing for the newest",
    )
    async def search(request: Request) -> SearchAnswer:
        async with _open_search(request) as (asked, upload):
            return await library.search(asked, upload)

    @app.get("/images/{image_id}", responses=error_responses(404), summary="An image and its texts")
    async def read_image(image_id: ImageId) -> ImageOut:
        return await library.describe(image_id)

    @app.get("/images/{image_id}/tags", responses=error_responses(404), summary="The likeliest words for an image")
    async def read_tags(image_id: ImageId) -> list[TagOut]:
        return await library.find_tags(image_id)

    @app.post(
        "/images",
        responses=error_responses(415, 507) | {201: {"model": Registered}},
        openapi_extra={"requestBody": _describe_registration_body()},
        summary="Register an image; it can be found at once",
        description="201 for a new image, 200 when the very same file is in the library already.",
    )
    async def register(request: Request, response: Response) -> Registered:
        async with _open_registration(request) as upload:
            registered = await library.register(upload)
        response.status_code = 201 if registered.is_new else 200
        return registered

    @app.patch(
        "/images/{image_id}",
        dependencies=[Depends(_require_json)],
        responses=error_responses(404, 415),
        summary="Say caption, keywords or rating of an image",
        description="A field left out stays as it is; null is back to what the file says.",
    )
    async def edit(image_id: ImageId, asked: EditsIn) -> ImageOut:
        return await library.edit(image_id, asked)

    @app.delete(
        "/images/{image_id}",
        status_code=204,
        responses=error_responses(404),
        summary="Move an image to the trash, or remove it for good",
        description="The file it was registered from stays, and is not registered again by itself.",
    )
    async def delete(image_id: ImageId, permanent: bool = False) -> None:
        await library.delete(image_id, permanent)

    @app.post(
        "/extract",
        dependencies=[Depends(_require_json)],
        responses=error_responses(404, 415),
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

    _add_trash(app, library)
    app.include_router(image_routes, responses=error_responses(404))

    @app.exception_handler(500)
    async def answer_unforeseen(_: Request, __: Exception) -> Response:
        return error_response(500, "failed", "Something unforeseen went wrong. The program's own output says more.")

    return app


def _add_trash(app: FastAPI, library: LibraryService) -> None:
    @app.post(
        "/images/{image_id}/restore", responses=error_responses(404), summary="Bring an image back from the trash"
    )
    async def restore(image_id: ImageId) -> ImageOut:
        return await library.restore(image_id)

    @app.get(
        "/trash",
        responses=error_responses(),
        summary="What is in the trash, the latest deleted first, a film once by its first frame",
    )
    async def list_trash(page: Page = 1, page_size: PageSize = PAGE_SIZE) -> TrashOut:
        return await library.list_trash(page, page_size)

    @app.delete("/trash", responses=error_responses(), summary="Remove everything in the trash for good")
    async def empty_trash() -> Count:
        return await library.empty_trash()

    @app.get("/deleted", responses=error_responses(), summary="What is remembered of images removed for good, by hash")
    async def list_deleted(
        after: HashOrNone = "", limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> list[DeletedOut]:
        return await library.list_deleted(after, limit)

    @app.delete(
        "/deleted",
        responses=error_responses(),
        summary="Forget images that were removed for good, so that they may be registered again",
    )
    async def forget_deleted(content_sha256: Hash | None = None) -> Count:
        return await library.forget_deleted(content_sha256)


# The bodies of requests: JSON, forms, and the file in a form.


async def _require_json(request: Request) -> None:
    kind = _read_media_type(request)
    if kind != "application/json" and not kind.endswith("+json") and (kind or await request.body()):
        raise HTTPException(415, "This takes JSON. Send it with the header Content-Type: application/json.")


@asynccontextmanager
async def _open_search(request: Request) -> AsyncIterator[tuple[SearchRequest, Upload | None]]:
    """The request, from JSON or from a form, and the image of the form while it can be read."""
    _refuse_parameters(request, 'send a JSON body, such as {"text": "cat"}, or a form')
    kind = _read_media_type(request)
    if kind in _FORM_TYPES:
        async with _open_form(request) as form:
            if any(name.lstrip().startswith(("{", "[")) for name in form):
                raise HTTPException(415, "The body is JSON. Send it with the header Content-Type: application/json.")
            sent = _find_picture(form)
            yield _check(lambda: SearchRequest.model_validate(_collect_fields(form))), sent
        return
    body = await request.body()
    if body and kind != "application/json":
        raise HTTPException(415, f"A search is sent as {', '.join(_FORM_TYPES)} or application/json.")
    yield _check(lambda: SearchRequest.model_validate_json(body or b"{}")), None


@asynccontextmanager
async def _open_registration(request: Request) -> AsyncIterator[Upload]:
    """The image of a form while it can be read."""
    _refuse_parameters(request, "send the image as picture in a form")
    if _read_media_type(request) not in _FORM_TYPES:
        raise HTTPException(415, "An image is sent as picture in multipart/form-data: -F picture=@photo.jpg.")
    async with _open_form(request) as form:
        for name in form:
            if name != "picture":
                said = "no such field; only picture is sent, texts and rating follow with PATCH /api/images/{image_id}"
                raise _refuse(said, name)
        sent = _find_picture(form)
        if sent is None:
            raise _refuse("no file was sent; send one: -F picture=@photo.jpg", "picture")
        yield sent


@asynccontextmanager
async def _open_form(request: Request) -> AsyncIterator[FormData]:
    """The form of a request, with one file at most."""
    try:
        opened = await request.form(max_files=1, max_fields=100)
    except HTTPException as error:
        if str(error.detail).startswith("Too many files"):
            raise _refuse("one file at a time; send each in a request of its own", "picture") from error
        raise
    try:
        yield opened
    finally:
        await opened.close()


def _find_picture(form: FormData) -> Upload | None:
    sent = [value for value in form.getlist("picture") if value != ""]
    if any(isinstance(value, str) for value in sent):
        raise _refuse("picture is text; send a file: -F picture=@query.jpg")
    return next((_open_upload(value) for value in sent if isinstance(value, StarletteUpload)), None)


def _read_media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _refuse_parameters(request: Request, advice: str) -> None:
    if names := ", ".join(request.query_params):
        raise _refuse(f"{names[:200]} in the address is not read; {advice}")


def _refuse(said: str, *field: str) -> RequestValidationError:
    return RequestValidationError([{"loc": field, "msg": said}])


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
            if name in SearchRequest.model_fields:
                raise _refuse("this is a file. Send text; a file belongs in the field picture", name)
            fields[name] = "a file"  # a misspelt name of the file: reported as an unknown field
        elif len(values) > 1 and name not in _LISTS:
            raise _refuse("sent more than once; send it once", name)
        elif values:
            fields[name] = values if name in _LISTS else values[0]
    return fields


_LISTS = {name for name, field in SearchRequest.model_fields.items() if get_origin(field.annotation) is tuple}


def _open_upload(upload: StarletteUpload) -> Upload:
    return Upload(clean_name(upload.filename or ""), upload.file.read)


def _describe_registration_body() -> dict[str, Any]:
    file = {"type": "string", "format": "binary", "description": "The image or film."}
    form = {"type": "object", "properties": {"picture": file}, "required": ["picture"], "additionalProperties": False}
    return {"content": {"multipart/form-data": {"schema": form}}, "required": True}


def _describe_search_body() -> dict[str, Any]:
    schema = SearchRequest.model_json_schema()
    file = {"type": "string", "format": "binary", "description": "An image to find similar ones to."}
    fields = {name: _leave_out_null(field) for name, field in schema["properties"].items()}
    form = {**schema, "properties": {"picture": file, **fields}}
    return {
        "content": {"application/json": {"schema": schema}, "multipart/form-data": {"schema": form}},
        "required": False,
    }


def _leave_out_null(field: dict[str, Any]) -> dict[str, Any]:
    """A form has no null: there a field is left out."""
    kept = {name: value for name, value in field.items() if name != "anyOf" and value is not None}
    return next((kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}), {}) | kept
