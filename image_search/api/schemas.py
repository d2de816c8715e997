"""Requests and responses, the same for REST, Gradio endpoints and tools."""

from __future__ import annotations

import json
from base64 import b64decode, urlsafe_b64encode
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from image_search.records import Edits, ImageRecord, ImageText, Kind, Orientation, SearchFilter, TrashReason
from image_search.search import PAGE_SIZE
from image_search.search.query import IMAGE_WEIGHT, parse_date
from image_search.search.ranking import FoundBy, FoundHit
from image_search.stores.text import sanitize

MAX_PAGE, MAX_PAGE_SIZE = 1000, 100
CONDITIONS = (
    "Conditions among the words: camera:sony, lens:50mm, model:sdxl, lora:ink, rating:4 (at least), folder:2024, "
    'keyword:"Paris, France", taken:2019, registered:2024-01; 2019-08 alone is when an image was taken.'
)
_MAX_TEXT = 2000
_NO_TEXT, _NO_EDITS = ImageText(), Edits()


def _make_encodable(text: str) -> str:
    # JSON may hold half a character, which no database and no tokenizer takes.
    return text.encode("utf-8", "replace").decode()


def _convert_to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except OverflowError:
        raise ValueError("the moment is outside of the calendar") from None


def _drop_zone(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)


def _read_date(value: object, read: ValidatorFunctionWrapHandler) -> datetime:
    """A year or month means its first moment."""
    if isinstance(value, str) and (date := parse_date(value)):
        return date
    with suppress(ValidationError):
        if not _is_number(value):  # Pydantic takes numbers as seconds since 1970, which no date of a person is
            return cast(datetime, read(value))
    raise ValueError("this is not a date; write 2024-05-01, 2024-05, 2024 or 2024-05-01T18:30, as text")


def _is_number(value: Any) -> bool:
    with suppress(TypeError, ValueError, OverflowError):
        float(value)
        return True
    return False


LongText = Annotated[str, Field(max_length=100_000), AfterValidator(_make_encodable)]
Text = Annotated[str, Field(max_length=_MAX_TEXT), AfterValidator(_make_encodable)]
LocalMoment = Annotated[datetime, WrapValidator(_read_date), AfterValidator(_drop_zone)]
UtcMoment = Annotated[datetime, WrapValidator(_read_date), AfterValidator(_convert_to_utc)]
ImageId = Annotated[int, Field(ge=1, le=2**63 - 1)]  # the largest that every engine can hold
Names = Annotated[
    tuple[Text, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value), Field(max_length=50)
]


@dataclass(frozen=True, slots=True)
class Cursor:
    """The position after an image in the list of the newest, as an opaque token.

    rank: of that image. The token holds all sort keys, so it works after the image is deleted.
    """

    upload_date: datetime
    image_id: int
    rank: int

    @classmethod
    def decode(cls, token: str) -> Cursor:
        """Make a cursor from a token. Raises ValueError."""
        with suppress(ValueError, TypeError, OverflowError, RecursionError):
            date, image_id, rank = json.loads(b64decode(token.encode(), b"-_", validate=True))
            cursor = cls(datetime.fromisoformat(date), int(image_id), int(rank))
            if not cursor.upload_date.tzinfo and 0 < cursor.image_id < 2**63 and 0 < cursor.rank < 2**63:
                return cursor
        raise ValueError("it is not a token of an earlier answer; send its next, as it was, or leave this out")

    def encode(self) -> str:
        """The cursor as a token."""
        keys = json.dumps([self.upload_date.isoformat(), self.image_id, self.rank], separators=(",", ":"))
        return urlsafe_b64encode(keys.encode()).decode()

    @property
    def record(self) -> ImageRecord:
        """A record with the sort keys of that image, for ImageStore.list_images."""
        return ImageRecord(self.image_id, "0" * 64, "", "", 0, 0, 0, self.upload_date, (), _NO_TEXT)


def _check_cursor(token: str | None) -> str | None:
    if token is not None:
        Cursor.decode(token)
    return token


