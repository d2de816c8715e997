"""Where a picture's text is: what was found, as one object; one module for kinds of files, one for kinds of blocks."""

from __future__ import annotations

from dataclasses import dataclass, field

from image_search.metadata.containers.blocks import Exif, Xmp, read_exif, read_iptc, read_xmp
from image_search.metadata.text import MAX_BLOCK_BYTES, MAX_CHUNKS, MAX_TEXT_BYTES, MAX_TOTAL_BYTES, clean_text


@dataclass
class Extracted:
    """Everything found in a file; the name of a text tells where.

    texts: PNG text chunks by their keyword; others as "EXIF:UserComment", "XMP:description", "IPTC:caption",
           "JPEG:Comment", "GIF:Comment", "stealth", "sidecar:cat.txt".
    c2pa:  the manifest store of Content Credentials, undecoded.
    """

    texts: dict[str, str] = field(default_factory=dict)
    exif: Exif = field(default_factory=dict)
    xmp: Xmp = field(default_factory=dict)
    iptc: dict[str, list[str]] = field(default_factory=dict)
    c2pa: bytes = b""
    read_gps: bool = False
    _spent: int = 0

    @property
    def is_full(self) -> bool:
        """Whether the file has said more than is read; everything added from now on is dropped."""
        return self._spent > MAX_TOTAL_BYTES or len(self.texts) >= MAX_CHUNKS

    def add_text(self, name: str, text: str) -> None:
        """Keep a text under its name, the second of the same name as "name (2)"."""
        text = clean_text(text[:MAX_TEXT_BYTES])
        if not text.strip() or self._is_spent(len(text)):
            return
        name = clean_text(name[:200]).strip() or "text"
        number, unique = 1, name
        while unique in self.texts:
            if self.texts[unique] == text:
                return
            number += 1
            unique = f"{name} ({number})"
        self.texts[unique] = text

    def add_exif(self, data: bytes) -> None:
        """Read an EXIF block, with or without the leading "Exif\\0\\0"."""
        if self._is_spent(min(len(data), MAX_BLOCK_BYTES)):  # of a TIFF file, the whole of it comes here
            return
        for name, value in read_exif(data, self.read_gps).items():
            self.exif.setdefault(name, value)
            if isinstance(value, str) and name not in _PLAIN_EXIF:
                self.add_text(f"EXIF:{name}", value)

    def add_xmp(self, data: bytes) -> None:
        """Read an XMP packet. The packet itself is not kept: it may say where the photograph was taken."""
        if self._is_spent(len(data)):
            return
        for name, values in read_xmp(data).items():
            if self.xmp.setdefault(name, values) is values and name in _XMP_TEXTS:
                self.add_text(f"XMP:{name}", "\n".join(values))
            elif name.startswith("generated:"):
                self.add_text(name.removeprefix("generated:"), values[0])  # as the same settings in a PNG chunk

    def add_iptc(self, data: bytes) -> None:
        """Read a Photoshop resource block or bare IPTC records."""
        if self._is_spent(len(data)):
            return
        for name, values in read_iptc(data).items():
            if self.iptc.setdefault(name, values) is values and name in ("caption", "headline", "title"):
                self.add_text(f"IPTC:{name}", "\n".join(values))

    def add_c2pa(self, data: bytes) -> None:
        """Keep the bytes of a C2PA manifest store; a JPEG brings them in several segments."""
        self.c2pa += data[: MAX_BLOCK_BYTES - len(self.c2pa)]

    def _is_spent(self, size: int) -> bool:
        self._spent += size
        return self.is_full


# Read by name; no language, so nothing to keep or to search as text.
_PLAIN_EXIF = frozenset(
    {"DateTime", "DateTimeOriginal", "DateTimeDigitized", "GPSDateStamp"}
    | {"LensModel", "GPSLatitudeRef", "GPSLongitudeRef"}
)
_XMP_TEXTS = frozenset({"description", "title", "UserComment", "CreatorTool", "Credit", "Headline"})
