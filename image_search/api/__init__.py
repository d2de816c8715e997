"""Operations of the library for REST, Gradio and MCP, with limits on concurrent work."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path
from typing import TypeVar

import anyio.to_thread

from image_search.api.schemas import (
    Count,
    Cursor,
    DeletedOut,
    EditsIn,
    Extracted,
    Hit,
    ImageOut,
    ModelOut,
    Registered,
    SearchAnswer,
    SearchRequest,
    Status,
    TagOut,
    TrashOut,
)
from image_search.errors import ImageSearchError, ModelUnavailable, UnreadableImage
from image_search.images import decode_image
from image_search.records import ImageRecord
from image_search.registration.files import find_files, is_film
from image_search.registration.films import edit_image
from image_search.registration.pipeline import ImageReader
from image_search.registration.rereading import update_texts
from image_search.registration.trash import delete_images, empty_trash, list_trash, restore_images, trash_images
from image_search.registration.uploads import (
    PreparedUpload,
    UploadedImage,
    prepare_upload,
    register_uploaded_film,
    store_upload,
)
from image_search.search import Searcher, SearchResult
from image_search.search.query import Query
from image_search.stores.base import ImageStore
from image_search.stores.reads import image_not_found
from image_search.stores.text import sanitize

# The folders that a program may name: those below the configured roots, after links are resolved.

MAX_WARNINGS = 100


class FolderRefused(ImageSearchError):
    """A folder that no program may name."""


class AfterRefused(ImageSearchError):
    """A cursor for hits that are ranked."""


class FolderNotFound(ImageSearchError):
    """A folder below a root does not exist."""


def extract_texts(store: ImageStore, folder: str, roots: Sequence[Path], reader: ImageReader) -> Extracted:
    """Read again what the files of a folder say, and store it with their images. roots: without links.

    Raises FolderRefused, FolderNotFound, StoreError.
    """
    place = _find_folder(folder, roots)
    found = find_files([place])
    inside = [file for file in found.files if _is_below(Path(file.path).resolve(), roots)]
    counts: Counter[str] = Counter(failed=len(found.failures))
    warnings = list(found.failures)
    for update in update_texts(store, inside, reader):
        counts[update.outcome] += 1
        warnings += [update.warning] if update.warning else []
    return Extracted(
        updated=counts["updated"],
        unchanged=counts["unchanged"],
        no_text=counts["no text"],
        failed=counts["failed"],
        warnings=warnings[:MAX_WARNINGS],
    )


def _find_folder(folder: str, roots: Sequence[Path]) -> Path:
    if not roots:
        raise FolderRefused("No folder of this computer is open to programs. Name some in APP_EXTRACT_ROOTS.")
    try:
        place = Path(folder).resolve()
    except (OSError, ValueError, RuntimeError):  # a zero byte, or links in a circle
        place = Path()
    # A folder elsewhere is refused before it is looked at: do not reveal whether it exists.
    if not Path(folder).is_absolute() or not _is_below(place, roots):
        raise FolderRefused("The folder is not below one of APP_EXTRACT_ROOTS. Give its whole path.")
    if not os.path.isdir(place):  # Path.is_dir raises for a name that is too long
        raise FolderNotFound("There is no such folder below APP_EXTRACT_ROOTS.")
    return place


def _is_below(place: Path, roots: Sequence[Path]) -> bool:
    return any(place.is_relative_to(root) for root in roots)


# Concurrency limits, and the bounded wait before a request is rejected.

_MAX_GATHERING = 0.1  # seconds

T = TypeVar("T")


class Overloaded(ImageSearchError):
    """Too many concurrent requests. retry_after: seconds."""

    def __init__(self, message: str, retry_after: float = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def _refuse(resource: str) -> Overloaded:
    return Overloaded(f"The {resource} is busy with other requests. Try again in a few seconds.")


class ConcurrencyLimiter:
    """Does work in a bounded number of threads, in the order it came; a bounded number waits, for a bounded time.

    Waiting holds no thread. A thread that is done begins the next piece at once: over the event loop that takes longer
    than a search of a small library, when all of Python is busy.
    """

    def __init__(self, name: str, at_once: int, waiting: int, max_wait: float) -> None:
        """name: of the resource, for the message. max_wait: seconds."""
        self._name = name
        self._at_once = at_once
        self._most = at_once + waiting
        self._patience = max_wait
        self._count = 0
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix=name)
        self.on_drained: Callable[[], None] = lambda: None  # called when a piece is done and none waits

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return max(0, self._count - self._at_once)

    async def run(self, work: Callable[[], T]) -> T:
        """Do the work in a thread. Raises Overloaded when too many wait already."""
        if self._count >= self._most:
            raise _refuse(self._name)
        self._count += 1
        asked = self._threads.submit(work)
        timer = asyncio.get_running_loop().call_later(self._patience, asked.cancel)  # does nothing once it has begun
        try:
            return await asyncio.wrap_future(asked)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) and task.cancelling():
                raise
            raise _refuse(self._name) from None
        finally:
            timer.cancel()
            self._count -= 1
            if not self.waiting:
                self.on_drained()


class TextGate:
    """Has the texts of requests that wait together embedded as one batch, in one thread; a bounded number waits.

    A text alone costs as much as five of sixteen, and a thread for each request more than its share of a batch.
    """

    def __init__(
        self,
        embed: Callable[[Sequence[str]], object],
        is_busy: Callable[[], bool],
        at_once: int = 16,
        waiting: int = 64,
        max_wait: float = 20,
    ) -> None:
        """is_busy: whether there is other work meanwhile, so that texts may gather. max_wait: seconds."""
        self._embed = embed
        self._is_busy = is_busy
        self._at_once = at_once
        self._most = at_once + waiting
        self._patience = max_wait
        self._count = 0
        self._waiting: list[tuple[Sequence[str], asyncio.Future[None], asyncio.Timeout]] = []
        self._worker: asyncio.Task[None] | None = None
        self._is_time = asyncio.Event()

    async def run(self, texts: Sequence[str]) -> None:
        """Return when the texts were embedded, or could not be: the plan that needs one fails by itself.

        Raises Overloaded when too many wait already, ModelUnavailable.
        """
        if self._count >= self._most:
            raise _refuse("model")
        done = asyncio.get_running_loop().create_future()
        self._count += 1
        try:
            async with asyncio.timeout(self._patience) as patience:  # until the batch begins
                self._waiting.append(asked := (texts, done, patience))
                if len(self._waiting) >= self._at_once:
                    self.start_batch()
                self._worker = self._worker or asyncio.create_task(self._work())
                await done
        except TimeoutError:
            raise _refuse("model") from None
        finally:
            self._count -= 1
            if asked in self._waiting:
                self._waiting.remove(asked)

    def start_batch(self) -> None:
        """Let the texts that gather wait no longer."""
        self._is_time.set()

    async def _work(self) -> None:
        while self._waiting:
            if self._is_busy() and len(self._waiting) < self._at_once:
                self._is_time.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_MAX_GATHERING):
                        await self._is_time.wait()
            batch, self._waiting = self._waiting[: self._at_once], self._waiting[self._at_once :]
            for _, _, patience in batch:
                patience.reschedule(None)
            failure: ModelUnavailable | None = None
            try:
                await anyio.to_thread.run_sync(self._embed, [text for texts, *_ in batch for text in texts])
            except ModelUnavailable as error:
                failure = error
            except Exception:  # one text that the model chokes on; it fails again where it is needed, alone
                failure = None
            for _, done, _ in batch:
                if not done.done():
                    done.set_exception(failure) if failure else done.set_result(None)
        self._worker = None


@dataclass(frozen=True)
class Upload:
    """An image as a program sent it. Its bytes are read when its turn comes, so that waiting uploads take no memory."""

    name: str
    read: Callable[[], bytes]

    def fetch(self) -> bytes:
        """Its bytes. Raises UnreadableImage when there are none."""
        data = self.read()
        if not data:
            raise UnreadableImage(f"{self.name} is empty.")
        return data


class LibraryService:
    """Safe to use from concurrent requests. Every method may raise an ImageSearchError, Overloaded among them.

    More threads than processors do not speed up the model, but texts that wait together are embedded as one batch.
    Each engine sets the concurrency of its store.
    """

    def __init__(
        self,
        searcher: Searcher,
        reader: ImageReader,
        roots: tuple[Path, ...] = (),
        text_gate: TextGate | None = None,
        store_gate: ConcurrencyLimiter | None = None,
    ) -> None:
        """roots: folders whose files a program may have read again, without links."""
        self.searcher = searcher
        self.reader = reader
        self.roots = roots
        self.text_gate = text_gate or TextGate(self._embed_texts, lambda: self.store_gate.waiting > 0)
        # The other processors are left to texts and searches, which take a tenth of the time of an image.
        at_once = min(2, max(1, (os.cpu_count() or 1) // 2))
        self.encoder_gate = ConcurrencyLimiter("model", at_once, waiting=64, max_wait=20)
        at_once = searcher.store.concurrency
        self.store_gate = store_gate or ConcurrencyLimiter("database", at_once, waiting=128, max_wait=20)
        self.store_gate.on_drained = self.text_gate.start_batch
        self.write_gate = ConcurrencyLimiter("database", at_once=4, waiting=32, max_wait=20)
        self.folder_gate = ConcurrencyLimiter("disk", at_once=1, waiting=4, max_wait=20)

    async def search(self, asked: SearchRequest, upload: Upload | None = None) -> SearchAnswer:
        """One page of the nearest images, or of the newest.

        Raises UnreadableImage, TextNotSupported, AfterRefused, ImageNotFound for asked.like.
        """
        query, planned, waited_ms = self._make_query(asked, None), None, 0.0
        if upload:
            planned = await self.encoder_gate.run(lambda: self.searcher.plan(self._make_query(asked, upload)))
        elif texts := self.searcher.list_texts(query):
            started = time.perf_counter()
            await self.text_gate.run(texts)
            waited_ms = (time.perf_counter() - started) * 1000

        def search() -> SearchResult:
            plan = planned or self.searcher.plan(query)
            if asked.cursor and plan.blend is not None:
                raise AfterRefused(
                    "after goes on in a list. Hits that are ranked by words or an image have page instead."
                )
            after = asked.cursor.record if asked.cursor else None
            result = self.searcher.rank(plan, asked.page_size, asked.offset, after=after)
            return replace(result, encode_ms=result.encode_ms + waited_ms)

        result = await self.store_gate.run(search)
        return _make_answer(asked, result)

    async def describe(self, image_id: int) -> ImageOut:
        """One image. Raises ImageNotFound."""
        return ImageOut.of(await self._find(image_id))

    async def find_tags(self, image_id: int) -> list[TagOut]:
        """The likeliest words for an image. Raises ImageNotFound, TextNotSupported for an image-only model."""

        def find() -> list[TagOut]:
            model = self.searcher.model
            embedding = self.searcher.store.get_embedding(image_id, model.get_row().model_id)
            tags = model.tagger.classify_image(embedding)
            return [TagOut(japanese=t.japanese, english=t.english, probability=t.probability) for t in tags]

        return await self.encoder_gate.run(find)  # the first call embeds the whole list

    async def register(self, upload: Upload) -> Registered:
        """Register an image or a film. Raises UnreadableImage, UnreadableFilm, FilmsUnavailable, StoreFull."""

        store, model = self.searcher.store, self.searcher.model
        if is_film(upload.name):
            return await self.folder_gate.run(lambda: self._register_film(upload))  # may take minutes

        def prepare() -> tuple[bytes, PreparedUpload | UploadedImage]:
            data = upload.fetch()
            return data, prepare_upload(store, model.encoder, self.reader, data, upload.name)

        def write() -> Registered:
            sent = store_upload(store, lambda: model.get_row().model_id, prepared, data)
            return _describe_sent(store, sent)

        data, prepared = await self.encoder_gate.run(prepare)
        return await self.write_gate.run(write)  # a write may wait for a lock: nothing else waits with it

    async def edit(self, image_id: int, asked: EditsIn) -> ImageOut:
        """Store the user's edits of an image or of a film. Raises ImageNotFound."""
        store = self.searcher.store

        def edit() -> ImageOut:
            return ImageOut.of(edit_image(store, image_id, lambda image: asked.apply(image.edits)))

        return await self.write_gate.run(edit)

    async def delete(self, image_id: int, permanent: bool = False) -> None:
        """Move an image or a film to the trash, or remove it for good; its file stays. Raises ImageNotFound."""
        store = self.searcher.store
        remove = delete_images if permanent else trash_images
        if not await self.write_gate.run(lambda: remove(store, [image_id])):
            raise image_not_found(image_id)

    async def restore(self, image_id: int) -> ImageOut:
        """Bring an image back from the trash. Raises ImageNotFound when it is not in it."""
        store = self.searcher.store

        def restore() -> ImageOut:
            if not restore_images(store, [image_id]):
                raise image_not_found(image_id)
            return ImageOut.of(store.get_image(image_id))

        return await self.write_gate.run(restore)

    async def list_trash(self, page: int, page_size: int) -> TrashOut:
        """One page of the trash. It reads the whole of it, so that no search may wait for this."""
        offset = (page - 1) * page_size
        found, total, _ = await self.write_gate.run(lambda: list_trash(self.searcher.store, page_size, offset))
        return TrashOut(
            images=[ImageOut.of(hit.image) for hit, _ in found],
            total=total,
            page=page,
            page_size=page_size,
            has_more=offset + len(found) < total,
        )

    async def empty_trash(self) -> Count:
        """Remove everything in the trash for good."""
        return Count(count=await self.write_gate.run(lambda: empty_trash(self.searcher.store)))

    async def list_deleted(self, after: str, limit: int) -> list[DeletedOut]:
        """Records of images removed for good, in the order of their hashes, from the one behind `after` on."""
        found = await self.store_gate.run(lambda: self.searcher.store.list_deleted(after, limit))
        return [
            DeletedOut(
                content_sha256=image.content_sha256,
                deleted_at=image.deleted_at.replace(tzinfo=UTC),
                paths=[sanitize(path) for path in image.paths],
            )
            for image in found
        ]

    async def forget_deleted(self, content_sha256: str | None = None) -> Count:
        """Forget one deleted image, or all, so that it may be registered again."""
        hashes = None if content_sha256 is None else [content_sha256]
        return Count(count=await self.write_gate.run(lambda: self.searcher.store.forget_deleted(hashes)))

    async def extract(self, folder: str) -> Extracted:
        """Read again what the files of a folder say. Raises FolderRefused, FolderNotFound."""
        store, reader = self.searcher.store, self.reader
        return await self.folder_gate.run(lambda: extract_texts(store, folder, self.roots, reader))

    async def read_preview(self, image_id: int) -> bytes:
        """The WebP preview. Raises ImageNotFound."""
        return await self.store_gate.run(lambda: self.searcher.store.read_preview(image_id))

    async def read_status(self) -> Status:
        """Engine, counts and models."""
        status = await self.store_gate.run(self.searcher.store.get_status)
        encoder = self.searcher.encoder
        return Status(
            engine=status.engine,
            location=status.location,
            image_count=status.image_count,
            trash_count=status.trash_count,
            model=encoder.name,
            understands_text=encoder.supports_text,
            models=[
                ModelOut(
                    model_id=model.model_id,
                    name=model.name,
                    version=model.version,
                    dimension=model.dimension,
                    is_current=model.is_current,
                    embeddings=count,
                )
                for model, count in status.models
            ],
        )

    def _register_film(self, sent: Upload) -> Registered:
        store, model = self.searcher.store, self.searcher.model
        with tempfile.NamedTemporaryFile() as file:
            file.write(sent.fetch())
            file.flush()
            return _describe_sent(
                store, register_uploaded_film(store, model.encoder, self.reader, file.name, sent.name)
            )

    def _embed_texts(self, texts: Sequence[str]) -> None:
        self.searcher.model.encode_texts(texts)

    async def _find(self, image_id: int) -> ImageRecord:
        return await self.store_gate.run(lambda: self.searcher.store.get_image(image_id))

    def _make_query(self, asked: SearchRequest, upload: Upload | None) -> Query:
        limit = self.reader.max_pixels
        return Query(
            text=asked.text,
            image=decode_image(upload.fetch(), upload.name, limit, is_query=True).image if upload else None,
            excluded_text=asked.exclude,
            like=asked.like,
            image_weight=asked.image_weight,
            filter=asked.filter,
        )


def _describe_sent(store: ImageStore, sent: UploadedImage) -> Registered:
    image = ImageOut.of(store.get_image(sent.image_id))
    return Registered(is_new=sent.outcome != "known", was_restored=sent.outcome == "restored", image=image)


def _make_answer(asked: SearchRequest, result: SearchResult) -> SearchAnswer:
    before = asked.cursor.rank if asked.cursor else asked.offset  # hits on earlier pages
    ranked = enumerate(result.hits, start=before + 1)
    hits = [Hit.of(hit, rank) for rank, hit in ranked if hit.relevance is None or hit.relevance >= asked.min_relevance]
    return SearchAnswer(
        hits=hits,
        total=result.total,
        page=before // asked.page_size + 1,
        page_size=asked.page_size,
        next=Cursor(result.last.upload_date, result.last.image_id, before + len(result.hits)).encode()
        if result.last and result.has_more
        else None,
        pages=-(-result.total // asked.page_size),
        has_more=result.has_more and result.relevance_left >= asked.min_relevance,
        has_match=result.has_match,
        is_text_cut=result.is_text_cut,
        notes=list(result.notes),
        encode_ms=round(result.encode_ms, 3),
        search_ms=round(result.search_ms, 3),
    )
