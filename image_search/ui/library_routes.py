"""The library page's addresses below /ui/library: folders, jobs, the trash, models and the samples, as JSON."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from image_search.api.schemas import ImageId
from image_search.disk_space import measure_disk
from image_search.errors import ImageSearchError, ModelUnavailable, StoreFull, StoreUnavailable
from image_search.images import make_printable
from image_search.library import check_choice, list_choices
from image_search.records import Finding, SearchFilter
from image_search.registration import trash
from image_search.registration.folders import (
    Browsed,
    FolderNotFound,
    FolderRefused,
    FolderRoots,
    add_folder,
    browse_folders,
    find_folder,
    forget_folder,
    list_folders,
    list_watched,
    set_watched,
)
from image_search.registration.jobs import JobQueue
from image_search.registration.rereading import add_reading
from image_search.registration.uploads import BatchGone, UploadInbox
from image_search.search import count_hits
from image_search.settings import Settings
from image_search.stores.base import ImageStore
from image_search.stores.text import decode_path, encode_path
from image_search.ui.library_texts import (
    describe_bytes,
    describe_duplicates,
    describe_finding,
    describe_job,
    describe_model,
)
from image_search.ui.messages import Language, translate
from image_search.ui.results import describe_error, make_tile
from image_search.ui.routes import get_language

T = TypeVar("T")

_CONCURRENCY = 4  # threads that wait for the database or a disk
_MAX_PATH = 4096 * 3  # characters


class FolderIn(BaseModel):
    """A folder, as a stored path (stores.text.encode_path)."""

    model_config = ConfigDict(extra="forbid")
    path: str = Field(max_length=_MAX_PATH)


class WatchIn(FolderIn):
    """Whether a folder is scanned whenever it changes."""

    is_watched: bool


class ModelIn(BaseModel):
    """A model by its name in the list of models."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=500)


class BatchIn(BaseModel):
    """Files that will be sent, by their names."""

    model_config = ConfigDict(extra="forbid")
    names: list[Annotated[str, Field(max_length=1000)]] = Field(min_length=1, max_length=10_000)


class TrashIn(BaseModel):
    """Images to remove for good; None: everything in the trash, as long as it has this version where one is given."""

    model_config = ConfigDict(extra="forbid")
    ids: list[ImageId] | None = Field(None, min_length=1, max_length=10_000)
    version: str = Field("", max_length=100)


