"""Where a picture's text is: one module for each kind of file, one for each kind of block."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from image_search.metadata.containers.extracted import Extracted
from image_search.metadata.containers.formats import read_gif, read_jpeg, read_png, read_raf, read_tiff, read_webp
from image_search.metadata.containers.heif import read_cr3, read_heif, read_jxl
from image_search.metadata.text import decode_text, is_binary

# (where the signature is, the signature, who reads the rest)
_READERS: tuple[tuple[int, bytes, Callable[[bytes, Extracted], None]], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", read_png),
    (0, b"\xff\xd8\xff", read_jpeg),
    (8, b"WEBP", read_webp),
    (0, b"GIF8", read_gif),
    (0, b"II*\x00", read_tiff),
    (0, b"MM\x00*", read_tiff),
    (4, b"ftypcrx ", read_cr3),
    (4, b"ftyp", read_heif),
    (4, b"JXL ", read_jxl),
    (0, b"FUJIFILMCCD-RAW", read_raf),
    # RAW files that are TIFF under a signature of their own.
    *((0, signature, read_tiff) for signature in (b"IIRO", b"IIRS", b"MMOR", b"IIU\x00")),
)


def find_texts(data: bytes, sidecars: Mapping[str, bytes], read_gps: bool = False) -> Extracted:
    """Texts of a file and of the files beside it (name to content). Does not decode pixels; skips damaged parts."""
    found = Extracted(read_gps=read_gps)
    for position, signature, read in _READERS:
        if data[position : position + len(signature)] == signature:
            read(data, found)
            break
    for name, content in sidecars.items():
        if name.lower().endswith(".xmp"):
            found.add_xmp(content)
        elif not is_binary(content):
            found.add_text(f"sidecar:{name}", decode_text(content))
    return found
