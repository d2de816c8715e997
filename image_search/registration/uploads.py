"""An image that is sent, into the library at once: read, embedded and stored."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal
from unicodedata import normalize

from image_search.encoders.base import Encoder
from image_search.images import hash_bytes
from image_search.registration.reader import ImageReader
from image_search.stores.base import ImageStore


@dataclass(frozen=True, slots=True)
class UploadedImage:
    """An image that was sent. outcome: restored from the trash, or deleted for good earlier and taken in again."""

    image_id: int
    outcome: Literal["new", "known", "restored"]


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
    content_sha256 = hash_bytes(data)
    known = store.find_known_hashes([content_sha256])
    if known:
        return UploadedImage(known[content_sha256], "known")
    was_deleted = bool(store.find_deleted_hashes([content_sha256]))
    read = reader.read_upload(data, clean_name(file_name))
    image = replace(read.image, file_path=None, modified_ns=None)
    embeddings = encoder.encode_images([read.picture])
    [image_id] = store.add_images(find_model_id(), [image], embeddings)
    return UploadedImage(image_id, "restored" if was_deleted else "new")


def clean_name(name: str) -> str:
    """A file name as programs send it, without folders and without what no file name has."""
    last = re.split(r"[/\\]", normalize("NFC", name))[-1]
    return "".join(letter for letter in last if letter.isprintable()).strip()[:200] or "image"
