"""The page's own addresses below /ui: tiles, facts and changes as JSON, and static files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from image_search.api.schemas import ImageId
from image_search.errors import ImageNotFound, ImageSearchError, StoreUnavailable, UnreadableImage
from image_search.registration.films import list_frames
from image_search.registration.trash import restore_images, trash_images
from image_search.search.duplicates import DuplicateGroup, keep_all
from image_search.search.query import parse_conditions, parse_text, resolve_values
from image_search.stores.base import ImageStore
from image_search.ui.messages import Language, negotiate_language
from image_search.ui.page import read_upload
from image_search.ui.rendering import Encoding, choose_encoding, encode, hash_static, read_static
from image_search.ui.results import PageSearch, describe_error, get_version
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


class EditsIn(BaseModel):
    """Changes to one image; a field that is not given stays as it is."""

    model_config = ConfigDict(extra="forbid")
    description: str | None = Field(None, max_length=100_000)
    keywords: list[Annotated[str, Field(max_length=2000)]] | None = Field(None, max_length=1000)
    rating: int | None = Field(None, ge=0, le=5)
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
        return await answer(request, lambda _: {"choices": find_choices(store, asked, name, find)})

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
        return await answer(request, lambda _: {"count": trash_images(store, chosen.ids)}, writes)

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
