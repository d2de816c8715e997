"""One image of MemoryStore, and what filters and counts see of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from image_search.records import ImageRecord, RecognizedText, SearchFilter
from image_search.stores.base import CountedField, Embeddings
from image_search.stores.text import (
    decode_path,
    describe_recognized,
    encode_path,
    get_folder,
    list_model_names,
    list_searchable,
    name_after_path,
)
from tests.fakes.matching import occurs


@dataclass
class Place:
    """The known facts of the file at a path."""

    byte_size: int
    modified_ns: int | None


@dataclass
class Entry:
    """One image. paths: as stored, the latest first. embeddings: with their recipe, by model_id."""

    facts: ImageRecord
    preview: bytes
    data: bytes | None
    recognized: RecognizedText | None = None
    paths: dict[str, Place] = field(default_factory=dict)
    embeddings: dict[int, tuple[Embeddings, int]] = field(default_factory=dict)

    @property
    def record(self) -> ImageRecord:
        return replace(
            self.facts,
            paths=tuple(map(decode_path, self.paths)),
            **describe_recognized(self.recognized),
        )

    @property
    def film(self) -> str | None:
        return self.facts.frame.film_sha256 if self.facts.frame else None

    def drop_paths(self, paths: Iterable[str]) -> None:
        """Take paths away, and the name of one of them."""
        lost = [path for path in paths if self.paths.pop(path, None)]
        if lost:
            self.facts = replace(self.facts, file_name=name_after_path(self.record).file_name)


def list_fields(entry: Entry) -> list[str | None]:
    return list_searchable(entry.record)


def is_below(path: str, folder: str) -> bool:
    return path.startswith((f"{folder}/", f"{folder}\\"))


def check_filter(entry: Entry, filter: SearchFilter) -> Iterator[bool]:
    """Whether each condition of a filter holds."""
    record, text = entry.record, entry.facts.text
    for given, holds in (
        (filter.taken_from, lambda time: text.taken_at is not None and text.taken_at >= time),
        (filter.taken_to, lambda time: text.taken_at is not None and text.taken_at < time),
        (filter.registered_from, lambda time: record.upload_date >= time),
        (filter.registered_to, lambda time: record.upload_date < time),
        (filter.file_name, lambda name: record.file_name == name),
        (filter.orientation, lambda orientation: _name_orientation(record) == orientation),
        (filter.min_pixels, lambda pixels: record.width * record.height >= pixels),
        (filter.generator, lambda name: text.generator == name),
        (filter.generation_model, lambda name: text.generation_model in list_model_names(name)),
        (filter.lora, lambda name: not set(list_model_names(name)).isdisjoint(text.loras)),
        (filter.camera, lambda name: text.camera == name),
        (filter.lens, lambda name: text.lens == name),
        (filter.min_rating, lambda rating: record.rating is not None and record.rating >= rating),
        (filter.has_prompt, lambda wanted: (text.generation_prompt is not None) == wanted),
        (filter.has_text, lambda wanted: bool(record.recognized_text) == wanted),
        (filter.kind, lambda kind: kind in list_values(entry, "kind")),
        (filter.film_sha256, lambda film: entry.film == film),
        (filter.keyword, lambda keyword: keyword in record.keywords),
    ):
        yield given is None or holds(given)  # type: ignore[no-untyped-call]
    if filter.folder is not None:
        folder = encode_path(filter.folder).rstrip("/\\")
        yield any(is_below(path, folder) for path in entry.paths)
    yield not filter.file_types or record.file_type in filter.file_types
    yield all(occurs(word, list_fields(entry)) for word in filter.words if word.strip())


def _name_orientation(record: ImageRecord) -> str:
    if record.width == record.height:
        return "square"
    return "landscape" if record.width > record.height else "portrait"


def list_values(entry: Entry, field: CountedField) -> Iterable[str]:
    """The values of a field that is counted, each once."""
    record = entry.record
    if field == "keyword":
        return record.keywords
    if field == "lora":
        return record.text.loras
    if field == "folder":
        return {decode_path(get_folder(path)) for path in entry.paths}
    if field == "kind":
        return ["image" if record.frame is None else "frame"]
    if field == "film":
        return [] if entry.film is None else [entry.film]
    if field == "rating":
        return [] if record.rating is None else [str(record.rating)]
    value = record.file_type if field == "file_type" else getattr(record.text, field)
    return [] if value is None else [value]
