"""What programs can ask of a library, whichever way they come. Scarce things stand behind gates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from image_search.api.folders import extract_texts
from image_search.api.gates import Gate
from image_search.api.shapes import (
    Extracted,
    Hit,
    ImageFacts,
    ModelFacts,
    Registered,
    SearchAnswer,
    SearchRequest,
    Status,
    TagFacts,
)
from image_search.errors import ImageNotFound, UnreadableImage
from image_search.image_files import decode_picture
from image_search.records import ImageRecord
from image_search.registration import ImageReader, register_upload
from image_search.search import Plan, Query, Searcher, SearchResult


@dataclass(frozen=True)
class SentPicture:
    """A picture as a program sent it. It is read in its turn, so that what waits is not held in memory."""

    name: str
    read: Callable[[], bytes]

    def fetch(self) -> bytes:
        """Its bytes. Raises UnreadableImage when there are none."""
        data = self.read()
        if not data:
            raise UnreadableImage(f"{self.name} is empty.")
        return data


@dataclass(frozen=True)
class Library:
    """Safe to use from many requests at once. Every method may raise an ImageSearchError, Busy among them.

    The model gains nothing from more at once than processors; the store's number fits every engine's connections.
    roots: folders whose files a program may have read again, without links.
    """

    searcher: Searcher
    reader: ImageReader
    roots: tuple[Path, ...] = ()
    encoder_gate: Gate = field(default_factory=lambda: Gate("model", at_once=2, waiting=64, patience=20))
    store_gate: Gate = field(default_factory=lambda: Gate("database", at_once=8, waiting=128, patience=20))
    folder_gate: Gate = field(default_factory=lambda: Gate("disk", at_once=1, waiting=4, patience=20))

    async def search(self, asked: SearchRequest, picture: SentPicture | None = None) -> SearchAnswer:
        """One page of what is nearest. Raises UnreadableImage, TextNotSupported, ImageNotFound for asked.like."""
        if picture or asked.text.strip() or asked.exclude.strip():
            plan = await self.encoder_gate.run(lambda: self.searcher.plan(self._make_query(asked, picture)))
        elif asked.like is not None:
            plan = await self.store_gate.run(lambda: self.searcher.plan(self._make_query(asked, None)))
        else:
            plan = Plan(filter=asked.filter)
        result = await self.store_gate.run(lambda: self.searcher.rank(plan, asked.page_size, asked.offset))
        return _make_answer(asked, result)

    async def describe(self, image_id: int) -> ImageFacts:
        """One image. Raises ImageNotFound."""
        return ImageFacts.of(await self._find(image_id))

    async def find_tags(self, image_id: int) -> list[TagFacts]:
        """The likeliest words for an image. Raises ImageNotFound, TextNotSupported for an image-only model."""

        def find() -> list[TagFacts]:
            model = self.searcher.model
            embedding = self.searcher.store.get_embedding(image_id, model.get_entry().model_id)
            tags = model.tagger.name_picture(embedding)
            return [TagFacts(japanese=t.japanese, english=t.english, probability=t.probability) for t in tags]

        return await self.encoder_gate.run(find)  # the first time embeds the whole list

    async def register(self, picture: SentPicture) -> Registered:
        """Into the library at once. Raises UnreadableImage, StoreFull."""

        def register() -> Registered:
            store, model = self.searcher.store, self.searcher.model
            image_id, is_new = register_upload(
                store, model.encoder, lambda: model.get_entry().model_id, self.reader, picture.fetch(), picture.name
            )
            return Registered(is_new=is_new, image=ImageFacts.of(store.get_image(image_id)))

        return await self.encoder_gate.run(register)

    async def delete(self, image_id: int) -> None:
        """Remove an image; the file it was registered from stays. Raises ImageNotFound."""
        if not await self.store_gate.run(lambda: self.searcher.store.delete_images([image_id])):
            raise ImageNotFound(f"There is no image {image_id}. It may have been deleted.")

    async def extract(self, folder: str) -> Extracted:
        """Read again what the files of a folder say. Raises FolderRefused, FolderNotFound."""
        store, read_gps = self.searcher.store, self.reader.read_gps
        return await self.folder_gate.run(lambda: extract_texts(store, folder, self.roots, read_gps))

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
            model=encoder.name,
            understands_text=encoder.supports_text,
            models=[
                ModelFacts(
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

    async def _find(self, image_id: int) -> ImageRecord:
        return await self.store_gate.run(lambda: self.searcher.store.get_image(image_id))

    def _make_query(self, asked: SearchRequest, picture: SentPicture | None) -> Query:
        image = decode_picture(picture.fetch(), picture.name, self.reader.max_pixels).image if picture else None
        return Query(
            text=asked.text,
            image=image,
            excluded_text=asked.exclude,
            like=asked.like,
            image_weight=asked.image_weight,
            filter=asked.filter,
        )


def _make_answer(asked: SearchRequest, result: SearchResult) -> SearchAnswer:
    ranked = enumerate(result.hits, start=asked.offset + 1)
    hits = [Hit.of(hit, rank) for rank, hit in ranked if hit.relevance is None or hit.relevance >= asked.min_relevance]
    return SearchAnswer(
        hits=hits,
        total=result.total,
        page=asked.page,
        page_size=asked.page_size,
        pages=-(-result.total // asked.page_size),
        # Relevance falls with the rank: behind a page that ends below the line nothing is above it.
        has_more=result.has_more and bool(hits) and hits[-1].image.image_id == result.hits[-1].image_id,
        has_match=result.has_match,
        encode_ms=round(result.encode_ms, 3),
        search_ms=round(result.search_ms, 3),
    )
