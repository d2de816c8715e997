"""Shared value types. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, overload

Orientation = Literal["landscape", "portrait", "square"]
Kind = Literal["image", "frame"]
Order = Literal["registered", "taken", "name"]
TrashReason = Literal["deleted", "gone"]  # by a user, or because the file disappeared


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
    """The file's layer: what an image's file and its sidecars say. Reading files again replaces all of it.

    generation_prompt: the readable text a generator wrote (prompt, negative prompt, settings), searchable.
    description:       the caption of a photograph, or text of an unknown generator, searchable.
    The other fields are the same facts taken apart, for display and for filters; None or () where unknown.
    raw:               the text chunks as found, name to text, so that a later version can read more out of them.
    """

    generation_prompt: str | None = None
    description: str | None = None
    generator: str | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    generation_model: str | None = None
    loras: tuple[str, ...] = ()
    seed: str | None = None  # text: seeds exceed 64 bits in some generators
    steps: int | None = None
    sampler: str | None = None
    cfg: float | None = None
    generated_size: str | None = None  # "1024x1536"
    keywords: tuple[str, ...] = ()
    rating: int | None = None  # 0 to 5
    taken_at: datetime | None = None  # local time of the place, without zone, as cameras write it
    taken_precision: Literal["second", "day", "month", "year"] = "second"
    taken_source: str | None = None  # where taken_at was read, for example "exif", "xmp", "name"
    taken_is_doubtful: bool = False  # for example the reset date of a camera
    camera: str | None = None
    lens: str | None = None
    exposure: str | None = None  # seconds, as written: "1/250"
    aperture: float | None = None  # f-number
    iso: int | None = None
    focal_length: float | None = None  # mm
    latitude: float | None = None  # only when READ_GPS=1
    longitude: float | None = None
    raw: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Edits:
    """The user's layer: wins over the file's field by field, and no reading of files touches it.

    None: no edit, the file's value applies. "" or (): edited to be empty.
    """

    description: str | None = None
    keywords: tuple[str, ...] | None = None
    rating: int | None = None  # 0 to 5; 0 is "no stars", said by a user

    @property
    def is_empty(self) -> bool:
        return self == Edits()


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of text in an image. box: left, top, right, bottom, relative to width and height, 0 to 1."""

    text: str
    score: float  # 0 to 1
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class RecognizedText:
    """The recognised layer: text in an image. An image without any text has no lines and text "".

    text:  what is shown of it, lines separated by line breaks
    lines: all of them in reading order; those that are too doubtful to be shown are searched, too
    """

    recognizer: str  # name and version, "PP-OCRv6 small 1"
    text: str
    lines: tuple[TextLine, ...] = ()


@dataclass(frozen=True, slots=True)
class Frame:
    """Which film an image is a frame of. Film hash and time are unique together."""

    film_sha256: str  # 64 hexadecimal digits, of head, tail and size of the film
    frame_ms: int  # position in the film
    duration_ms: int  # of the whole film

    @property
    def position(self) -> str:
        """Hours, minutes and seconds from the start: 00:12:34."""
        seconds = self.frame_ms // 1000
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


