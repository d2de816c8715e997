"""Addresses of the page: tiles, facts, changes and static files below /ui, images below /images, and icons."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from image_search.api.schemas import ErrorOut, ImageId
from image_search.errors import ImageNotFound, ImageSearchError, OriginalMissing, StoreUnavailable, UnreadableImage
from image_search.images import read_small_preview
from image_search.records import ImageRecord
from image_search.registration.films import find_film_file, list_frames
from image_search.registration.trash import move_to_trash, restore_images
from image_search.search.duplicates import DuplicateGroup, keep_all
from image_search.search.query import parse_conditions, parse_text, resolve_values
from image_search.stores.base import ImageStore
from image_search.ui import STATIC, Encoding, choose_encoding, encode, hash_static, read_static
from image_search.ui.messages import Language, negotiate_language, translate
from image_search.ui.page import read_upload
from image_search.ui.results import DRAWABLE_TYPES, PageSearch, describe_error, get_version
from image_search.ui.search_form import (
    Suggestions,
    change_by_typed,
    count_facets,
    find_choices,
    from_query_string,
    list_ignored,
)
from image_search.ui.viewer import describe_edits, describe_image, describe_lines, save_edits

T = TypeVar("T")

MAX_TILES = 500  # of one request
_LONG = 2000  # bytes of JSON, from which on encoding pays
CONCURRENCY = 16  # threads that wait for encoder and database; more would only keep other work waiting

# More than "select all" chooses, so that a few can be added to those.
ImageIds = Annotated[list[ImageId], Field(min_length=1, max_length=100_000)]


Keyword = Annotated[str, Field(max_length=100_000)]


class EditsIn(BaseModel):
    """Changes to one image; a field that is not given stays as it is."""

    model_config = ConfigDict(extra="forbid")
    description: str | None = Field(None, max_length=100_000)
    rating: int | None = Field(None, ge=0, le=5)
    add_keywords: list[Keyword] = Field([], max_length=1000)
    remove_keywords: list[Keyword] = Field([], max_length=1000)
    revert: list[str] = []


class IdsIn(BaseModel):
    """Images to act on."""

    model_config = ConfigDict(extra="forbid")
    ids: ImageIds


class UploadIn(BaseModel):
    """A file that Gradio took: the path it answered, and the name the visitor calls it."""

    model_config = ConfigDict(extra="forbid")
    path: str
    name: str = ""


def build_page_routes(search: PageSearch) -> APIRouter:  # noqa: C901, PLR0915  one place for all addresses of the page
    """The router, to be mounted before Gradio's page. search: answers the questions."""
    router = APIRouter(prefix="/ui", default_response_class=JSONResponse)
    store = search.searcher.store
    suggestions = Suggestions(store)
    limiter = CapacityLimiter(CONCURRENCY)
    writes = CapacityLimiter(CONCURRENCY)  # they may wait for a lock of the database, and no search with them

    async def answer(request: Request, work: Callable[[Language], T], limiter: CapacityLimiter = limiter) -> Response:
        """The work's result as JSON; an ImageSearchError in the visitor's language."""
        language = get_language(request)
        try:
            found = await run_sync(lambda: work(language), limiter=limiter)
        except ImageSearchError as error:
            return _say(describe_error(error, language), _find_status(error))
        return _say(found, encoding=choose_encoding(request.headers.get("accept-encoding", "")))

    @router.get("/static/{version}/{path:path}")
    def get_static(request: Request, version: str, path: str) -> Response:
        encoding = choose_encoding(request.headers.get("accept-encoding", ""))
        found = read_static(path, "" if path.endswith(".png") else encoding)
        if found is None:
            return _say({"code": "not_found", "title": "There is no such file."}, 404)
        is_current = version == hash_static()
        headers = {
            "Cache-Control": "private, max-age=31536000, immutable" if is_current else "no-cache",
            "Vary": "Accept-Encoding",
        }
        if encoding and not path.endswith(".png"):
            headers["Content-Encoding"] = encoding
        return Response(found[0], media_type=found[1], headers=headers)

    @router.get("/results")
    async def read_results(
        request: Request,
        offset: Annotated[int, Query(ge=0, le=10**7)] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_TILES)] = 16,
    ) -> Response:
        asked = from_query_string(request.query_params)
        ignored = list_ignored(request.query_params)
        return await answer(
            request, lambda language: {**search.find(asked, offset, limit, language), "ignored": ignored}
        )

    @router.get("/typed")
    async def read_typed(request: Request, typed: Annotated[str, Query(max_length=10_000)] = "") -> Response:
        """The parameters of the address that typed words set; the others of the request are the question as it is."""
        asked = from_query_string(request.query_params)

        def parse(_: Language) -> dict[str, Any]:
            found = resolve_values(parse_conditions(typed), store)
            return {"changes": change_by_typed(found, asked), "superseded": found.superseded}

        return await answer(request, parse)

    @router.get("/facets")
    async def read_facets(request: Request) -> Response:
        asked = from_query_string(request.query_params)
        return await answer(request, lambda language: count_facets(store, asked, language))

    @router.get("/facets/{name}")
    async def read_choices(request: Request, name: str, find: Annotated[str, Query(max_length=200)] = "") -> Response:
        asked = from_query_string(request.query_params)
        return await answer(request, lambda language: {"choices": find_choices(store, asked, name, language, find)})

    @router.get("/suggestions")
    async def read_suggestions(request: Request, typed: Annotated[str, Query(max_length=1000)] = "") -> Response:
        return await answer(request, lambda language: {"suggestions": suggestions.find(typed, language)})

    @router.get("/progress")
    async def read_progress(request: Request) -> Response:
        return await answer(request, search.describe_progress)

    @router.get("/images/{image_id}")
    async def read_image(request: Request, image_id: ImageId) -> Response:
        return await answer(
            request,
            lambda language: describe_image(store.get_image(image_id), search.find_tags(image_id), language),
        )

    @router.get("/images/{image_id}/moments")
    async def read_moments(request: Request, image_id: ImageId) -> Response:
        return await answer(request, lambda _: {"moments": list_moments(store, image_id)})

    @router.get("/images/{image_id}/text")
    async def read_text(request: Request, image_id: ImageId) -> Response:
        """{lines}: the text inside an image, with the words of the question in the address marked."""
        terms = parse_text(from_query_string(request.query_params).text).words
        return await answer(request, lambda _: {"lines": describe_lines(store.get_recognized(image_id), terms)})

    @router.post("/images/{image_id}/edits")
    async def edit_image(request: Request, image_id: ImageId, said: EditsIn) -> Response:
        return await answer(request, lambda _: describe_edits(save_edits(store, image_id, **said.model_dump())), writes)

    @router.post("/trash")
    async def trash(request: Request, chosen: IdsIn) -> Response:
        def move(_: Language) -> dict[str, Any]:
            count, moved = move_to_trash(store, chosen.ids)
            return {"count": count, "ids": moved}

        return await answer(request, move, writes)

    @router.post("/restore")
    async def restore(request: Request, chosen: IdsIn) -> Response:
        return await answer(request, lambda _: {"count": restore_images(store, chosen.ids)}, writes)

    @router.post("/duplicates/keep")
    async def keep_duplicates(request: Request, chosen: IdsIn) -> Response:
        def keep(_: Language) -> dict[str, int]:
            keep_all(store, DuplicateGroup.of(store.get_images(chosen.ids), {}))
            return {"count": len(chosen.ids)}

        return await answer(request, keep, writes)

    def add_query_image(data: bytes, name: str) -> dict[str, str]:
        return {"token": search.query_images.add(data, name)}

    @router.post("/query-images")
    async def post_query_image(request: Request) -> Response:
        """The bytes of an image, or {path, name} of one that Gradio took."""
        body = await request.body()
        if request.headers.get("content-type", "").startswith("application/json"):
            try:
                upload = UploadIn.model_validate_json(body)
            except ValidationError:
                return _say({"code": "bad_request", "title": "Send {path, name} of a file that was uploaded."}, 422)
            return await answer(
                request,
                lambda _: {"token": search.query_images.add(read_upload(upload.path, upload.name), upload.name)},
            )
        return await answer(request, lambda _: {"token": search.query_images.add(body, "The query picture")})

    @router.get("/query-images/{token}")
    async def read_query_image(request: Request, token: str) -> Response:
        try:
            preview = await run_sync(lambda: search.query_images.read_preview(token), limiter=limiter)
        except UnreadableImage as error:
            return _say(describe_error(error, get_language(request)), 404)
        headers = {"Cache-Control": "private, max-age=86400", "Content-Security-Policy": "default-src 'none'; sandbox"}
        return Response(preview, media_type="image/webp", headers=headers)

    return router


