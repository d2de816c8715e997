"""Everything that can be done with a picture before the model is needed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import normalize

from PIL import Image

from image_search.images import (
    MAX_IMAGE_PIXELS,
    RECIPE,
    DecodedPicture,
    decode_image,
    find_dominant_color,
    hash_bytes,
    make_preview,
    make_printable,
)
from image_search.metadata import read_image_text
from image_search.metadata.sidecars import find_sidecars, separate_edits
from image_search.records import ImageText, KnownFile, NewImage
from image_search.registration.files import FoundFile
from image_search.settings import Settings


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A new image, and its picture for the encoder. replaces: the registered image whose file it was."""

    image: NewImage
    picture: Image.Image
    replaces: KnownFile | None = None

    @property
    def name(self) -> str:
        return make_printable(self.image.file_path or self.image.file_name)

    @property
    def key(self) -> str:
        return self.image.content_sha256

    @property
    def file(self) -> FoundFile:
        """The file it was read from; the path is "" for an upload."""
        return FoundFile(self.image.file_path or "", self.image.byte_size, self.image.modified_ns or 0)

    @property
    def weight(self) -> int:
        return self.image.byte_size + 3 * self.picture.width * self.picture.height


@dataclass(frozen=True, slots=True)
class ReadOriginal:
    """A registered image, and what its stored original holds."""

    image_id: int
    decoded: DecodedPicture

    @property
    def picture(self) -> Image.Image:
        return self.decoded.image

    @property
    def name(self) -> str:
        return f"Image {self.image_id}"

    @property
    def key(self) -> int:
        return self.image_id

    @property
    def weight(self) -> int:
        return 3 * self.picture.width * self.picture.height


@dataclass(frozen=True)
class ImageReader:
    """How images are read.

    read_gps: whether the place of a photograph is kept. read_people: whether names of people become keywords.
    video_frames: the most frames that are kept of one film.
    """

    max_pixels: int = MAX_IMAGE_PIXELS
    read_gps: bool = False
    read_people: bool = False
    video_frames: int = Settings.video_frames

    def read_file(self, file: FoundFile, data: bytes, content_sha256: str) -> ReadFile:
        """Decode the bytes of a file, make its preview and find its texts. Raises UnreadableImage."""
        picture = decode_image(data, file.path, self.max_pixels)
        sidecars, edits = separate_edits(find_sidecars(Path(file.path)))
        image = self._describe(data, os.path.basename(file.path), content_sha256, picture, sidecars)
        image = replace(image, file_path=file.path, modified_ns=file.modified_ns, edits=edits)
        return ReadFile(image, picture.image)

    def read_upload(self, data: bytes, file_name: str) -> ReadFile:
        """The same for a picture that comes from somewhere else than a file. Raises UnreadableImage."""
        picture = decode_image(data, file_name, self.max_pixels)
        return ReadFile(self._describe(data, file_name, hash_bytes(data), picture, {}), picture.image)

    def read_bytes(self, data: bytes, file_name: str) -> NewImage:
        """The same without the picture for the encoder. Raises UnreadableImage."""
        return self.read_upload(data, file_name).image

    def read_original(self, image_id: int, data: bytes) -> ReadOriginal:
        """Decode a stored original. Raises UnreadableImage."""
        return ReadOriginal(image_id, decode_image(data, f"Image {image_id}", self.max_pixels))

    def read_text(self, data: bytes, file_name: str, sidecars: Mapping[str, bytes]) -> ImageText:
        """The file's layer, out of the bytes of a file and of those beside it (name to content)."""
        return read_image_text(
            data, sidecars=sidecars, read_gps=self.read_gps, read_people=self.read_people, file_name=file_name
        )

    def _describe(
        self, data: bytes, file_name: str, content_sha256: str, picture: DecodedPicture, sidecars: Mapping[str, bytes]
    ) -> NewImage:
        return NewImage(
            content_sha256=content_sha256,
            file_name=normalize("NFC", file_name),
            file_type=picture.file_type,
            width=picture.width,
            height=picture.height,
            data=data,
            preview=make_preview(picture),
            text=self.read_text(data, file_name, sidecars),
            is_incomplete=picture.is_incomplete,
            dominant_color=find_dominant_color(picture),
            recipe=RECIPE,
        )


def make_reader(settings: Settings) -> ImageReader:
    """The reader that the settings ask for."""
    return ImageReader(settings.max_image_pixels, settings.read_gps, settings.read_people, settings.video_frames)
