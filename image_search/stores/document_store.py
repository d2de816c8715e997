"""Stores that keep each image as one document: changes of several images, the list of models, and DocumentStore."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from image_search.errors import StoreError
from image_search.originals import Originals
from image_search.records import (
    DeletedImage,
    EmbeddingModel,
    Frame,
    ImageText,
    NewImage,
    RecognizedText,
    TrashReason,
)
from image_search.stores.base import ChangeEdits, Embeddings, ImageStore
from image_search.stores.documents import (
    Document,
    Place,
    add_places,
    change_record,
    drop_paths,
    list_places,
    make_document,
    read_recognized,
    recognize,
    replace_content,
    restore,
    trash,
)
from image_search.stores.reads import (
    content_is_known,
    find_model,
    frame_is_known,
    image_not_found,
    model_is_current,
    model_not_found,
)

EnsureLocked = Callable[..., None]  # raises StoreUnavailable when the lock of those who write was lost in the meantime


class Values(NamedTuple):
    """An image before it is changed. recipes: of its embeddings, by model_id."""

    document: Document
    recipes: dict[int, int]


class Changes:
    """Changes of several images: documents is edited in place, everything else follows from it."""

    def __init__(self, found: Mapping[int, Values]) -> None:
        self.found = found
        self.documents = {image_id: values.document for image_id, values in found.items()}
        self.recipes = {image_id: dict(values.recipes) for image_id, values in found.items()}
        self.previews: dict[int, bytes] = {}
        self.embeddings: dict[int, dict[int, Embeddings | None]] = {}  # None: to be removed

    def list_live(self) -> list[int]:
        """The image_ids of those that are not in the trash."""
        return [image_id for image_id, document in self.documents.items() if document.is_live]

    def get_live(self, image_id: int) -> Document:
        """The document of a live image. Raises ImageNotFound."""
        return _get_live(self.documents, image_id)

    def put_embedding(self, image_id: int, model_id: int, embedding: Embeddings, recipe: int) -> None:
        """Add or replace an embedding."""
        self.recipes.setdefault(image_id, {})[model_id] = recipe
        self.embeddings.setdefault(image_id, {})[model_id] = embedding

    def drop_embedding(self, image_id: int, model_id: int) -> None:
        """Remove an embedding."""
        self.recipes[image_id].pop(model_id, None)
        self.embeddings.setdefault(image_id, {})[model_id] = None


class DocumentStore(ImageStore):
    """A library of documents. An engine says how several of them are read and changed, and looks them up."""

    originals: Originals

    # --- what an engine says ----------------------------------------------------------------------------------------

    @abstractmethod
    def _locking(self) -> AbstractContextManager[EnsureLocked]:
        """Hold the lock of those who add, trash and remove images."""

    @abstractmethod
    def _read_documents(self, image_ids: Collection[int]) -> dict[int, Document]:
        """Those of these images that exist, live or in the trash."""

    @abstractmethod
    def _change_images(
        self,
        image_ids: Iterable[int],
        change: Callable[[Changes], None],
        ensure_locked: EnsureLocked | None = None,
        forgotten: Collection[str] = (),
        removed: Collection[str] = (),
    ) -> None:
        """Change images, as far as they exist; new ones are those that change adds.

        change: edits what is there; called again if another program changes one of these images meanwhile.
        ensure_locked: of the lock, without which no path changes and no image is added, trashed or restored.
        forgotten: hashes that are no longer remembered as deleted. removed: those of originals without an image.
        """

    @abstractmethod
    def _change_models(self, change: Callable[[list[EmbeddingModel]], list[EmbeddingModel]]) -> None:
        """Replace the list of models by what change makes of it."""

    @abstractmethod
    def _iterate_embedded(self, model_id: int) -> Iterator[list[int]]:
        """image_ids, some at a time, of all images that may have an embedding of a model, live or in the trash."""

    @abstractmethod
    def _find_all_hashes(self, hashes: list[str]) -> dict[str, int]:
        """image_ids by hash, live or in the trash."""

    @abstractmethod
    def _find_frames(self, frames: Sequence[Frame]) -> dict[Frame, int]:
        """Those of these frames that images are, live or in the trash."""

    @abstractmethod
    def _find_owners(self, places: Sequence[tuple[str, str | None]]) -> list[int]:
        """Images at any of these paths, live or in the trash, except frames of the film beside it."""

    @abstractmethod
    def _list_newer(self, moment: datetime) -> list[int]:
        """Live images of a later upload_date."""

    @abstractmethod
    def _count_up_ids(self, number: int) -> int:
        """Reserve so many image_ids. Returns the last one."""

    @abstractmethod
    def _list_removed_originals(self) -> set[str]:
        """Hashes whose originals may be left because a program was interrupted before it removed them."""

    @abstractmethod
    def _forget_removed_originals(self, hashes: Collection[str]) -> None: ...

    # --- models -----------------------------------------------------------------------------------------------------

    def set_current_model(self, model_id: int) -> None:
        self._change_models(lambda models: switch_model(models, model_id))

    def remove_model(self, model_id: int) -> None:
        self._change_models(lambda models: drop_model(models, model_id))
        self._dimensions.pop(model_id, None)

        def drop(changes: Changes) -> None:
            for image_id, values in changes.found.items():
                if model_id in values.recipes:
                    changes.drop_embedding(image_id, model_id)

        # No search finds the embeddings any more; what a crash leaves of them only takes room.
        for image_ids in self._iterate_embedded(model_id):
            self._change_images(image_ids, drop)

    # --- registration -----------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self, contents: Mapping[str, bytes] = {}) -> Iterator[EnsureLocked]:
        """Hold the lock.

        contents: originals that are written first, and removed again if the block fails.
        """
        with self._locking() as ensure_locked:
            self._delete_orphaned_originals()
            try:
                self.originals.write(contents)
                yield ensure_locked
            except BaseException:
                with suppress(StoreError):
                    ensure_locked()  # else another program may be adding the same images by now
                    self._delete_unused_originals(contents)
                raise

    def _delete_orphaned_originals(self) -> None:
        # While no other program can add the same image again. The next one finishes what a crash left undone.
        removed = self._list_removed_originals()
        if removed:
            self._delete_unused_originals(removed)
            self._forget_removed_originals(removed)

    def _delete_unused_originals(self, hashes: Iterable[str]) -> None:
        wanted = list(hashes)
        self.originals.delete(set(wanted) - self._find_all_hashes(wanted).keys())

    def _set_path(self, image_id: int, file_path: str, file_name: str, byte_size: int, modified_ns: int | None) -> None:
        place = Place(file_path, byte_size, modified_ns)

        def put(changes: Changes) -> None:
            changes.get_live(image_id)
            set_path(changes.documents, image_id, file_name, place)

        with self._writing() as ensure_locked:
            document = self._read_documents([image_id]).get(image_id)
            owners = self._find_owners([(file_path, document.film if document else None)])
            self._change_images([image_id, *owners], put, ensure_locked)

    def _remove_paths(self, paths: list[str]) -> int:
        known: set[str] = set()

        def drop(changes: Changes) -> None:
            for image_id in changes.list_live():
                document = changes.documents[image_id]
                known.update({*paths}.intersection(document.paths))
                changes.documents[image_id] = drop_paths(document, paths)

        with self._writing() as ensure_locked:
            owners = self._find_owners([(path, None) for path in paths])
            self._change_images(owners, drop, ensure_locked)
        return len(known)

    def _add_images(self, model_id: int, images: list[NewImage], embeddings: Embeddings) -> list[int]:
        hashes = list(dict.fromkeys(image.content_sha256 for image in images))
        # The first of equal images counts.
        first = {image.content_sha256: number for number, image in reversed(list(enumerate(images)))}
        upload_date = datetime.now(UTC).replace(tzinfo=None)
        with self._writing(_list_contents(images)) as ensure_locked:
            known = self._find_all_hashes(hashes)
            there = set(known.values())
            self._check_frames(images, known)
            owners = self._find_owners(list_wanted(images))
            newer = self._list_newer(upload_date)
            known |= self._reserve_ids([sha256 for sha256 in hashes if sha256 not in known])

            def add(changes: Changes) -> None:
                date_back(changes.documents, upload_date)
                for image in images:
                    merge_image(changes.documents, known[image.content_sha256], image, upload_date)
                for sha256, number in first.items():
                    image_id, image = known[sha256], images[number]
                    if image_id not in there:
                        changes.previews[image_id] = image.preview
                    if image_id not in there or model_id not in changes.recipes.get(image_id, {}):
                        changes.put_embedding(image_id, model_id, embeddings[number], image.recipe)

            self._change_images([*there, *owners, *newer], add, ensure_locked, forgotten=hashes)
        return [known[image.content_sha256] for image in images]

    def _check_frames(self, images: Sequence[NewImage], known: Mapping[str, int]) -> None:
        """Raise StoreError for a frame of whose film and time another image is. known: image_ids by hash."""
        frames = {image.frame: known.get(image.content_sha256) for image in images if image.frame}
        for frame, image_id in self._find_frames(list(frames)).items():
            if image_id != frames[frame]:
                raise frame_is_known(image_id)

    def _reserve_ids(self, hashes: Sequence[str]) -> dict[str, int]:
        if not hashes:
            return {}
        last = self._count_up_ids(len(hashes))
        return dict(zip(hashes, range(last - len(hashes) + 1, last + 1), strict=True))

    def _replace_image(self, image_id: int, model_id: int, image: NewImage, embedding: Embeddings) -> None:
        def put(changes: Changes) -> None:
            changes.documents[image_id] = replace_content(changes.get_live(image_id), image)
            changes.previews[image_id] = image.preview
            for other_id in list(changes.recipes[image_id]):
                changes.drop_embedding(image_id, other_id)
            changes.put_embedding(image_id, model_id, embedding, image.recipe)

        new = image.content_sha256
        with self._writing(_list_contents([image])) as ensure_locked:
            before = _get_live(self._read_documents([image_id]), image_id)
            owner = self._find_all_hashes([new]).get(new, image_id)
            if owner != image_id:
                raise content_is_known(owner)
            self._change_images([image_id], put, ensure_locked, forgotten=[new], removed=[before.sha256])
            self._delete_orphaned_originals()

    def _add_embeddings(self, model_id: int, image_ids: list[int], embeddings: Embeddings, recipe: int) -> None:
        rows = dict(zip(image_ids, embeddings, strict=True))

        def put(changes: Changes) -> None:
            for image_id in changes.list_live():
                changes.put_embedding(image_id, model_id, rows[image_id], recipe)

        self._change_images(image_ids, put)

    def set_preview(self, image_id: int, preview: bytes, dominant_color: str | None, recipe: int) -> None:
        def put(changes: Changes) -> None:
            before = changes.get_live(image_id)
            changes.documents[image_id] = change_record(before, dominant_color=dominant_color, recipe=recipe)
            changes.previews[image_id] = preview

        self._change_images([image_id], put)

    # --- texts ------------------------------------------------------------------------------------------------------

    def _set_text(self, image_id: int, text: ImageText) -> bool:
        return self._change_document(image_id, partial(change_record, text=text))

    def _change_edits(self, image_ids: list[int], change: ChangeEdits) -> dict[int, bool]:
        return self._change_documents(
            image_ids, lambda document: change_record(document, edits=change(document.record))
        )

    def _set_recognized(self, image_id: int, recognized: RecognizedText | None) -> None:
        self._change_document(image_id, partial(recognize, recognized=recognized), recognized is None)

    def get_recognized(self, image_id: int) -> RecognizedText | None:
        found = self._read_documents([image_id])
        if image_id not in found:
            raise image_not_found(image_id)
        return read_recognized(found[image_id])

    def _change_document(self, image_id: int, change: Callable[[Document], Document], or_trashed: bool = False) -> bool:
        """Replace the document of a live image. Returns whether anything changed.

        Raises ImageNotFound, without or_trashed also for one in the trash.
        """
        changed = self._change_documents([image_id], change, or_trashed)
        if image_id not in changed:
            raise image_not_found(image_id)
        return changed[image_id]

    def _change_documents(
        self, image_ids: Iterable[int], change: Callable[[Document], Document], or_trashed: bool = False
    ) -> dict[int, bool]:
        """Replace the documents of those of these images that are live, at once. Returns whether each changed.

        or_trashed: of those in the trash, too.
        """
        changed: dict[int, bool] = {}
        written: dict[int, Document] = {}

        def put(changes: Changes) -> None:
            nonlocal changed
            before = dict(changes.documents)
            ids = list(before) if or_trashed else changes.list_live()
            for image_id in ids:
                if before[image_id] != written.get(image_id):  # else an attempt that was refused for others wrote it
                    changes.documents[image_id] = written[image_id] = change(before[image_id])
            changed = {
                image_id: changed.get(image_id, False) or changes.documents[image_id] != before[image_id]
                for image_id in ids
            }

        self._change_images(image_ids, put)
        return changed

    # --- trash ------------------------------------------------------------------------------------------------------

    def _trash_images(self, image_ids: list[int], reason: TrashReason, deleted_at: datetime) -> int:
        trashed: set[int] = set()

        def put(changes: Changes) -> None:
            for image_id in changes.list_live():
                trashed.add(image_id)
                changes.documents[image_id] = trash(changes.documents[image_id], reason, deleted_at)

        with self._writing() as ensure_locked:
            self._change_images(image_ids, put, ensure_locked)
        return len(trashed)

    def _restore_images(self, image_ids: list[int]) -> int:
        def put(changes: Changes) -> None:
            changes.documents |= {image_id: restore(document) for image_id, document in changes.documents.items()}

        with self._writing() as ensure_locked:
            found = self._read_documents(image_ids)
            trashed = {image_id: document.sha256 for image_id, document in found.items() if not document.is_live}
            self._change_images(trashed, put, ensure_locked, forgotten=trashed.values())
        return len(trashed)


def _get_live(documents: Mapping[int, Document], image_id: int) -> Document:
    if image_id not in documents or not documents[image_id].is_live:
        raise image_not_found(image_id)
    return documents[image_id]


def _list_contents(images: Sequence[NewImage]) -> dict[str, bytes]:
    """The originals that are kept, by hash."""
    return {image.content_sha256: image.data for image in images if image.data is not None}


# Changes of several documents, by image_id, because a path belongs to one image, or to frames of one film. The caller
# has read every other image with one of the paths (list_wanted), live or in the trash.


def list_wanted(images: Iterable[NewImage]) -> list[tuple[str, str | None]]:
    """Path and film of each of these images that has a path, which other images have to lose."""
    return list(
        dict.fromkeys(
            (image.file_path, image.frame.film_sha256 if image.frame else None)
            for image in images
            if image.file_path is not None
        )
    )


def date_back(documents: dict[int, Document], moment: datetime) -> None:
    """Give live images of a later time than this one (UTC), whose clock was ahead, this one."""
    for image_id, document in documents.items():
        if document.is_live and document.record.upload_date > moment:
            documents[image_id] = change_record(document, upload_date=moment)


def merge_image(documents: dict[int, Document], image_id: int, image: NewImage, upload_date: datetime) -> None:
    """Add a new image, or to one that is there its path, out of the trash. Other images lose the path."""
    if image_id in documents:
        documents[image_id] = add_places(restore(documents[image_id]), list_places(image))
    else:
        documents[image_id] = make_document(image_id, image, upload_date)
    if image.file_path is not None:
        _take_path(documents, image_id, image.file_path)


def set_path(documents: dict[int, Document], image_id: int, file_name: str, place: Place) -> None:
    """Put a path in front of the others of an image. Other images lose it."""
    documents[image_id] = add_places(change_record(documents[image_id], file_name=file_name), [place])
    _take_path(documents, image_id, place.path)


def _take_path(documents: dict[int, Document], image_id: int, path: str) -> None:
    for other_id, other in documents.items():
        if path in other.paths and other_id != image_id and not documents[image_id].shares_with(other):
            documents[other_id] = drop_paths(other, [path])


def choose_latest(deleted: Iterable[DeletedImage], paths: Iterable[str], live: Iterable[Document]) -> dict[str, str]:
    """Those of these paths that deleted images had, with the hash of the latest deleted one; none that is live."""
    found: dict[str, str] = {}
    for one in sorted(deleted, key=lambda one: one.deleted_at):
        found |= dict.fromkeys(one.paths, one.content_sha256)
    owned = {path for document in live for path in document.paths}
    return {path: found[path] for path in paths if path in found and path not in owned}


# The models of a library as one list, for engines that keep it in one document and change it at once.


def load_models(document: str | bytes | None) -> list[EmbeddingModel]:
    """The models dump_models was given; [] where nothing is stored."""
    return [EmbeddingModel(**values) for values in json.loads(document or "[]")]


def dump_models(models: Iterable[EmbeddingModel]) -> str:
    """All models as one document, so that exactly one of them is the current one at any moment."""
    return json.dumps([asdict(model) for model in models], ensure_ascii=False)


def add_model(
    models: list[EmbeddingModel], model_id: int, name: str, version: str, dimension: int
) -> list[EmbeddingModel]:
    """The list with this model, current if none is; unchanged if name and version are in it already."""
    if find_model(models, name, version):
        return models
    is_current = not any(model.is_current for model in models)
    return [*models, EmbeddingModel(model_id, name, version, dimension, is_current)]


def switch_model(models: list[EmbeddingModel], model_id: int) -> list[EmbeddingModel]:
    """The list with this model as the current one. Raises StoreError when it is not there."""
    if all(model.model_id != model_id for model in models):
        raise model_not_found(model_id)
    return [replace(model, is_current=model.model_id == model_id) for model in models]


def drop_model(models: list[EmbeddingModel], model_id: int) -> list[EmbeddingModel]:
    """The list without this model. Raises StoreError when it is the current one or not there."""
    model = next((model for model in models if model.model_id == model_id), None)
    if model is None:
        raise model_not_found(model_id)
    if model.is_current:
        raise model_is_current(model_id)
    return [other for other in models if other != model]