def list_moments(store: ImageStore, image_id: int) -> list[dict[str, Any]]:
    """The frames of the film of an image, in the order of time; [] for an image that is no frame."""
    frame = store.get_image(image_id).frame
    frames = list_frames(store, frame.film_sha256) if frame else []
    return [
        {"id": image.image_id, "version": get_version(image), "frame_ms": image.frame.frame_ms}
        for image in frames
        if image.frame
    ]


def get_language(request: Request) -> Language:
    """The visitor's language, as the browser says."""
    return negotiate_language(request.headers.get("accept-language", ""))


def _find_status(error: ImageSearchError) -> int:
    if isinstance(error, ImageNotFound):
        return 404
    if isinstance(error, UnreadableImage):
        return 422
    return 503 if isinstance(error, StoreUnavailable) else 400


def _say(content: object, status: int = 200, encoding: Encoding = "") -> Response:
    """JSON. A long one is encoded: tiles shrink to a fifth."""
    headers = {"Cache-Control": "no-store", "Vary": "Accept-Language, Accept-Encoding"}
    answer = JSONResponse(content, status, headers)
    if encoding and len(answer.body) > _LONG:
        headers["Content-Encoding"] = encoding
        return Response(encode(bytes(answer.body), encoding, 4), status, headers, answer.media_type)
    return answer


