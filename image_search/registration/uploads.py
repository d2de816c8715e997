"""An image that is sent, into the library at once: read, embedded and stored."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal
from unicodedata import normalize

from image_search.encoders.base import Embeddings, Encoder
from image_search.images import hash_bytes
from image_search.records import NewImage
from image_search.registration.reader import ImageReader
from image_search.stores.base import ImageStore


@dataclass(frozen=True, slots=True)
class UploadedImage:
    """An image that was sent. outcome: restored from the trash, or deleted for good earlier and taken in again."""

    image_id: int
    outcome: Literal["new", "known", "restored"]


@dataclass(frozen=True, slots=True)
class PreparedUpload:
    """An image that was sent, read and embedded, and not stored yet."""

    image: NewImage
    embeddings: Embeddings
    was_deleted: bool


def register_upload(
    store: ImageStore,
    encoder: Encoder,
    find_model_id: Callable[[], int],
    reader: ImageReader,
    data: bytes,
    file_name: str,
) -> UploadedImage:
    """Sending an image by hand means that it is wanted, also when it was deleted earlier.

    Raises UnreadableImage, EncoderError or StoreError.
    """
    prepared = prepare_upload(store, encoder, reader, data, file_name)
    return store_upload(store, find_model_id, prepared, data)


def prepare_upload(
    store: ImageStore, encoder: Encoder, reader: ImageReader, data: bytes, file_name: str
) -> PreparedUpload | UploadedImage:
    """Read and embed an image that is new, without writing. Raises UnreadableImage, EncoderError or StoreError."""
    content_sha256 = hash_bytes(data)
    known = store.find_known_hashes([content_sha256])
    if known:
        return UploadedImage(known[content_sha256], "known")
    was_deleted = bool(store.find_deleted_hashes([content_sha256]))
    read = reader.read_upload(data, clean_name(file_name))
    image = replace(read.image, file_path=None, modified_ns=None)
    return PreparedUpload(image, encoder.encode_images([read.picture]), was_deleted)


def store_upload(
    store: ImageStore, find_model_id: Callable[[], int], prepared: PreparedUpload | UploadedImage, data: bytes
) -> UploadedImage:
    """Write what was prepared, or the original of a known image if it was lost. Raises StoreError.

    It may wait for a lock of the database; nothing else is held meanwhile.
    """
    if isinstance(prepared, UploadedImage):
        store.heal_original(prepared.image_id, data)
        return prepared
    [image_id] = store.add_images(find_model_id(), [prepared.image], prepared.embeddings)
    return UploadedImage(image_id, "restored" if prepared.was_deleted else "new")


def clean_name(name: str) -> str:
    """A file name as programs send it, without folders and without what no file name has."""
    last = re.split(r"[/\\]", normalize("NFC", name))[-1]
    return "".join(letter for letter in last if letter.isprintable()).strip()[:200] or "image"