class SearchRequest(BaseModel):
    """A query. Without any field it returns the newest images."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Text = Field("", description=f'Words. "Quoted" ones must occur; -this moves away from it. {CONDITIONS}')
    exclude: Text = Field("", description="More words to move away from.")
    like: ImageId | None = Field(None, description="image_id to find similar images to; itself is left out.")
    image_weight: float = Field(IMAGE_WEIGHT, ge=0, le=1, description="0: only the words count, 1: only the image.")
    min_relevance: float = Field(
        0, ge=0, le=1, description="Leaves out hits of less relevance; 0.5 is the line. Where it is null nothing is."
    )
    page: int = Field(1, ge=1, le=MAX_PAGE)
    page_size: int = Field(PAGE_SIZE, ge=1, le=MAX_PAGE_SIZE)
    after: Annotated[str, Field(max_length=200), AfterValidator(_check_cursor)] | None = Field(
        None, description="next of an earlier answer, in place of page: the list goes on behind it. Only of lists."
    )
    taken_from: LocalMoment | None = Field(
        None, description="Taken then or later, in the camera's local time; a zone changes nothing."
    )
    taken_to: LocalMoment | None = Field(None, description="Taken before then.")
    registered_from: UtcMoment | None = Field(None, description="Registered then or later; UTC unless it names a zone.")
    registered_to: UtcMoment | None = Field(None, description="Registered before then.")
    folder: Text | None = Field(None, description="Absolute folder the file was registered from, at any depth.")
    file_types: Names = Field((), description="MIME types, any of them.")
    orientation: Orientation | None = None
    min_pixels: int | None = Field(None, ge=1, le=10**12, description="width * height at least.")
    generator: Text | None = None
    generation_model: Text | None = None
    has_prompt: bool | None = Field(None, description="With a generation prompt, or without.")
    keyword: Text | None = Field(None, description="One keyword, whole.")
    min_rating: Annotated[int, Field(ge=0, le=5), AfterValidator(lambda stars: stars or None)] | None = Field(
        None, description="Stars at least, 1 to 5; 0 is no condition."
    )
    lora: Text | None = None
    camera: Text | None = None
    lens: Text | None = None
    has_text: bool | None = Field(None, description="With text seen in the image, or without.")
    kind: Kind | None = Field(None, description="Images that are files, or frames of films.")
    film_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="Frames of this film, each as a hit of its own."
    )

    @property
    def filter(self) -> SearchFilter:
        """The conditions, for the store."""
        names = SearchFilter.__slots__
        return SearchFilter(**{name: getattr(self, name) for name in names if name in type(self).model_fields})

    @model_validator(mode="after")
    def _check_pages(self) -> Self:
        if self.after is not None and self.page != 1:
            raise ValueError("after takes the place of page; leave one of them out")
        return self

    @property
    def cursor(self) -> Cursor | None:
        return None if self.after is None else Cursor.decode(self.after)

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.page_size


class EditsIn(BaseModel):
    """Edits of an image by its user. A field left out keeps its value; null returns to the value of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: LongText | None = Field(None, description='"" is no caption, whatever the file says.')
    keywords: tuple[Text, ...] | None = Field(
        None, max_length=100_000, description="The whole list, with any characters; [] is none."
    )
    rating: int | None = Field(None, ge=0, le=5, description="Stars; 0 is none, whatever the file says.")

    def apply(self, edits: Edits) -> Edits:
        """The edits with what was sent."""
        return replace(edits, **{name: getattr(self, name) for name in self.model_fields_set})


class FrameOut(BaseModel):
    """Which film an image is a frame of, and where in it. The film's name is the file_name of the image."""

    film_sha256: str
    frame_ms: int
    duration_ms: int
    position: str = Field(description="frame_ms as hours, minutes and seconds: 00:12:34.")
    film: str = Field(description="Address of the film, which takes Range requests.")


class ImageOut(BaseModel):
    """An image, the texts of its file and the edits of its user."""

    image_id: int
    file_name: str
    file_type: str
    byte_size: int
    width: int
    height: int
    registered: datetime = Field(description="UTC")
    file_path: str | None = Field(description="Where it was registered from; null for an upload.")
    paths: list[str] = Field(description="Every known place of the file, the latest first.")
    preview: str = Field(description="Address of the WebP preview, relative to the page.")
    original: str | None = Field(description="Address of the file as it was registered; null for a frame of a film.")
    text: dict[str, Any] = Field(description="What the file says: prompt, caption, camera ...; only what is known.")
    edits: dict[str, Any] = Field(description="Edits of the user, which win: description, keywords, rating.")
    description: str | None = Field(description="The person's caption, or else the file's.")
    keywords: list[str] = Field(description="The person's keywords, or else the file's.")
    rating: int | None = Field(description="The person's stars, or else the file's; 0 to 5.")
    recognized_text: str | None = Field(description="Text seen in the image; null when it was not looked for.")
    frame: FrameOut | None = Field(description="Set for a frame of a film.")
    deleted_at: datetime | None = Field(description="UTC; set for an image in the trash.")
    trash_reason: TrashReason | None = Field(description="By a user, or because the file disappeared.")

    @classmethod
    def of(cls, image: ImageRecord) -> ImageOut:
        """Make the response from a record."""
        return cls(
            image_id=image.image_id,
            file_name=image.file_name,
            file_type=image.file_type,
            byte_size=image.byte_size,
            width=image.width,
            height=image.height,
            registered=image.upload_date.replace(tzinfo=UTC),
            file_path=None if image.file_path is None else sanitize(image.file_path),
            preview=f"api/images/{image.image_id}/preview",
            original=None if image.frame else f"api/images/{image.image_id}/original",
            paths=[sanitize(path) for path in image.paths],
            text=_list_known(image.text, _NO_TEXT),
            edits=_list_known(image.edits, _NO_EDITS),
            description=image.description,
            keywords=list(image.keywords),
            rating=image.rating,
            recognized_text=image.recognized_text,
            frame=FrameOut(
                **asdict(image.frame), position=image.frame.position, film=f"api/images/{image.image_id}/film"
            )
            if image.frame
            else None,
            deleted_at=image.deleted_at and image.deleted_at.replace(tzinfo=UTC),
            trash_reason=image.trash_reason,
        )