# Images by image_id: previews, originals and films, and nothing else of the disk.

# An image can never act as a page, whatever bytes are hidden in it.
_SAFETY = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}

_KEPT: dict[int | str, dict[str, Any]] = {304: {"description": "The image If-None-Match names is still the same"}}
_PREVIEW = _KEPT | {200: {"content": {"image/webp": {}}, "description": "The preview"}}
_ORIGINAL = _KEPT | {200: {"content": {"*/*": {}}, "description": "The file"}}

_FILM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"video/*": {}}, "description": "The whole film"},
    206: {"content": {"video/*": {}}, "description": "The range of it that Range names"},
    304: {"description": "The film If-None-Match names is still the same"},
    416: {"model": ErrorOut, "description": "Range names nothing that the film has"},
}

_RANGE_REFUSALS = {
    400: ("bad_request", "Range is malformed. Send it as bytes=0-999, or leave it out for the whole film."),
    416: ("range_not_satisfiable", "Range begins behind the end of the film. Content-Range says how long it is."),
}
_FILM_INSTEAD = "It has no file of its own; ask for /film in place of /original."

_RETRY_AFTER = "5"  # seconds
_LOG = logging.getLogger(__name__)

IfNoneMatch = Annotated[str | None, Header()]
Kind = Literal["small", "preview", "original"]


def build_image_routes(store: ImageStore) -> APIRouter:
    """Routes /images/{image_id}/preview, /original and /film.

    ?small=1 is the small preview, for grids. ?v= is the version of the content (Tile.version): with it an address
    always means the same bytes, so that browsers keep them for a year and ask no more; without it they ask again each
    time and get 304 when nothing changed.
    """
    router = APIRouter()
    # Threads of their own: images must not take those of everything else while a database is slow.
    limiter = CapacityLimiter(store.concurrency)

    @router.get(
        "/images/{image_id}/preview", response_class=Response, responses=_PREVIEW, summary="A smaller image, as WebP"
    )
    async def read_preview(
        image_id: ImageId, v: str = "", small: bool = False, if_none_match: IfNoneMatch = None
    ) -> Response:
        kind: Kind = "small" if small else "preview"
        return await run_sync(lambda: _answer_image(store, image_id, v, if_none_match, kind), limiter=limiter)

    @router.get(
        "/images/{image_id}/original",
        response_class=Response,
        responses=_ORIGINAL,
        summary="The file as it was registered",
    )
    async def read_original(image_id: ImageId, v: str = "", if_none_match: IfNoneMatch = None) -> Response:
        return await run_sync(lambda: _answer_image(store, image_id, v, if_none_match, "original"), limiter=limiter)

    @router.get(
        "/images/{image_id}/film",
        response_class=Response,
        responses=_FILM,
        summary="The film an image is a frame of, whole or in ranges",
    )
    async def read_film(image_id: ImageId, if_none_match: IfNoneMatch = None) -> Response:
        return await run_sync(lambda: _answer_film(store, image_id, if_none_match), limiter=limiter)

    return router


def _answer_film(store: ImageStore, image_id: int, if_none_match: str | None) -> Response:
    try:
        image = store.get_image(image_id)
        if image.frame is None:
            return _refuse(404, "not_a_film", f"Image {image_id} is not a frame of a film.")
        path = find_film_file(image)
    except ImageNotFound as error:
        return _refuse(404, "image_not_found", str(error))
    except OriginalMissing as error:
        return _refuse(404, "film_missing", str(error))
    except ImageSearchError as error:
        _LOG.warning("The film of image %d cannot be read: %s", image_id, error)
        return _refuse(503, "database_unavailable", str(error))
    headers = _describe_caching(image.frame.film_sha256, immutable=False) | _SAFETY
    if _is_known(headers["ETag"], if_none_match):
        return Response(status_code=304, headers=headers)
    headers["Content-Disposition"] = f"inline; filename*=UTF-8''{quote(image.file_name, safe='')}"
    # Answers Range, and If-Range by this ETag.
    return _RangeResponse(path, headers=headers, media_type=image.file_type)


