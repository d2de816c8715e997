"""Icons of the page, and the manifest that names them, in place of Gradio's."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse

from image_search.ui.messages import translate
from image_search.ui.rendering import STATIC
from image_search.ui.routes import get_language

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
