"""The selection's addresses below /ui/selection: what a search finds, and changes to many images at once."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from image_search.errors import ImageNotFound, ImageSearchError, OriginalMissing, StoreUnavailable
from image_search.images import make_printable
from image_search.records import Edits, ImageRecord
from image_search.registration.films import change_edits, find_film_file
from image_search.search.exporting import MAX_SHEET_IMAGES, draw_contact_sheet, stream_zip
from image_search.stores.base import ImageStore
from image_search.ui.messages import Language, translate
from image_search.ui.results import PageSearch, describe_error, find_cutoff
from image_search.ui.routes import ImageIds, get_language
from image_search.ui.search_form import SearchForm, from_query_string
from image_search.ui.viewer import merge_keywords

T = TypeVar("T")

MAX_SELECTED = 50_000
_BEST = 1000  # hits of a semantic search that are looked through for those above the line
_PAGE = 500  # records read at a time
_CONCURRENCY = 4  # threads that wait for the database
_MAX_DOWNLOADS = 64  # prepared and not forgotten yet

Keyword = Annotated[str, Field(min_length=1, max_length=1000)]


class _IdsIn(BaseModel):
    model_config = ConfigDict(extra="forbid")
    ids: ImageIds


class _KeywordsIn(_IdsIn):
    """Keywords to add to each image, and to take off each."""

    add: list[Keyword] = Field([], max_length=200)
    remove: list[Keyword] = Field([], max_length=200)


class _RatingIn(_IdsIn):
    """rating: None goes back to what the file says."""

    rating: int | None = Field(ge=0, le=5)


class DownloadGone(ImageSearchError):
    """A token of a download that is not kept, or never was."""


class Downloads:
    """Selections that a browser is about to fetch, by token. Safe to use from several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, image_ids: Sequence[int]) -> str:
        """Keep a selection. Returns its token."""
        token = secrets.token_hex(16)
        with self._lock:
            self._kept[token] = tuple(image_ids)
            while len(self._kept) > _MAX_DOWNLOADS:
                self._kept.popitem(last=False)
        return token

    def get(self, token: str) -> tuple[int, ...]:
        """The images of a token. Raises DownloadGone when it is not kept any more."""
        with self._lock:
            found = self._kept.get(token)
        if found is None:
            raise DownloadGone("The download is no longer prepared. Select the pictures again.")
        return found


def build_selection_routes(search: PageSearch) -> APIRouter:
    """The router, to be mounted before Gradio's page."""
    router = APIRouter(prefix="/ui/selection", default_response_class=JSONResponse)
    store, downloads, limiter = search.searcher.store, Downloads(), CapacityLimiter(_CONCURRENCY)
    writes = CapacityLimiter(_CONCURRENCY)  # they may wait for a lock of the database, and no reading with them

    async def answer(request: Request, work: Callable[[], T], limiter: CapacityLimiter = limiter) -> Response:
        try:
            found: object = await run_sync(work, limiter=limiter)
        except DownloadGone:
            title = translate(get_language(request), "download_gone")
            return _say({"kind": "problem", "code": "download_gone", "title": title, "hint": ""}, 404)
        except ImageSearchError as error:
            status = 404 if isinstance(error, ImageNotFound) else 503 if isinstance(error, StoreUnavailable) else 400
            return _say(describe_error(error, get_language(request)), status)
        return found if isinstance(found, Response) else _say(found)

    @router.get("")
    async def read_found(request: Request) -> Response:
        return await answer(request, lambda: find_ids(search, from_query_string(request.query_params)))

    @router.post("/keywords")
    async def edit_keywords(request: Request, chosen: _KeywordsIn) -> Response:
        return await answer(request, lambda: change_keywords(store, chosen.ids, chosen.add, chosen.remove), writes)

    @router.post("/rating")
    async def edit_rating(request: Request, chosen: _RatingIn) -> Response:
        return await answer(request, lambda: set_rating(store, chosen.ids, chosen.rating), writes)

    @router.post("/paths")
    async def read_paths(request: Request, chosen: _IdsIn) -> Response:
        return await answer(request, lambda: _list_paths(store, chosen.ids))

    @router.post("/downloads")
    async def prepare_download(request: Request, chosen: _IdsIn) -> Response:
        return await answer(request, lambda: _prepare(store, downloads, chosen.ids))

    @router.get("/downloads/{token}/pictures.zip")
    async def read_zip(request: Request, token: str) -> Response:
        language = get_language(request)
        return await answer(request, lambda: _send_zip(store, downloads.get(token), language))

    @router.get("/downloads/{token}/contact_sheet.jpg")
    async def read_sheet(request: Request, token: str) -> Response:
        return await answer(request, lambda: _send_sheet(store, downloads.get(token)))

    return router


def find_ids(search: PageSearch, asked: SearchForm) -> dict[str, Any]:
    """{ids, total, kind} of all that a search finds. Raises ImageSearchError.

    kind: "all", ids are the first MAX_SELECTED of total; "best" for a search by meaning, ids are those above the line
    of relevance and total is their number; "none" when no hit stands out.
    """
    plan = search.plan(asked)
    if plan.blend is None:
        ids: list[int] = []
        total = 1
        while len(ids) < min(total, MAX_SELECTED):
            order = asked.store_order or "registered"
            page = search.searcher.rank(plan, _PAGE, len(ids), order)
            ids += [hit.image_id for hit in page.hits]
            total = page.total if page.hits else len(ids)
        return {"ids": ids[:MAX_SELECTED], "total": total, "kind": "all"}
    hits = search.searcher.rank(plan, _BEST).hits
    best = [hit.image_id for hit in hits[: find_cutoff(hits)]]
    return {"ids": best, "total": len(best), "kind": "best" if best else "none"}


