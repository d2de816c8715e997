"""The library page's addresses below /ui/library: folders, jobs, the trash, models and the samples, as JSON."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from image_search.errors import ImageSearchError, StoreUnavailable
from image_search.images import make_printable
from image_search.records import SearchFilter
from image_search.registration.files import describe_unread
from image_search.registration.films import deleting as trash
from image_search.registration.folders import (
    UNREAD,
    Browsed,
    FolderNotFound,
    FolderRefused,
    FolderRoots,
    add_folder,
    browse_folders,
    find_folder,
    forget_folder,
    list_folders,
)
from image_search.registration.jobs import Job, JobQueue
from image_search.registration.trash import trash_samples
from image_search.stores.base import ImageStore
from image_search.stores.text import decode_path, encode_path
from image_search.ui.messages import Language, translate
from image_search.ui.results import describe_error
from image_search.ui.routes import get_language
from image_search.ui.tiles import make_tile

T = TypeVar("T")

_CONCURRENCY = 4  # threads that wait for the database or a disk
_MAX_PATH = 4096 * 3  # characters
# Sentences of files that could not be registered (images.py), and the key of the same in the visitor's language.
_FAILURES = (
    (re.compile(r"(.+) is empty\."), "failure_empty"),
    (re.compile(r"(.+) is larger than \d+ MiB\..*"), "failure_large"),
    (re.compile(r"(.+) has more than \d+ pixels\..*"), "failure_pixels"),
    (re.compile(r"(.+) is cut short: .*"), "failure_cut"),
    (re.compile(r"(.+) needs more memory .*"), "failure_memory"),
    (re.compile(r"(.+) cannot be read \(.*"), "failure_access"),
    (re.compile(r"(.+) has no index: .*"), "failure_cut"),
    (re.compile(r"(.+) is encrypted\. .*"), "failure_encrypted"),
    (re.compile(r"(.+?) (?:is not a film, |has no (?:moving picture|frame) |is of a codec ).*"), "failure_film"),
    (re.compile(r"(.+?\.\w{1,5}) is (?:not a|an?|damaged) .*"), "failure_damaged"),
)


class FolderIn(BaseModel):
    """A folder, as a stored path (stores.text.encode_path)."""

    model_config = ConfigDict(extra="forbid")
    path: str = Field(max_length=_MAX_PATH)


class TrashIn(BaseModel):
    """Images to remove for good; None: everything in the trash."""

    model_config = ConfigDict(extra="forbid")
    ids: list[Annotated[int, Field(ge=1, le=2**63 - 1)]] | None = Field(None, min_length=1, max_length=10_000)


@dataclass(frozen=True)
class LibraryPage:
    """All the library page needs. samples: folder of the samples; trash_days: 0 for never."""

    store: ImageStore
    jobs: JobQueue
    roots: FolderRoots
    samples: Path
    trash_days: int

    def describe(self, roots: tuple[Path, ...], language: Language) -> dict[str, Any]:
        """Folders, jobs, models, trash and samples. Raises StoreError."""
        status = self.store.get_status()
        samples = self.store.count_images(SearchFilter(folder=os.path.abspath(self.samples)))
        folders = [self._describe_folder(folder, roots) for folder in list_folders(self.store)]
        models = [
            {
                "id": model.model_id,
                "name": model.name,
                "version": model.version,
                "count": count,
                "current": model.is_current,
                "facts": translate(language, "model_facts", count=count, total=status.image_count),
            }
            for model, count in status.models
        ]
        return {
            "count": status.image_count,
            "samples": samples,
            "is_new": not folders and status.image_count == samples,
            "can_add": bool(roots),
            "folders": folders,
            "jobs": self.describe_jobs(language),
            "models": models,
            "trash": status.trash_count,
            "trash_note": translate(
                language, "trash_days" if self.trash_days else "trash_forever", days=self.trash_days
            ),
        }

    def describe_jobs(self, language: Language) -> list[dict[str, Any]]:
        """Jobs for the page, the newest first. Raises StoreError."""
        return [_describe_job(job, language) for job in self.jobs.list_jobs()]

    def list_trash(self, offset: int, limit: int) -> dict[str, Any]:
        """A page of tiles of the trash. Raises StoreError."""
        found, total = trash.list_trash(self.store, limit, offset)
        return {"tiles": [make_tile(hit, max(frames - 1, 0)) for hit, frames in found], "total": total}

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
        return self.store.count_images(SearchFilter(folder=folder))

    def _describe_folder(self, folder: str, roots: tuple[Path, ...]) -> dict[str, Any]:
        is_reachable = any(Path(folder).is_relative_to(root) for root in roots)
        return {
            "path": encode_path(folder),
            "name": make_printable(folder),
            "count": self.store.count_images(SearchFilter(folder=folder)),
            "can_scan": is_reachable,
            # Of a folder outside the roots it is not told whether it is there.
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
            return _say(_describe_error(error, language), 503 if isinstance(error, StoreUnavailable) else 400)
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
        return await answer(request, lambda _: {"cancelled": library.jobs.cancel(job_id)})

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

    @router.get("/trash")
    async def read_trash(
        request: Request,
        offset: Annotated[int, Query(ge=0, le=10**7)] = 0,
        limit: Annotated[int, Query(ge=1, le=200)] = 48,
    ) -> Response:
        return await answer(request, lambda _: library.list_trash(offset, limit))

    @router.post("/trash/empty")
    async def empty_trash(request: Request, chosen: TrashIn) -> Response:
        return await answer(request, lambda _: {"count": trash.empty_trash(library.store, chosen.ids)})

    @router.post("/samples/remove")
    async def remove_samples(request: Request) -> Response:
        return await answer(request, lambda _: {"count": trash_samples(library.store, library.samples)})

    @router.post("/models/{model_id}/use")
    async def use_model(request: Request, model_id: int) -> Response:
        def use(_: Language) -> dict[str, int]:
            library.store.set_current_model(model_id)
            return {"model": model_id}

        return await answer(request, use)

    return router


def _describe_browsed(found: Browsed) -> dict[str, Any]:
    folders = [{"path": path, "name": name} for path, name in found.folders]
    name = make_printable(decode_path(found.path))
    return {"path": found.path, "name": name, "parent": found.parent, "folders": folders}


def _describe_job(job: Job, language: Language) -> dict[str, Any]:
    counts: Mapping[str, int] = job.counts or {}
    facts = []
    if job.state == "running" and job.total:
        facts.append(translate(language, "job_progress", done=job.done, total=job.total))
        if job.rate:
            facts.append(translate(language, "job_rate", rate=f"{job.rate:.1f}" if job.rate < 10 else round(job.rate)))
        if job.seconds_left is not None:
            facts.append(_describe_time_left(job.seconds_left, language))
    elif job.state in ("done", "cancelled", "failed"):
        names = ("registered", "updated", "moved", "known", "deleted", "left_out")
        facts += [translate(language, f"job_{name}", count=counts[name]) for name in names if counts.get(name)]
        if counts.get("films"):
            facts.append(translate(language, "job_films", films=counts["films"], frames=counts["frames"]))
        if unread := {name.removeprefix(UNREAD): n for name, n in counts.items() if name.startswith(UNREAD)}:
            total, kinds = describe_unread(unread, translate(language, "job_unread_other"))
            facts.append(translate(language, "job_unread", count=total, kinds=kinds))
        if job.state == "done" and not any(map(counts.get, names)):
            facts.append(translate(language, "job_nothing"))
    return {
        "id": job.job_id,
        "title": translate(language, f"job_{job.kind}", name=make_printable(decode_path(job.target))),
        "state": job.state,
        "state_text": translate(language, f"job_{job.state}"),
        "done": job.done,
        "total": job.total,
        "facts": facts,
        "failed": job.failed,
        "failed_text": translate(language, "job_failures", count=job.failed) if job.failed else "",
        "failures": [_describe_failure(sentence, language) for sentence in job.failures],
        "error": job.error,
    }


def _describe_time_left(seconds: float, language: Language) -> str:
    if seconds < 60:
        return translate(language, "job_seconds_left", count=max(round(seconds), 1))
    if seconds < 3600:
        return translate(language, "job_minutes_left", count=round(seconds / 60))
    return translate(language, "job_hours_left", hours=int(seconds // 3600), minutes=int(seconds % 3600 // 60))


def _describe_failure(sentence: str, language: Language) -> str:
    """A sentence about a file in the visitor's language; one that is not known as it is."""
    for pattern, key in _FAILURES:
        match = pattern.fullmatch(sentence)
        if match:
            return translate(language, key, name=match[1])
    return sentence


def _describe_error(error: ImageSearchError, language: Language) -> dict[str, Any]:
    if isinstance(error, FolderRefused | FolderNotFound):
        key = "folder_refused" if isinstance(error, FolderRefused) else "folder_not_found"
        return {"kind": "problem", "code": key, "title": translate(language, key), "hint": ""}
    return describe_error(error, language)


def _say(content: object, status: int = 200) -> JSONResponse:
    return JSONResponse(content, status, {"Cache-Control": "no-store", "Vary": "Accept-Language"})