@dataclass(frozen=True)
class LibraryPage:
    """All the library page needs.

    samples: folder of the samples; find_model: name of the model in use; is_prepared: whether no more samples will
    come, so that removing them leaves none.
    """

    store: ImageStore
    jobs: JobQueue
    roots: FolderRoots
    samples: Path
    settings: Settings
    find_model: Callable[[], str]
    inbox: UploadInbox
    check: Callable[[], Iterable[Finding]] | None = None
    is_prepared: Callable[[], bool] = lambda: True

    def describe(self, roots: tuple[Path, ...], language: Language) -> dict[str, Any]:
        """Folders, jobs, models and samples. Raises StoreError."""
        status = self.store.get_status()
        samples = self.store.count_images(SearchFilter(folder=os.path.abspath(self.samples)))
        watched = list_watched(self.store)
        folders = [
            {**self._describe_folder(folder, roots), "is_watched": folder in watched}
            for folder in list_folders(self.store)
        ]
        trash_days = self.settings.trash_days
        return {
            "count": status.image_count,
            "samples": samples,
            "has_all_samples": self.is_prepared(),
            "is_new": not folders and status.image_count == samples,
            "can_add": bool(roots),
            "folders": folders,
            "jobs": self.describe_jobs(language),
            **self.describe_models(status.image_count, language),
            "trash_note": translate(language, "trash_days" if trash_days else "trash_forever", days=trash_days),
            "has_password": bool(self.settings.app_password),
        }

    def describe_jobs(self, language: Language) -> list[dict[str, Any]]:
        """Jobs for the page, the newest first. Raises StoreError."""
        return [describe_job(job, language) for job in self.jobs.list_jobs()]

    def describe_models(self, image_count: int, language: Language) -> dict[str, Any]:
        """The model in use with what it knows, and those that may be chosen. Raises StoreError."""
        in_use = self.find_model()
        choices = list_choices(self.store, self.settings, in_use)
        given = self.settings.embedding_model
        return {
            "models": [describe_model(choice, choice.name == in_use, image_count, language) for choice in choices],
            "model_note": translate(language, "model_set", name=given) if given else "",
        }

    def watch(self, stored: str, is_watched: bool, roots: tuple[Path, ...]) -> bool:
        """Scan a folder of the library whenever it changes, or no more. Raises as add does."""
        folder = find_folder(stored, roots)
        if folder not in list_folders(self.store):
            raise FolderNotFound("The folder is no longer in the list. Add it again.")
        set_watched(self.store, folder, is_watched)
        return is_watched

    def begin_upload(self, names: list[str]) -> dict[str, Any]:
        """Begin a batch of files, which a job registers. Raises StoreError."""
        running = [job.target for job in self.jobs.list_jobs() if job.state in ("waiting", "running")]
        batch = self.inbox.begin(names, running)
        return {"batch": batch, "job": self.jobs.add("upload", batch).job_id}

    def cancel(self, job_id: int) -> bool:
        """End a job early. Whether it was waiting or running. Raises StoreError."""
        was_open = self.jobs.cancel(job_id)
        for job in self.jobs.list_jobs():
            # A running one removes its files itself, when it is through with the one in hand.
            if job.job_id == job_id and (job.kind, job.state) == ("upload", "cancelled"):
                self.inbox.end(job.target)
        return was_open

    def change_model(self, name: str) -> int:
        """Download, embed and use a model. Returns the job's id. Raises ModelUnavailable for one that may not be."""
        check_choice(name, list_choices(self.store, self.settings, self.find_model()), self.settings)
        return self.jobs.add("model", name).job_id

    def list_trash(self, offset: int, limit: int) -> dict[str, Any]:
        """A page of tiles of the trash. Raises StoreError."""
        found, total, version = trash.list_trash(self.store, limit, offset)
        tiles = [make_tile(hit, max(frames - 1, 0)) for hit, frames in found]
        return {"tiles": tiles, "total": total, "version": version}

    def empty_trash(self, chosen: TrashIn) -> int:
        """Remove images in the trash for good. Returns how many it was. Raises TrashChanged, StoreError."""
        if chosen.ids is None and chosen.version:
            return trash.empty_known_trash(self.store, chosen.version)
        return trash.empty_trash(self.store, chosen.ids)

    def add(self, stored: str, roots: tuple[Path, ...]) -> int:
        """Keep a folder with the library and scan it. Returns the job's id. Raises FolderRefused, FolderNotFound."""
        folder = find_folder(stored, roots)
        add_folder(self.store, folder)
        return self.jobs.add("scan", encode_path(folder)).job_id

    def scan(self, stored: str, roots: tuple[Path, ...]) -> int:
        """Scan a folder of the library again. Returns the job's id. Raises as add does."""
        folder = find_folder(stored, roots)
        if folder not in list_folders(self.store):
            raise FolderNotFound("The folder is no longer in the list. Add it again.")
        return self.jobs.add("scan", encode_path(folder)).job_id

    def remove(self, stored: str) -> int:
        """Take a folder off the list, and end its scan. Returns how many images stay. Raises StoreError."""
        folder = decode_path(stored)
        forget_folder(self.store, folder)
        for job in self.jobs.list_jobs():
            if job.target == stored and job.state in ("waiting", "running"):
                self.jobs.cancel(job.job_id)
        return count_hits(self.store, SearchFilter(folder=folder))

    def forget_texts(self) -> int:
        """Forget all recognised text, and end a reading of it. Returns the job's id. Raises StoreError."""
        for job in self.jobs.list_jobs():
            if job.kind == "read_text" and job.state in ("waiting", "running"):
                self.jobs.cancel(job.job_id)
        return self.jobs.add("forget_text", "").job_id

    def _describe_folder(self, folder: str, roots: tuple[Path, ...]) -> dict[str, Any]:
        is_reachable = any(Path(folder).is_relative_to(root) for root in roots)
        return {
            "path": encode_path(folder),
            "name": make_printable(folder),
            "count": count_hits(self.store, SearchFilter(folder=folder)),
            "can_scan": is_reachable,
            # A folder outside the roots is refused alike, whether it exists or not.
            "is_missing": is_reachable and not os.path.isdir(folder),
        }