def change_keywords(
    store: ImageStore, image_ids: Sequence[int], add: Sequence[str], remove: Sequence[str]
) -> dict[str, Any]:
    """Add keywords to the person's layer of each image behind those it has, and take others off. Raises StoreError.

    Returns {added, missing}: by keyword the images that lacked it, so that it can be undone; the images that are gone.
    """
    words = list(dict.fromkeys(word for keyword in add if (word := keyword.strip())))
    before: dict[int, tuple[str, ...]] = {}

    def change(image: ImageRecord) -> Edits:
        before[image.image_id] = image.keywords
        return merge_keywords(image, words, remove)

    missing = change_edits(store, image_ids, change)
    live = _leave_out(image_ids, missing)
    added = {word: [image_id for image_id in live if word not in before[image_id]] for word in words}
    return {"missing": missing, "added": added}


def set_rating(store: ImageStore, image_ids: Sequence[int], rating: int | None) -> dict[str, Any]:
    """Rate each image; None goes back to what its file says. Raises StoreError.

    Returns {before, missing}: [{rating, ids}], what the person had said of them, so that it can be undone.
    """
    before: dict[int, int | None] = {}

    def change(image: ImageRecord) -> Edits:
        before[image.image_id] = image.edits.rating
        return replace(image.edits, rating=None if rating == (image.text.rating or 0) else rating)

    missing = change_edits(store, image_ids, change)
    groups: dict[int | None, list[int]] = {}
    for image_id in _leave_out(image_ids, missing):
        groups.setdefault(before[image_id], []).append(image_id)
    return {"before": [{"rating": said, "ids": ids} for said, ids in groups.items()], "missing": missing}


def _leave_out(image_ids: Sequence[int], missing: Sequence[int]) -> list[int]:
    gone = set(missing)
    return [image_id for image_id in dict.fromkeys(image_ids) if image_id not in gone]


def _read_live(store: ImageStore, image_ids: Sequence[int]) -> Iterator[tuple[int, ImageRecord | None]]:
    ids = list(dict.fromkeys(image_ids))
    for start in range(0, len(ids), _PAGE):
        batch = ids[start : start + _PAGE]
        found = store.find_images(batch)
        for image_id in batch:
            image = found.get(image_id)
            yield image_id, None if image is None or image.deleted_at else image


def _list_paths(store: ImageStore, image_ids: Sequence[int]) -> dict[str, Any]:
    """{paths, without, missing}: where the files are, how many images have no file, which images are gone."""
    paths, without, missing = [], 0, []
    for image_id, image in _read_live(store, image_ids):
        if image is None:
            missing.append(image_id)
        elif image.file_path:
            paths.append(make_printable(image.file_path))
        else:
            without += 1
    return {"paths": paths, "without": without, "missing": missing}


def _prepare(store: ImageStore, downloads: Downloads, image_ids: Sequence[int]) -> dict[str, Any]:
    """{token, count, files, bytes, absent, missing}.

    count: images; files: how many files of bytes together they are, a film one; absent: names of those that are not
    there; missing: images that are gone.
    """
    chosen, sizes, absent, missing = [], list[int](), [], []
    films = set[str]()
    for image_id, image in _read_live(store, image_ids):
        if image is None:
            missing.append(image_id)
            continue
        chosen.append(image_id)
        if image.frame and image.frame.film_sha256 in films:
            continue
        if image.frame:
            films.add(image.frame.film_sha256)
        if _has_file(store, image):
            sizes.append(image.byte_size)
        else:
            absent.append(image.file_name)
    if not chosen:
        raise ImageNotFound("All of the selected pictures have been deleted.")
    token = downloads.add(chosen)
    counts = {"count": len(chosen), "files": len(sizes), "bytes": sum(sizes)}
    return {"token": token, **counts, "absent": absent, "missing": missing}


def _has_file(store: ImageStore, image: ImageRecord) -> bool:
    if image.frame is None:
        return store.has_original(image.content_sha256)
    try:
        find_film_file(image)
    except OriginalMissing:
        return False
    return True


def _send_zip(store: ImageStore, image_ids: Sequence[int], language: Language) -> Response:
    def describe_missing(names: list[str]) -> tuple[str, str]:
        lines = [translate(language, "zip_missing", count=len(names)), *names]
        return f"{translate(language, 'zip_missing_name')}.txt", "\r\n".join(lines) + "\r\n"

    name = f"pictures_{datetime.now():%Y-%m-%d_%H%M%S}.zip"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingResponse(
        stream_zip(store, image_ids, describe_missing, find_film_file), media_type="application/zip", headers=headers
    )


def _send_sheet(store: ImageStore, image_ids: Sequence[int]) -> Response:
    found = store.find_images(image_ids[:MAX_SHEET_IMAGES])
    captions = {}
    for number, image_id in enumerate(image_ids[:MAX_SHEET_IMAGES], start=1):
        name = found[image_id].file_name if image_id in found else ""
        # The font of the sheet has Latin letters only.
        captions[image_id] = f"{number}  {name}" if name.isascii() else f"{number}"
    headers = {"Content-Disposition": 'attachment; filename="contact_sheet.jpg"', "Cache-Control": "no-store"}
    return Response(draw_contact_sheet(store, captions), media_type="image/jpeg", headers=headers)


def _say(content: object, status: int = 200) -> JSONResponse:
    return JSONResponse(content, status, {"Cache-Control": "no-store", "Vary": "Accept-Language"})
