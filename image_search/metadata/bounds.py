"""How much is read of what a file offers, and how bytes become clean text, in bounded time and memory."""

from __future__ import annotations

import re
import zlib

MAX_TEXT_BYTES = 4 << 20  # of one text chunk, decompressed; the largest ComfyUI graphs seen are below 2 MiB
MAX_TOTAL_BYTES = 16 << 20  # of all text chunks of one file
MAX_CHUNKS = 256  # text chunks of one file
MAX_KEPT_CHARACTERS = 256 << 10  # of one text kept beside the image; a longer one is cut with a note
MAX_DESCRIPTION_CHARACTERS = 64 << 10
MAX_BLOCK_BYTES = 4 << 20  # of one EXIF, XMP, IPTC or C2PA block

_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")
_KANA = re.compile("[ぁ-んァ-ヶー]")


def clean_text(text: str) -> str:
    """Without NULs, control characters and halves of surrogate pairs; line ends as \\n. Blanks at the ends stay."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNWANTED.sub("", text)


def decode_text(data: bytes) -> str:
    """Bytes of unstated encoding: UTF-8, else Windows Japanese when kana come out, else Latin-1. Never fails.

    Latin-1 has no characters from 80 to 9F, where Windows Japanese keeps kana, so the two are rarely confused.
    """
    data = data[:MAX_TEXT_BYTES]
    try:
        return clean_text(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        pass
    try:
        japanese = data.decode("cp932")
        if _KANA.search(japanese):
            return clean_text(japanese)
    except UnicodeDecodeError:
        pass
    return clean_text(data.decode("latin-1"))


def decompress(data: bytes, window_bits: int = zlib.MAX_WBITS, limit: int = MAX_TEXT_BYTES) -> bytes:
    """The first bytes of a zlib (or, with window_bits 31, gzip) stream; of a broken one, what precedes the damage."""
    stream = zlib.decompressobj(window_bits)
    out = bytearray()
    # In small steps: zlib gives nothing of the step in which it finds the damage.
    for start in range(0, len(data), 1 << 14):
        try:
            out += stream.decompress(data[start : start + (1 << 14)], limit - len(out))
        except zlib.error:
            break
        if stream.eof or len(out) >= limit:
            break
    return bytes(out)


def cut_text(text: str, limit: int = MAX_KEPT_CHARACTERS) -> str:
    """The text, or its beginning with a note that it was cut."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n[cut: {limit} characters of {len(text)}]"