@dataclass(frozen=True, slots=True)
class NewImage:
    """A decoded image on its way into a store.

    data: the original file, unchanged; None when it stays where it is (a frame of a film, originals by reference).
    """

    content_sha256: str  # 64 hexadecimal digits, of the original bytes; of a frame: hash_frame
    file_name: str  # NFC, without folder
    file_type: str  # MIME type found by decoding, never by the file's suffix
    width: int  # pixels, after EXIF orientation
    height: int
    data: bytes | None
    preview: bytes  # WebP
    file_path: str | None = None  # absolute, as os.fsdecode gives it; None for an upload
    modified_ns: int | None = None  # modification time of the file, nanoseconds since 1970
    text: ImageText = field(default_factory=ImageText)
    upload_date: datetime | None = None  # UTC, without zone; None: now. Set when a library is copied
    size: int | None = None  # bytes of the original, needed when data is None
    frame: Frame | None = None
    is_incomplete: bool = False  # the file is cut short; the image shows what could be decoded
    dominant_color: str | None = None  # "#rrggbb"
    recipe: int = 1  # version of the decoding that made preview and embedding
    edits: Edits = field(default_factory=Edits)  # set when a library is copied
    recognized: RecognizedText | None = None  # set when a library is copied

    @property
    def byte_size(self) -> int:
        """Bytes of the original."""
        return len(self.data) if self.data is not None else self.size or 0


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
    paths: tuple[str, ...]  # absolute, every known place of the file, the latest first; () for an upload
    text: ImageText
    edits: Edits = field(default_factory=Edits)
    recognizer: str | None = None  # None: text in the image was not looked for
    recognized_text: str | None = None
    frame: Frame | None = None
    is_incomplete: bool = False
    dominant_color: str | None = None
    recipe: int = 1  # of the preview
    deleted_at: datetime | None = None  # UTC; set for an image in the trash
    trash_reason: TrashReason | None = None  # set for an image in the trash
    searched_text: str | None = None  # recognized_text with the doubtful lines, too; None where there are none

    @property
    def file_path(self) -> str | None:
        """The latest known place of the file."""
        return self.paths[0] if self.paths else None

    @property
    def description(self) -> str | None:
        """The person's description, or else the file's."""
        return self.text.description if self.edits.description is None else self.edits.description or None

    @property
    def keywords(self) -> tuple[str, ...]:
        """The person's keywords, or else the file's."""
        return self.text.keywords if self.edits.keywords is None else self.edits.keywords

    @property
    def rating(self) -> int | None:
        """The person's rating, or else the file's; 0 to 5, None when there is none."""
        return self.text.rating if self.edits.rating is None else self.edits.rating


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One result. distance: -(inner product of unit vectors), in [-1, 1], smaller is nearer, or None."""

    image: ImageRecord
    distance: float | None = None

    @property
    def image_id(self) -> int:
        return self.image.image_id


@dataclass(frozen=True, slots=True)
class Hits(Sequence[SearchHit]):
    """One page of results, a sequence of hits, and how many qualify in all, both of one moment."""

    hits: tuple[SearchHit, ...] = ()
    total: int = 0

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[SearchHit]:
        return iter(self.hits)

    @overload
    def __getitem__(self, index: int) -> SearchHit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[SearchHit, ...]: ...
    def __getitem__(self, index: int | slice) -> SearchHit | tuple[SearchHit, ...]:
        return self.hits[index]


@dataclass(frozen=True, slots=True)
class SearchFilter:
    """Which images may be found. Every field that is set must hold; the empty filter lets everything through.

    description, keyword and rating mean the effective value: the user's, or else the file's.
    """

    taken_from: datetime | None = None  # inclusive
    taken_to: datetime | None = None  # exclusive
    registered_from: datetime | None = None  # UTC, inclusive
    registered_to: datetime | None = None  # UTC, exclusive
    folder: str | None = None  # absolute folder; images with a path below it, at any depth
    file_name: str | None = None  # the whole name, NFC, case-sensitive
    file_types: tuple[str, ...] = ()  # MIME types, any of them
    orientation: Orientation | None = None
    min_pixels: int | None = None  # width * height at least
    generator: str | None = None
    generation_model: str | None = None
    lora: str | None = None
    camera: str | None = None
    lens: str | None = None
    min_rating: int | None = None
    has_prompt: bool | None = None  # True: with a generation prompt; False: without
    has_text: bool | None = None  # True: text that is shown was recognised; False: none was, or none was looked for
    kind: Kind | None = None
    film_sha256: str | None = None  # frames of this film
    keyword: str | None = None  # one keyword, whole
    words: tuple[str, ...] = ()  # every one of them occurs, as ImageStore.list_images understands terms

    @property
    def is_empty(self) -> bool:
        return self == SearchFilter()


@dataclass(frozen=True, slots=True)
class KnownFile:
    """Size, time and hash of a registered file, to recognise an unchanged one without reading it."""

    image_id: int
    byte_size: int
    modified_ns: int | None
    content_sha256: str
    film_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class DeletedImage:
    """Record of an image whose trash was emptied, so that it stays deleted.

    paths: where its file was seen; "sha256:" and a hash for content that the file of that deleted image was given later
    """

    content_sha256: str
    deleted_at: datetime  # UTC
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """Status of a store, for --check and the status endpoint."""

    engine: str  # "SQLite 3.40 + FAISS 1.15", "Oracle Database 23.26.1.0.0"
    location: str  # without secrets
    image_count: int  # without the trash
    models: tuple[tuple[EmbeddingModel, int], ...]  # with the number of embeddings of each
    trash_count: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of --check: its subject, whether it is ok, and the fix."""

    name: str
    ok: bool
    what: str  # without secrets
    remedy: str = ""  # "" when nothing is wrong
