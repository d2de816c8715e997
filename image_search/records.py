"""The plain values that travel between the rooms of this program. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Orientation = Literal["landscape", "portrait", "square"]


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """One model in one version; embeddings of different models are never compared."""

    model_id: int
    name: str
    version: str
    dimension: int
    is_current: bool


@dataclass(frozen=True, slots=True)
class ImageText:
    """What a picture says about itself, read from its file or typed in by a person.

    generation_prompt: the readable text a generator wrote (prompt, negative prompt, settings), searchable.
    description:       the caption of a photograph, or text of a generator nobody knows, searchable.
    The other fields are the same facts taken apart, for display and for filters; None or () where unknown.
    raw:               the text chunks as found, name to text, so that a later version can read more out of them.
    """

    generation_prompt: str | None = None
    description: str | None = None
    generator: str | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    generation_model: str | None = None
    seed: str | None = None  # text: seeds exceed 64 bits in some generators
    steps: int | None = None
    sampler: str | None = None
    cfg: float | None = None
    generated_size: str | None = None  # "1024x1536"
    keywords: tuple[str, ...] = ()
    taken_at: datetime | None = None  # camera's local time, without zone, as cameras write it
    camera: str | None = None
    lens: str | None = None
    latitude: float | None = None  # only when READ_GPS=1
    longitude: float | None = None
    raw: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewImage:
    """A decoded picture on its way into a store."""

    content_sha256: str  # 64 hexadecimal digits, of the original bytes: the identity of the image
    file_name: str  # NFC, without folder
    file_type: str  # MIME type found by decoding, never by the file's suffix
    width: int  # pixels, after EXIF orientation
    height: int
    data: bytes  # the original file, unchanged
    preview: bytes  # WebP
    file_path: str | None = None  # absolute; None for an upload
    modified_ns: int | None = None  # modification time of the file, nanoseconds since 1970
    text: ImageText = field(default_factory=ImageText)
    upload_date: datetime | None = None  # UTC, without zone; None: now. Set when a library is copied


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """A registered image, without its bytes (ImageStore.read_original, .read_preview)."""

    image_id: int
    content_sha256: str
    file_name: str
    file_type: str
    byte_size: int
    width: int
    height: int
    upload_date: datetime  # UTC, without zone
    file_path: str | None
    text: ImageText


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One result. distance: -(inner product of unit vectors), in [-1, 1], smaller is nearer, or None."""

    image: ImageRecord
    distance: float | None = None

    @property
    def image_id(self) -> int:
        return self.image.image_id


@dataclass(frozen=True, slots=True)
class SearchFilter:
    """Which images may be found. Every field that is set must hold; the empty filter lets everything through."""

    taken_from: datetime | None = None  # inclusive
    taken_to: datetime | None = None  # exclusive
    registered_from: datetime | None = None  # UTC, inclusive
    registered_to: datetime | None = None  # UTC, exclusive
    folder: str | None = None  # absolute folder; images below it, at any depth
    file_types: tuple[str, ...] = ()  # MIME types, any of them
    orientation: Orientation | None = None
    min_pixels: int | None = None  # width * height at least
    generator: str | None = None
    generation_model: str | None = None
    has_prompt: bool | None = None  # True: with a generation prompt; False: without
    keyword: str | None = None  # one keyword, whole
    words: tuple[str, ...] = ()  # every one of them occurs, as ImageStore.search_words understands it

    @property
    def is_empty(self) -> bool:
        return self == SearchFilter()


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What a store remembers of the file an image was read from, to tell an unchanged file without reading it."""

    image_id: int
    byte_size: int
    modified_ns: int | None


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """Where a store stands, for people: --check, the status endpoint, the page's footer."""

    engine: str  # "SQLite 3.40 + FAISS 1.15", "Oracle Database 23.26.1.0.0"
    location: str  # without secrets
    image_count: int
    models: tuple[tuple[EmbeddingModel, int], ...]  # with the number of embeddings of each
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of --check: what was looked at, whether it is as it should be, and what to do if it is not."""

    name: str
    ok: bool
    what: str  # without secrets
    remedy: str = ""  # "" when nothing is wrong
