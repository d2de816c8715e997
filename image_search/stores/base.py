"""The second seam: what a database must do to hold a library of images.

The contract is this file and reads.py; tests/contract checks it on every engine. Arguments are checked there, once, so
that engines cannot disagree. An engine implements the methods whose names begin with an underscore and inherits the
rest.

Distance is always minus the inner product of unit vectors: smaller is nearer. Ties are broken by image_id, so that
every ranking is one total order and pages of it never overlap. No method opens a connection before it needs one. Any
method may raise StoreUnavailable; the same call works again when the database is back.

An image is live or in the trash. Unless a method says otherwise it sees live images only: the embeddings of an image in
the trash are parked outside the searched ones, so that a vector search needs no join to leave it out.

An image has a content hash, unique among all images, and any number of paths. A path belongs to one image, or to frames
of one film. Texts lie in layers: what the file says (ImageText), what a user says (Edits, wins field by field), what
was recognised (RecognizedText). Words are looked up in all of them.

A library keeps the rule of its tokens (stores/tokens.py) as the setting token_rule. The first program that opens one of
an older rule makes all tokens again, or goes on with them where it may not write. One of a newer rule raises
SchemaError when it is opened, and in a program that had it open already at every write of images or texts.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import numpy as np

from image_search.errors import SchemaError, StoreError
from image_search.originals import ReferencedOriginals, check_originals
from image_search.records import (
    DeletedImage,
    Edits,
    EmbeddingModel,
    Finding,
    Hits,
    ImageRecord,
    ImageText,
    KnownFile,
    NewImage,
    RecognizedText,
    StoreStatus,
    TrashReason,
)
from image_search.stores.reads import (
    COUNTS_FRAMES,
    EVERYTHING,
    PAGE,
    CountedField,
    Embeddings,
    ImageReads,
    check_page,
    find_model,
    image_not_found,
)
from image_search.stores.text import (
    decode_path,
    encode_path,
    make_edits_storable,
    make_file_name,
    make_image_storable,
    make_recognized_storable,
    make_text_storable,
)
from image_search.stores.tokens import TOKEN_SETTING

__all__ = ["COUNTS_FRAMES", "EVERYTHING", "ChangeEdits", "CountedField", "Embeddings", "ImageStore"]

ChangeEdits = Callable[[ImageRecord], Edits]

CHOSEN_MODEL = "model"  # setting: what opens the model chosen for searches, where EMBEDDING_MODEL is not set

# Settings that hold for one store only, so that no copy takes them over.
DEEP_CHECK = "deep_check"  # image_id up to which an interrupted --check --deep has come
UNFINISHED_SAMPLES = "unfinished_samples"  # the first start has not registered all samples yet
LOCAL_SETTINGS = (DEEP_CHECK, UNFINISHED_SAMPLES, TOKEN_SETTING)

_HELD_IMAGES = "held_images"
_NO_MODEL = 0  # model_ids begin at 1, so every image lacks an embedding of this one


class ImageStore(ImageReads):
    """A library of images with their embeddings and texts."""

    def __init__(self) -> None:
        super().__init__()
        self._has_held_images = False  # whether the setting is known to be there
        self.additions = 0  # how often content came in through this object

    # --- models ---

    def get_or_create_model(self, name: str, version: str, dimension: int) -> EmbeddingModel:
        """The model of this name and version; made, and made current when none is, if it is new.

        Raises SchemaError when it exists with another dimension.
        """
        model = find_model(self.list_models(), name, version)
        if model is None:
            self._add_model(name, version, dimension)
            model = find_model(self.list_models(), name, version)
        if model is None:
            raise StoreError(f"The model {name} was removed by another program. Try again.")
        if model.dimension != dimension:
            raise SchemaError(
                f"The library knows the model {model.name} ({model.version}) with {model.dimension} dimensions, "
                f"not {dimension}. Check EMBEDDING_MODEL, or name a new library in DATABASE_URL."
            )
        return model

    @abstractmethod
    def _add_model(self, name: str, version: str, dimension: int) -> None:
        """Current when no model is. Nothing is done if another program has added it meanwhile."""

    @abstractmethod
    def set_current_model(self, model_id: int) -> None:
        """Make this model the current one, in one transaction. Raises StoreError when there is no such model."""

    @abstractmethod
    def remove_model(self, model_id: int) -> None:
        """Remove a model and its embeddings, parked ones too. Raises StoreError for the current or an unknown one."""

    # --- registration ---

    def find_known_hashes(self, hashes: Sequence[str]) -> dict[str, int]:
        """Those of these SHA-256 hashes (64 hexadecimal digits) that are registered, with their image_id."""
        return self._find_known_hashes(list(dict.fromkeys(hashes))) if hashes else {}

    @abstractmethod
    def _find_known_hashes(self, hashes: list[str]) -> dict[str, int]: ...

    def find_deleted_hashes(self, hashes: Sequence[str]) -> set[str]:
        """Those of these hashes that a user deleted: in the trash (reason "deleted"), or remembered."""
        return self._find_deleted_hashes(list(dict.fromkeys(hashes))) if hashes else set()

    @abstractmethod
    def _find_deleted_hashes(self, hashes: list[str]) -> set[str]: ...

    def find_deleted_paths(self, paths: Sequence[str]) -> dict[str, str]:
        """Those of these paths whose image a user deleted, with the hash it had; of several, the latest deleted one's.

        A path of a live image is none.
        """
        stored = {encode_path(path): path for path in paths}
        found = self._find_deleted_paths(list(stored)) if stored else {}
        return {stored[path]: sha256 for path, sha256 in found.items()}

    @abstractmethod
    def _find_deleted_paths(self, paths: list[str]) -> dict[str, str]: ...

    def find_known_files(self, paths: Sequence[str]) -> dict[str, KnownFile]:
        """Those of these absolute paths that live images have, with size and time of the file when it was read.

        Paths compare byte by byte, also those that are not valid UTF-8. A film is given by any one of its frames.
        """
        stored = {encode_path(path): path for path in paths}
        known = self._find_known_files(list(stored)) if stored else {}
        return {stored[path]: file for path, file in known.items()}

    @abstractmethod
    def _find_known_files(self, paths: list[str]) -> dict[str, KnownFile]: ...

    def set_path(self, image_id: int, file_path: str, byte_size: int, modified_ns: int | None) -> None:
        """Add this path to an image, or refresh what is known of it; file_name follows. One transaction.

        The path is taken from any other image that had it, except from frames of the same film. An image that loses
        paths, here or elsewhere, and has the name of none that is left, gets that of the latest. Raises ImageNotFound.
        """
        self._set_path(image_id, encode_path(file_path), make_file_name(file_path), byte_size, modified_ns)

    @abstractmethod
    def _set_path(
        self, image_id: int, file_path: str, file_name: str, byte_size: int, modified_ns: int | None
    ) -> None: ...

    def remove_paths(self, paths: Sequence[str]) -> int:
        """Forget these paths; the images stay. Returns how many were known."""
        return self._remove_paths([encode_path(path) for path in dict.fromkeys(paths)]) if paths else 0

    @abstractmethod
    def _remove_paths(self, paths: list[str]) -> int: ...

    def list_paths(self, folder: str, after: str = "", limit: int = 1000) -> list[tuple[str, int]]:
        """Paths of live images below a folder, at any depth, with image_id; ascending as stored, behind a path.

        Each path once; of a film with any one of its frames.
        """
        rows = self._list_paths(encode_path(folder).rstrip("/\\"), encode_path(after), limit)
        return [(decode_path(path), image_id) for path, image_id in rows]

    @abstractmethod
    def _list_paths(self, folder: str, after: str, limit: int) -> list[tuple[str, int]]: ...

    def add_images(self, model_id: int, images: Sequence[NewImage], embeddings: Embeddings) -> list[int]:
        """Register a batch in one transaction: all of it is in, or none. Returns the image_ids in order.

        An image whose hash is live keeps its record; it gains the path, and the embedding if it lacked one of this
        model. One in the trash is restored. A remembered hash is forgotten. A hash twice in a batch is one image.
        The original is safe on disk before the record is visible. The recipe of an embedding is that of its image.
        A live image whose upload_date is still to come, because a clock was ahead, is dated now: what is added after
        it is newer.
        embeddings: float32 (n, dimension), rows of length 1. Raises EmbeddingRefused before anything is written.
        """
        self._check_embeddings(model_id, embeddings, len(images))
        if not images:
            return []
        image_ids = self._add_images(model_id, [self._make_storable(image) for image in images], embeddings)
        self.additions += 1
        if not self._has_held_images:
            self.set_setting(_HELD_IMAGES, "1")
            self._has_held_images = True
        return image_ids

    @abstractmethod
    def _add_images(self, model_id: int, images: list[NewImage], embeddings: Embeddings) -> list[int]: ...

    def replace_image(self, image_id: int, model_id: int, image: NewImage, embedding: Embeddings) -> None:
        """Give an image new content, because its file changed: hash, preview, embedding, file's layer, facts.

        Keeps image_id, upload_date, file_name, paths (set_path tells of the new file) and the user's layer.
        Embeddings of other models and the recognised text are removed, for they belong to the old content. A remembered
        hash is forgotten. One transaction. Raises ImageNotFound, EmbeddingRefused, ContentKnown when another image,
        live or in the trash, has this hash already, and StoreError for a frame of a film, whose content is the film's.
        """
        self._check_embeddings(model_id, np.reshape(embedding, (1, -1)), 1)
        if image.frame is not None or self.get_image(image_id).frame is not None:
            raise StoreError(f"Image {image_id} is given or has a frame of a film. Register the film again instead.")
        storable = self._make_storable(image)
        self._replace_image(image_id, model_id, storable, np.ascontiguousarray(embedding, np.float32))
        self.additions += 1

    @abstractmethod
    def _replace_image(self, image_id: int, model_id: int, image: NewImage, embedding: Embeddings) -> None: ...

    def add_embeddings(self, model_id: int, image_ids: Sequence[int], embeddings: Embeddings, recipe: int = 1) -> None:
        """Add or replace the embeddings of registered images, in one transaction.

        An image deleted meanwhile is left out silently. Raises EmbeddingRefused before anything is written.
        """
        self._check_embeddings(model_id, embeddings, len(image_ids))
        if image_ids:
            self._add_embeddings(model_id, list(image_ids), embeddings, recipe)

    @abstractmethod
    def _add_embeddings(self, model_id: int, image_ids: list[int], embeddings: Embeddings, recipe: int) -> None: ...

    @abstractmethod
    def find_images_without_embedding(
        self, model_id: int, after_id: int = 0, limit: int = 1000, min_recipe: int = 0
    ) -> list[int]:
        """image_ids above after_id, ascending, that lack an embedding of this model of at least this recipe."""

    def list_image_ids(self, after_id: int = 0, limit: int = 1000) -> list[int]:
        """All image_ids above after_id, ascending."""
        return self.find_images_without_embedding(_NO_MODEL, after_id, limit)

    @abstractmethod
    def find_images_of_old_recipe(self, recipe: int, after_id: int = 0, limit: int = 1000) -> list[int]:
        """image_ids above after_id, ascending, whose preview was made by an older recipe."""

    @abstractmethod
    def set_preview(self, image_id: int, preview: bytes, dominant_color: str | None, recipe: int) -> None:
        """Replace the WebP preview. Raises ImageNotFound."""

    # --- texts ---

    def set_text(self, image_id: int, text: ImageText) -> bool:
        """Replace the file's layer. Returns whether anything changed. Raises ImageNotFound."""
        return self._set_text(image_id, make_text_storable(text))

    @abstractmethod
    def _set_text(self, image_id: int, text: ImageText) -> bool: ...

    def set_edits(self, image_id: int, edits: Edits) -> bool:
        """Replace the user's layer. Returns whether anything changed. Raises ImageNotFound, StoreError."""
        for has_changed in self.change_edits([image_id], lambda _: edits).values():
            return has_changed
        raise image_not_found(image_id)

    def change_edits(self, image_ids: Sequence[int], change: ChangeEdits) -> dict[int, bool]:
        """Read the user's layer of images and replace it, in one transaction: no change of another thread is lost.

        change: gives the new layer of a record. It is called inside the transaction, where it may not use the store,
        and once more when the transaction is repeated; the last call counts. Images that are not live are left alone.
        Returns, for the live ones, whether anything changed. Raises StoreError.
        """

        def change_storable(image: ImageRecord) -> Edits:
            edits = change(image)
            if edits.rating not in {None, *range(6)}:
                raise StoreError(f"A rating is a whole number from 0 to 5, not {edits.rating}.")
            return make_edits_storable(edits)

        return self._change_edits(list(dict.fromkeys(image_ids)), change_storable) if image_ids else {}

    @abstractmethod
    def _change_edits(self, image_ids: list[int], change: ChangeEdits) -> dict[int, bool]: ...

    def set_recognized(self, image_id: int, recognized: RecognizedText | None) -> None:
        """Replace the recognised text; None forgets it, as if it had never been looked for, in the trash as well.

        Raises ImageNotFound.
        """
        self._set_recognized(image_id, recognized and make_recognized_storable(recognized))

    @abstractmethod
    def _set_recognized(self, image_id: int, recognized: RecognizedText | None) -> None: ...

    @abstractmethod
    def get_recognized(self, image_id: int) -> RecognizedText | None:
        """The recognised text with its lines, live or in the trash; None: not looked for. Raises ImageNotFound."""

    @abstractmethod
    def find_images_without_recognition(self, recognizer: str, after_id: int = 0, limit: int = 1000) -> list[int]:
        """image_ids above after_id, ascending, whose text this recogniser (name and version) has not read."""

    # --- trash ---

    def trash_images(
        self, image_ids: Sequence[int], reason: TrashReason = "deleted", deleted_at: datetime | None = None
    ) -> int:
        """Move live images to the trash, in one transaction; unknown ids are no error. Returns how many there were.

        deleted_at: UTC, without zone; None: now. Set when a library is copied.
        """
        moment = deleted_at or datetime.now(UTC).replace(tzinfo=None)
        return self._trash_images(list(dict.fromkeys(image_ids)), reason, moment) if image_ids else 0

    @abstractmethod
    def _trash_images(self, image_ids: list[int], reason: TrashReason, deleted_at: datetime) -> int: ...

    def restore_images(self, image_ids: Sequence[int]) -> int:
        """Bring images back from the trash with everything they had. Returns how many were in it.

        Hashes and paths that add_deleted remembered of them are forgotten.
        """
        return self._restore_images(list(dict.fromkeys(image_ids))) if image_ids else 0

    @abstractmethod
    def _restore_images(self, image_ids: list[int]) -> int: ...

    def list_trash(self, limit: int = 16, offset: int = 0) -> Hits:
        """Images in the trash, the latest deleted first, then by image_id, highest first."""
        check_page(limit, offset)
        return self._list_trash(limit, offset)

    @abstractmethod
    def _list_trash(self, limit: int, offset: int) -> Hits: ...

    def iterate_trash(self) -> Iterator[ImageRecord]:
        """All images in the trash, the latest deleted first."""
        offset = 0
        while page := self.list_trash(PAGE, offset):
            yield from (hit.image for hit in page)
            offset += len(page)

    def empty_trash(self, image_ids: Sequence[int] | None = None, before: datetime | None = None) -> int:
        """Remove images in the trash for good: these ids, or those deleted before a time (UTC), or all.

        Record, preview, embeddings and our copy of the original go; hash and paths of those a user deleted are
        remembered. Returns how many were removed.
        """
        return self._empty_trash(None if image_ids is None else list(dict.fromkeys(image_ids)), before)

    @abstractmethod
    def _empty_trash(self, image_ids: list[int] | None, before: datetime | None) -> int: ...

    def delete_images(self, image_ids: Sequence[int]) -> int:
        """Delete images for good, live or in the trash: trash and empty in one. Returns how many there were."""
        ids = list(dict.fromkeys(image_ids))
        self.trash_images(ids)
        return self.empty_trash(ids) if ids else 0

    @abstractmethod
    def list_deleted(self, after: str = "", limit: int = 1000) -> list[DeletedImage]:
        """Remembered images, ordered by hash, from behind `after` on; add_deleted may name some of the trash."""

    def add_deleted(self, deleted: Sequence[DeletedImage]) -> None:
        """Remember these as deleted; a remembered hash gains paths.

        A hash in the trash gains them beside it, so that a file that was renamed meanwhile stays deleted when it is
        changed. One that is live, or in the trash because its file disappeared, is left alone.
        """
        if deleted:
            self._add_deleted([replace(d, paths=tuple(map(encode_path, d.paths))) for d in deleted])

    @abstractmethod
    def _add_deleted(self, deleted: list[DeletedImage]) -> None: ...

    @abstractmethod
    def forget_deleted(self, hashes: Sequence[str] | None = None) -> int:
        """Forget remembered hashes (None: all), so that these images may be registered again. Returns how many."""

    # --- originals ---

    def heal_original(self, image_id: int, data: bytes) -> bool:
        """Write the original again where it is missing or damaged. data: the same content; else nothing is done.

        Returns whether it was written. Raises ImageNotFound, StoreError.
        """
        record = self.get_image(image_id)
        if self.originals is None or hashlib.sha256(data).hexdigest() != record.content_sha256:
            return False
        with suppress(StoreError):
            kept = self.originals.read(record.content_sha256, record.paths)
            if hashlib.sha256(kept).hexdigest() == record.content_sha256:
                return False
            self.originals.delete([record.content_sha256])  # a file of the same size would not be written over
        self.originals.write({record.content_sha256: data})
        return True

    # --- the store as a whole ---

    @abstractmethod
    def list_settings(self, prefix: str = "") -> dict[str, str]:
        """Settings of the library whose name has this prefix: a chosen model, groups kept, and so on."""

    @abstractmethod
    def set_setting(self, name: str, value: str | None) -> None:
        """Keep a value (any length) with the library under a name of at most 100 characters; None removes it.

        Copies take it over, so no value holds image_ids or model_ids, unless LOCAL_SETTINGS has its name.
        """

    def has_held_images(self) -> bool:
        """Whether any image was ever registered here. True stays true, also when everything was deleted."""
        return bool(self.list_settings(_HELD_IMAGES)) or self.count_images() > 0

    @abstractmethod
    def get_status(self) -> StoreStatus:
        """Engine, location and counts."""

    def check(self) -> Iterator[Finding]:
        """Look for whatever may be wrong with this engine and its files, changing nothing; for --check.

        An engine that can tell more overrides this. May raise StoreError at any step.
        """
        yield check_originals(self.originals)

    @abstractmethod
    def close(self) -> None:
        """Let go of connections and files. A second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- checks ---

    def _make_storable(self, image: NewImage) -> NewImage:
        storable = make_image_storable(image)
        if isinstance(self.originals, ReferencedOriginals) and self.originals.leaves(image.file_path, image.byte_size):
            return replace(storable, data=None, size=image.byte_size)
        return storable
