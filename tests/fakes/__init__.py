"""Stand-ins that are quick, deterministic and easy to reason about: an encoder that knows colours, and small images."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageColor

from image_search.encoders.base import Embeddings
from image_search.errors import StoreUnavailable, TextNotSupported
from image_search.records import ImageText, NewImage, SearchFilter
from image_search.stores.base import ImageStore

COLOURS = ("red", "green", "blue", "yellow", "cyan", "magenta", "white", "black", "orange", "purple")


class FakeEncoder:
    """Sees the mean colour of an image; "red" lies where a red image lies, other words lie anywhere but fixed."""

    def __init__(self, name: str = "fake", version: str = "1", dimension: int = 16, supports_text: bool = True) -> None:
        self.name = name
        self.version = version
        self.dimension = dimension
        self.supports_text = supports_text
        self.calls: list[int] = []  # the number of images or texts of every call

    def load(self) -> None:
        """Nothing is to be loaded."""

    def encode_images(self, images: Sequence[Image.Image]) -> Embeddings:
        self.calls.append(len(images))
        colours = [np.asarray(image.convert("RGB"), np.float64).reshape(-1, 3).mean(axis=0) for image in images]
        return self._embed(colours)

    def is_too_long(self, text: str) -> bool:
        return len(text) > 300

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        if not self.supports_text:
            raise TextNotSupported(f"{self.name} embeds pictures only. Search with a picture.")
        self.calls.append(len(texts))
        colours = [np.array(ImageColor.getrgb(text)[:3]) if text in COLOURS else None for text in texts]
        known = iter(self._embed([colour for colour in colours if colour is not None]))
        rows = [
            make_embeddings(1, self.dimension, seed=_make_seed(text))[0] if colour is None else next(known)
            for text, colour in zip(texts, colours, strict=True)
        ]
        return np.array(rows, np.float32).reshape(len(rows), self.dimension)

    def _embed(self, colours: Sequence[np.ndarray]) -> Embeddings:
        # Each channel becomes two coordinates (cosine and sine), so that every colour has its own direction.
        rows = np.zeros((len(colours), self.dimension))
        for row, colour in zip(rows, colours, strict=True):
            angle = np.asarray(colour) / 255 * np.pi / 2
            row[:6] = np.concatenate([np.cos(angle), np.sin(angle)]) / np.sqrt(3)
        return rows.astype(np.float32)


class FakeLazyEncoder(FakeEncoder):
    """The same with what LazyEncoder says of the device."""

    batch_size = 4
    device = "cpu"
    precision = "float32"


def make_embeddings(count: int, dimension: int = 16, seed: int = 0) -> Embeddings:
    """Random unit vectors, float32 (count, dimension), the same for the same seed."""
    rows = np.random.default_rng(seed).standard_normal((count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def draw_image(colour: str = "red", size: tuple[int, int] = (64, 48), mode: str = "RGB") -> Image.Image:
    """An image of one colour."""
    return Image.new("RGB", size, colour).convert(mode)


def draw_image_bytes(colour: str = "red", size: tuple[int, int] = (64, 48), format: str = "PNG") -> bytes:
    """The same as the bytes of a file."""
    file = io.BytesIO()
    draw_image(colour, size).save(file, format)
    return file.getvalue()


def make_image(
    name: str = "a.png",
    text: ImageText | None = None,
    *,
    data: bytes | None = None,
    width: int = 64,
    height: int = 48,
    file_type: str = "image/png",
    file_path: str | None = None,
    modified_ns: int | None = None,
) -> NewImage:
    """An image ready for a store. Its content follows from its name unless data is given; no real image inside."""
    data = f"original of {name}".encode("utf-8", "replace") if data is None else data
    return NewImage(
        content_sha256=hashlib.sha256(data).hexdigest(),
        file_name=name,
        file_type=file_type,
        width=width,
        height=height,
        data=data,
        preview=b"preview of " + data[:100],
        file_path=file_path,
        modified_ns=modified_ns,
        text=text or ImageText(),
    )


def make_images(count: int) -> list[NewImage]:
    """count different images."""
    return [make_image(f"image{number:04d}.png") for number in range(count)]


def find_ids(store: ImageStore, file_name: str) -> list[int]:
    """image_ids of the images of this name, the latest first."""
    return [hit.image_id for hit in store.list_images(filter=SearchFilter(file_name=file_name))]


def _make_seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:4], "big")


class AwayStore:
    """A database that does not answer, whatever it is asked."""

    concurrency = 8

    def __getattr__(self, name: str) -> object:
        def refuse(*_: object, **__: object) -> None:
            raise StoreUnavailable("The database at localhost:1521 does not answer. Start it and search again.")

        return refuse