class _RangeResponse(FileResponse):
    """A file, whole or in ranges, that refuses a Range as everything else is refused here."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal: Response | None = None

        async def send_or_refuse(message: Message) -> None:
            nonlocal refusal
            if message["type"] == "http.response.start" and message["status"] in _RANGE_REFUSALS:
                refusal = _refuse(message["status"], *_RANGE_REFUSALS[message["status"]])
                if size := Headers(raw=message["headers"]).get("content-range"):
                    refusal.headers["Content-Range"] = size
            if refusal is None:
                await send(message)

        await super().__call__(scope, receive, send_or_refuse)
        if refusal:
            await refusal(scope, receive, send)


def _answer_image(store: ImageStore, image_id: int, version: str, if_none_match: str | None, kind: Kind) -> Response:
    if version and if_none_match != "*" and _is_known(f'"{version}"', if_none_match):
        return Response(status_code=304, headers=_describe_caching(version, immutable=True))
    try:
        image = store.get_image(image_id)
        current = get_version(image)
        if kind == "original" and image.frame:
            return _refuse(404, "original_missing", f"Image {image_id} is a frame of a film. {_FILM_INSTEAD}")
        headers = _describe_caching(current, immutable=version == current) | _SAFETY
        if _is_known(headers["ETag"], if_none_match):
            return Response(status_code=304, headers=headers)
        if kind != "original":
            preview = store.read_preview(image_id)
            content = read_small_preview(preview) if kind == "small" else preview
            return Response(content, media_type="image/webp", headers=headers)
        headers["Content-Disposition"] = _describe_disposition(image)
        drawable = image.file_type in DRAWABLE_TYPES
        media_type = image.file_type if drawable else "application/octet-stream"
        return Response(store.read_original(image_id), media_type=media_type, headers=headers)
    except ImageNotFound as error:
        return _refuse(404, "image_not_found", str(error))
    except OriginalMissing as error:
        _LOG.warning("The original of image %d is missing", image_id)
        return _refuse(404, "original_missing", str(error))
    except ImageSearchError as error:
        _LOG.warning("Image %d cannot be read: %s", image_id, error)
        return _refuse(503, "database_unavailable", str(error))


def _is_known(etag: str, if_none_match: str | None) -> bool:
    """Whether If-None-Match names it: a list, compared weakly, or * (RFC 9110, 13.1.2)."""
    named = (if_none_match or "").strip()
    return named == "*" or etag in re.findall(r'"[^"]*"', named)


def _refuse(status: int, code: str, message: str) -> JSONResponse:
    headers = {**_SAFETY, "Cache-Control": "no-store"} | ({"Retry-After": _RETRY_AFTER} if status == 503 else {})
    return JSONResponse({"code": code, "message": message}, status, headers)


def _describe_caching(version: str, immutable: bool) -> dict[str, str]:
    lifetime = "private, max-age=31536000, immutable" if immutable else "private, no-cache"
    return {"ETag": f'"{version}"', "Cache-Control": lifetime}


def _describe_disposition(image: ImageRecord) -> str:
    kind = "inline" if image.file_type in DRAWABLE_TYPES else "attachment"
    return f"{kind}; filename*=UTF-8''{quote(image.file_name, safe='')}"


# Icons, and the manifest that names them.

_ICON_SIZES = (180, 512)  # pixels: home screens of phones; pages that tell of this one
_ICON_CACHING = {"Cache-Control": "max-age=86400"}


def build_icon_routes() -> APIRouter:
    """The router, to be mounted before Gradio's page."""
    router = APIRouter()

    @router.get("/favicon.ico")
    def read_favicon() -> FileResponse:
        return FileResponse(STATIC / "icon.svg", media_type="image/svg+xml", headers=_ICON_CACHING)

    @router.get("/ui/icon-{size}.png")
    def read_icon(size: Literal["180", "512"]) -> FileResponse:
        return FileResponse(STATIC / f"icon-{size}.png", media_type="image/png", headers=_ICON_CACHING)

    @router.get("/manifest.json")
    def read_manifest(request: Request) -> JSONResponse:
        name = translate(get_language(request), "title")
        icons = [{"src": f"ui/icon-{size}.png", "sizes": f"{size}x{size}", "type": "image/png"} for size in _ICON_SIZES]
        manifest = {"name": name, "short_name": name, "start_url": "./", "display": "standalone", "icons": icons}
        return JSONResponse(manifest, headers={"Vary": "Accept-Language"}, media_type="application/manifest+json")

    return router
