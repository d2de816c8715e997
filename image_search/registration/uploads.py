"""A picture that somebody sends, into the library at once: read, embedded and stored."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from unicodedata import normalize

from image_search.encoders.base import Encoder
from image_search.image_files import hash_bytes
from image_search.registration.reading import ImageReader
from image_search.stores.base import ImageStore


def register_upload(
    store: ImageStore,
    encoder: Encoder,
    find_model_id: Callable[[], int],
    reader: ImageReader,
    data: bytes,
    file_name: str,
) -> tuple[int, bool]:
    """image_id, and whether the picture is new. Raises UnreadableImage, EncoderError or StoreError."""
    known = store.find_known_hashes([hash_bytes(data)])
    if known:
        return next(iter(known.values())), False
    read = reader.read_upload(data, clean_name(file_name))
    image = replace(read.image, file_path=None, modified_ns=None)
    embeddings = encoder.encode_images([read.picture])
    [image_id] = store.add_images(find_model_id(), [image], embeddings)
    return image_id, True


def clean_name(name: str) -> str:
    """A file name as programs send it, without folders and without what no file name has."""
    last = re.split(r"[/\\]", normalize("NFC", name))[-1]
    return "".join(letter for letter in last if letter.isprintable()).strip()[:200] or "image"