def build_library_routes(library: LibraryPage) -> APIRouter:  # noqa: C901  one place for all addresses of the tab
    """The router, to be mounted before Gradio's page."""
    router = APIRouter(prefix="/ui/library", default_response_class=JSONResponse)
    limiter = CapacityLimiter(_CONCURRENCY)

    async def answer(request: Request, work: Callable[[Language], T]) -> Response:
        language = get_language(request)
        try:
            found: object = await run_sync(lambda: work(language), limiter=limiter)
        except ImageSearchError as error:
            return _say(_describe_error(error, language), _find_status(error))
        return _say(found)

    def find_roots(request: Request) -> tuple[Path, ...]:
        headers = request.headers
        return library.roots.find(any(name in headers for name in ("forwarded", "x-forwarded-for", "x-real-ip")))

    @router.get("")
    async def read_library(request: Request) -> Response:
        return await answer(request, lambda language: library.describe(find_roots(request), language))

    @router.get("/jobs")
    async def read_jobs(request: Request) -> Response:
        return await answer(request, lambda language: {"jobs": library.describe_jobs(language)})

    @router.post("/jobs/{job_id}/cancel")
    async def cancel_job(request: Request, job_id: int) -> Response:
        return await answer(request, lambda _: {"cancelled": library.cancel(job_id)})

    @router.get("/browse")
    async def browse(request: Request, path: Annotated[str, Query(max_length=_MAX_PATH)] = "") -> Response:
        return await answer(request, lambda _: _describe_browsed(browse_folders(path, find_roots(request))))

    @router.post("/folders")
    async def post_folder(request: Request, folder: FolderIn) -> Response:
        return await answer(request, lambda _: {"job": library.add(folder.path, find_roots(request))})

    @router.post("/folders/scan")
    async def scan_folder(request: Request, folder: FolderIn) -> Response:
        return await answer(request, lambda _: {"job": library.scan(folder.path, find_roots(request))})

    @router.post("/folders/remove")
    async def remove_folder(request: Request, folder: FolderIn) -> Response:
        return await answer(request, lambda _: {"count": library.remove(folder.path)})

    @router.post("/folders/watch")
    async def watch_folder(request: Request, folder: WatchIn) -> Response:
        roots = find_roots(request)
        return await answer(request, lambda _: {"is_watched": library.watch(folder.path, folder.is_watched, roots)})

    @router.get("/duplicates")
    async def read_duplicates(request: Request) -> Response:
        return await answer(request, lambda language: describe_duplicates(library.store, language))

    @router.post("/duplicates")
    async def find_duplicates(request: Request) -> Response:
        return await answer(request, lambda _: {"job": library.jobs.add("duplicates", "").job_id})

    @router.get("/disk")
    async def read_disk(request: Request) -> Response:
        def measure(language: Language) -> dict[str, Any]:
            sizes = measure_disk(library.store, library.settings)
            return {
                "parts": [
                    {"name": translate(language, f"disk_{name}"), "size": describe_bytes(size)}
                    for name, size in sizes.items()
                ]
            }

        return await answer(request, measure)

    @router.get("/check")
    async def check(request: Request) -> Response:
        findings = library.check or (lambda: ())
        return await answer(
            request, lambda language: {"findings": [describe_finding(found, language) for found in findings()]}
        )

    @router.post("/uploads")
    async def begin_upload(request: Request, files: BatchIn) -> Response:
        return await answer(request, lambda _: library.begin_upload(files.names))

    @router.post("/uploads/{batch}/{number}")
    async def receive_upload(request: Request, batch: str, number: int) -> Response:
        """The bytes of one file of a batch."""
        try:
            await library.inbox.receive(batch, number, request.stream())
        except ImageSearchError as error:
            status = 404 if isinstance(error, BatchGone) else 507
            return _say(_describe_error(error, get_language(request)), status)
        return _say({"received": number})

    @router.post("/text/read")
    async def read_texts(request: Request) -> Response:
        return await answer(request, lambda _: {"job": add_reading(library.jobs).job_id})

    @router.post("/text/forget")
    async def forget_texts(request: Request) -> Response:
        return await answer(request, lambda _: {"job": library.forget_texts()})

    @router.get("/trash")
    async def read_trash(
        request: Request,
        offset: Annotated[int, Query(ge=0, le=10**7)] = 0,
        limit: Annotated[int, Query(ge=1, le=200)] = 48,
    ) -> Response:
        return await answer(request, lambda _: library.list_trash(offset, limit))

    @router.post("/trash/empty")
    async def empty_trash(request: Request, chosen: TrashIn) -> Response:
        return await answer(request, lambda _: {"count": library.empty_trash(chosen)})

    @router.post("/samples/remove")
    async def remove_samples(request: Request) -> Response:
        return await answer(request, lambda _: {"count": trash.trash_samples(library.store, library.samples)})

    @router.post("/models/use")
    async def use_model(request: Request, model: ModelIn) -> Response:
        return await answer(request, lambda _: {"job": library.change_model(model.name)})

    return router


def _describe_browsed(found: Browsed) -> dict[str, Any]:
    folders = [{"path": path, "name": name} for path, name in found.folders]
    name = make_printable(decode_path(found.path))
    return {"path": found.path, "name": name, "parent": found.parent, "folders": folders}


def _find_status(error: ImageSearchError) -> int:
    if isinstance(error, trash.TrashChanged):
        return 409
    return 503 if isinstance(error, StoreUnavailable) else 400


def _describe_error(error: ImageSearchError, language: Language) -> dict[str, Any]:
    if isinstance(error, FolderRefused | FolderNotFound):
        key = "folder_refused" if isinstance(error, FolderRefused) else "folder_not_found"
        return {"kind": "problem", "code": key, "title": translate(language, key), "hint": ""}
    if isinstance(error, trash.TrashChanged):
        return {"kind": "problem", "code": "trash_changed", "title": translate(language, "trash_changed"), "hint": ""}
    if isinstance(error, StoreFull):
        return {"kind": "problem", "code": "disk_full", "title": translate(language, "upload_disk_full"), "hint": ""}
    if isinstance(error, ModelUnavailable) and error.code:
        key = f"model_error_{error.code}"
        return {"kind": "problem", "code": error.code, "title": translate(language, key), "hint": ""}
    return describe_error(error, language)


def _say(content: object, status: int = 200) -> JSONResponse:
    return JSONResponse(content, status, {"Cache-Control": "no-store", "Vary": "Accept-Language"})
