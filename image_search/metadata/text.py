"""Between containers and generators: the found texts as one mapping of keys to values, whatever carried them.

The same settings are a PNG chunk "prompt" in one file, "prompt:{...}" in the EXIF tag Make of another, and a key of a
JSON object in UserComment of a third. Here they all become the key "prompt".
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

# How much is read of what a file offers, and how bytes become clean text, in bounded time and memory.

MAX_TEXT_BYTES = 4 << 20  # of one text chunk, decompressed; the largest ComfyUI graphs seen are below 2 MiB
MAX_TOTAL_BYTES = 16 << 20  # of all text chunks of one file
MAX_CHUNKS = 256  # text chunks of one file
MAX_KEPT_CHARACTERS = 256 << 10  # of one text kept beside the image; a longer one is cut with a note
MAX_DESCRIPTION_CHARACTERS = 64 << 10
MAX_BLOCK_BYTES = 4 << 20  # of one EXIF, XMP, IPTC or C2PA block

_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")
_KANA = re.compile("[ぁ-んァ-ヶー]")
_HALF_WIDTH = re.compile("[\uff61-\uff9f]")  # EUC-JP that is taken for Windows Japanese becomes these
_ISO_2022_JP = re.compile(rb"\x1b\$[@B]")
_CONTROLS = re.compile(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f\x7f]")


def clean_text(text: str) -> str:
    """Without NULs, control characters and halves of surrogate pairs; line ends as \\n. Blanks at the ends stay."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNWANTED.sub("", text)


def is_binary(data: bytes) -> bool:
    """Whether bytes are no text in any encoding, by their control characters."""
    return data[:2] not in (b"\xff\xfe", b"\xfe\xff") and len(_CONTROLS.findall(data[:4096])) * 20 > len(data[:4096])


def decode_text(data: bytes) -> str:
    """Bytes of unstated encoding: by a byte order mark, UTF-8, Japanese when kana come out, else Latin-1.

    Latin-1 has no characters from 80 to 9F, where Windows Japanese keeps kana, so the two are rarely confused. EUC-JP
    keeps them behind A4 and A5, which are rare signs in Latin-1.
    """
    data = data[:MAX_TEXT_BYTES]
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return clean_text(data.decode("utf-16", "replace"))
    encodings = ("iso2022_jp",) if _ISO_2022_JP.search(data) else ("utf-8-sig", "cp932", "euc_jp")
    for encoding in encodings:
        with suppress(UnicodeDecodeError):
            text = data.decode(encoding)
            if encoding in ("utf-8-sig", "iso2022_jp") or len(_KANA.findall(text)) > len(_HALF_WIDTH.findall(text)):
                return clean_text(text)
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


# Where programs put settings that are text or one JSON object; in the order in which they are believed.
_CARRIERS = re.compile(
    r"(?:parameters|Comment|EXIF:(?:UserComment|ImageDescription|Make|Model|XPComment)|XMP:(?:UserComment|description)"
    r"|JPEG:Comment|GIF:Comment|stealth|sidecar:.*)(?: \(\d+\))?",
    re.DOTALL,
)
_PREFIX = re.compile(r"\s*(prompt|workflow|parameters)\s*:\s*(?=\{)", re.IGNORECASE)
_LOOKS_GENERATED = re.compile(r"negative prompt:|\bsteps:\s*\d+.*\b(?:sampler|seed|cfg scale|size):", re.I | re.S)

Fields = dict[str, Any]


def make_fields(texts: Mapping[str, str]) -> Fields:
    """Keys to values: text, or what JSON gives. PNG chunks keep their keyword; JSON objects are spread out.

    A key found twice keeps its first value: chunks before carriers, carriers in the order of the file. Settings written
    as plain text become the key "parameters". The objects themselves are the value of "objects".
    """
    fields: Fields = {name: text for name, text in texts.items() if ":" not in name}
    objects: list[dict[str, Any]] = []
    fields["objects"] = objects
    for name, text in texts.items():
        if not _CARRIERS.fullmatch(name):
            continue
        if prefix := _PREFIX.match(text):
            fields.setdefault(prefix[1].lower(), text[prefix.end() :])
        elif settings := load_object(text):
            objects.append(settings)
            for key, value in settings.items():
                fields.setdefault(key, value)
        elif name == "stealth" or _LOOKS_GENERATED.search(text[-8192:]):
            fields.setdefault("parameters", text)
    for name in ("Software", "CreatorTool", "Make", "Model", "MakerNote"):
        for place in ("EXIF", "XMP"):
            if f"{place}:{name}" in texts:
                fields.setdefault(name, texts[f"{place}:{name}"])
    return fields


def load_object(value: Any) -> dict[str, Any] | None:
    """A JSON object, given as such or as text; None for anything else. Deep nesting and huge numbers are refused."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, str) or not value.lstrip("\ufeff \n\t").startswith("{"):
        return None
    try:
        loaded = json.loads(value.strip("\ufeff \n\t"))
    except (ValueError, RecursionError):
        return None
    return loaded if isinstance(loaded, dict) else None
