"""Routes of images: previews and originals by image_id, and nothing else of the disk; and the icons of the page."""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal
from urllib.parse import quote

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from image_search.api.schemas import ImageId
from image_search.errors import ImageNotFound, ImageSearchError, OriginalMissing
from image_search.images import read_small_preview
from image_search.records import ImageRecord
from image_search.registration.films import find_film_file
from image_search.stores.base import ImageStore
from image_search.ui.messages import translate
from image_search.ui.rendering import STATIC
from image_search.ui.results import DRAWABLE_TYPES, get_version
from image_search.ui.routes import get_language

# An image can never act as a page, whatever bytes are hidden in it.
_SAFETY = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}

_KEPT: dict[int | str, dict[str, Any]] = {304: {"description": "The picture If-None-Match names is still the same"}}
_PREVIEW = _KEPT | {200: {"content": {"image/webp": {}}, "description": "The preview"}}
_ORIGINAL = _KEPT | {200: {"content": {"*/*": {}}, "description": "The file"}}

_FILM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"video/*": {}}, "description": "The whole film"},
    206: {"content": {"video/*": {}}, "description": "The range of it that Range names"},
    304: {"description": "The film If-None-Match names is still the same"},
    416: {"description": "Range names nothing that the film has"},
}

_log = logging.getLogger(__name__)

IfNoneMatch = Annotated[str | None, Header()]
Kind = Literal["small", "preview", "original"]


def build_routes(store: ImageStore) -> APIRouter:
    """Routes /images/{image_id}/preview, /original and /film.

    ?small=1 is the small preview, for grids. ?v= is the version of the content (Tile.version): with it an address
    always means the same bytes, so that browsers keep them for a year and ask no more; without it they ask again each
    time and get 304 when nothing changed.
    """
    router = APIRouter()
    # Threads of their own: images must not take those of everything else while a database is slow.
    limiter = CapacityLimiter(store.concurrency)

    @router.get(
        "/images/{image_id}/preview", response_class=Response, responses=_PREVIEW, summary="A smaller picture, as WebP"
    )
    async def read_preview(
        image_id: ImageId, v: str = "", small: bool = False, if_none_match: IfNoneMatch = None
    ) -> Response:
        kind: Kind = "small" if small else "preview"
        return await run_sync(lambda: _answer(store, image_id, v, if_none_match, kind), limiter=limiter)

    @router.get(
        "/images/{image_id}/original",
        response_class=Response,
        responses=_ORIGINAL,
        summary="The file as it was registered",
    )
    async def read_original(image_id: ImageId, v: str = "", if_none_match: IfNoneMatch = None) -> Response:
        return await run_sync(lambda: _answer(store, image_id, v, if_none_match, "original"), limiter=limiter)

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
        _log.warning("The film of image %d cannot be read: %s", image_id, error)
        return _refuse(503, "database_unavailable", str(error))
    headers = _describe_caching(image.frame.film_sha256, immutable=False) | _SAFETY
    if if_none_match == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    headers["Content-Disposition"] = f"inline; filename*=UTF-8''{quote(image.file_name, safe='')}"
    # Answers Range, and If-Range by this ETag.
    return FileResponse(path, headers=headers, media_type=image.file_type)


def _answer(store: ImageStore, image_id: int, version: str, if_none_match: str | None, kind: Kind) -> Response:
    if version and if_none_match == f'"{version}"':
        return Response(status_code=304, headers=_describe_caching(version, immutable=True))
    try:
        image = store.get_image(image_id)
        current = get_version(image)
        headers = _describe_caching(current, immutable=version == current) | _SAFETY
        if if_none_match == headers["ETag"]:
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
        _log.warning("The original of image %d is missing", image_id)
        return _refuse(404, "original_missing", str(error))
    except ImageSearchError as error:
        _log.warning("Image %d cannot be read: %s", image_id, error)
        return _refuse(503, "database_unavailable", str(error))


def _refuse(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"code": code, "message": message}, status, {**_SAFETY, "Cache-Control": "no-store"})


def _describe_caching(version: str, immutable: bool) -> dict[str, str]:
    lifetime = "private, max-age=31536000, immutable" if immutable else "private, no-cache"
    return {"ETag": f'"{version}"', "Cache-Control": lifetime}


def _describe_disposition(image: ImageRecord) -> str:
    kind = "inline" if image.file_type in DRAWABLE_TYPES else "attachment"
    return f"{kind}; filename*=UTF-8''{quote(image.file_name, safe='')}"


SIZES = (180, 512)  # pixels: home screens of phones; pages that tell of this one
_CACHING = {"Cache-Control": "max-age=86400"}


def build_icon_routes() -> APIRouter:
    """The router, to be mounted before Gradio's page."""
    router = APIRouter()

    @router.get("/favicon.ico")
    def read_favicon() -> FileResponse:
        return FileResponse(STATIC / "icon.svg", media_type="image/svg+xml", headers=_CACHING)

    @router.get("/ui/icon-{size}.png")
    def read_icon(size: Literal["180", "512"]) -> FileResponse:
        return FileResponse(STATIC / f"icon-{size}.png", media_type="image/png", headers=_CACHING)

    @router.get("/manifest.json")
    def read_manifest(request: Request) -> JSONResponse:
        name = translate(get_language(request), "title")
        icons = [{"src": f"ui/icon-{size}.png", "sizes": f"{size}x{size}", "type": "image/png"} for size in SIZES]
        manifest = {"name": name, "short_name": name, "start_url": "./", "display": "standalone", "icons": icons}
        return JSONResponse(manifest, headers={"Vary": "Accept-Language"}, media_type="application/manifest+json")

    return router