def _list_known(record: ImageText | Edits, nothing: ImageText | Edits) -> dict[str, Any]:
    # dataclasses.asdict copies everything deeply, which is a tenth of a search. Most fields are the very same object.
    return {
        name: value
        for name in record.__slots__
        if (value := getattr(record, name)) is not (default := getattr(nothing, name))
        and value != default
        and name != "raw"
    }


class Hit(BaseModel):
    """One result. distance: minus the inner product, smaller is nearer; null where nothing was compared."""

    rank: int
    distance: float | None
    relevance: float | None = Field(description="0 to 1; 0.5 is the line between relevant and not. Null: not known.")
    found_by: FoundBy | None = Field(description="By meaning, by words or by both; null for the newest.")
    moments: int = Field(description="Other frames of the same film, which is one hit; 0 for an image.")
    found_in_text: bool = Field(description="Whether one of the words stands in the image itself.")
    image: ImageOut

    @classmethod
    def of(cls, hit: FoundHit, rank: int) -> Hit:
        """Make the response from a hit of a search."""
        facts = ImageOut.of(hit.image)
        return cls(
            rank=rank,
            distance=hit.distance,
            relevance=hit.relevance,
            found_by=hit.found_by,
            moments=hit.moments,
            found_in_text=hit.found_in_text,
            image=facts,
        )


class SearchAnswer(BaseModel):
    """One page of a ranked list, best first."""

    hits: list[Hit]
    total: int = Field(
        description="Images and films that meet the conditions, on all pages; min_relevance is not counted."
    )
    page: int
    page_size: int
    pages: int
    has_more: bool = Field(description="Whether the next page has hits.")
    next: str | None = Field(
        None,
        description="Of a list: send it as after for the next page, in which nothing comes twice and nothing is left "
        "out, whatever is added and deleted meanwhile. Null on the last page, and where hits are ranked.",
    )
    has_match: bool | None = Field(description="Whether any hit of this page is a match; null: unknown.")
    is_text_cut: bool = Field(
        False, description="The words were longer than the model takes; only their beginning counts."
    )
    notes: list[str] = Field([], description="Sentences on typed conditions: which of several names was taken.")
    encode_ms: float
    search_ms: float


class TrashOut(BaseModel):
    """One page of the trash, the latest deleted first. A film is in it once, by its first frame."""

    images: list[ImageOut]
    total: int = Field(description="Images and films in the trash, on all pages.")
    page: int
    page_size: int
    has_more: bool


class DeletedOut(BaseModel):
    """Record of an image that was removed for good, so that it is not registered again."""

    content_sha256: str
    deleted_at: datetime = Field(description="UTC")
    paths: list[str]


class Count(BaseModel):
    """The number of images affected; a film counts as one."""

    count: int


class TagOut(BaseModel):
    """A word for an image, in both languages."""

    japanese: str
    english: str
    probability: float


class Registered(BaseModel):
    """is_new: false when the same file was in the library already; image is that one."""

    is_new: bool
    was_restored: bool = Field(False, description="Whether it had been deleted earlier, and is back.")
    image: ImageOut


class ExtractRequest(BaseModel):
    """A folder of the computer the program runs on, with its whole path."""

    model_config = ConfigDict(extra="forbid")
    folder: Text


class Extracted(BaseModel):
    """Numbers of files by outcome; warnings: one sentence for each of the first 100 files that need one."""

    updated: int
    unchanged: int
    no_text: int
    failed: int = Field(description="Files that could not be read, or are not registered.")
    warnings: list[str]


class ModelOut(BaseModel):
    """An embedding model of the library."""

    model_id: int
    name: str
    version: str
    dimension: int
    is_current: bool
    embeddings: int


class Status(BaseModel):
    """Status of the library. location has no secrets."""

    engine: str
    location: str
    image_count: int = Field(description="Without those in the trash.")
    trash_count: int = Field(description="Images in the trash, each frame of a film too.")
    model: str = Field(description="The model that answers searches.")
    understands_text: bool
    models: list[ModelOut]


class ErrorOut(BaseModel):
    """An error: a code for programs, a sentence for people."""

    code: str
    message: str
