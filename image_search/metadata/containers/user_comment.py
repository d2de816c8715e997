"""The text of EXIF UserComment: eight bytes name its character code, and not every program keeps to what they say."""

from __future__ import annotations

import re

from image_search.metadata.bounds import clean_text, decode_text

_ORDINARY = re.compile(r"[\t\n\r -~、-〗ぁ-ヿ！-｠]")  # what sentences and settings are full of, in either script

_ODD = re.compile(r"[^\t\r\n -~\xa0-ɏ‐-‧、-ヿ一-鿿！-～가-힣\U00010000-\U0001ffff]")


def decode_user_comment(value: bytes, order: str = ">") -> str:
    """Text of a UserComment with or without its character code; order is the block's byte order, "<" or ">"."""
    code, text = value[:8], value[8:]
    if code[:7] == b"UNICODE":
        return _decode_unicode(text, order)
    if code[:5] == b"ASCII":
        return decode_text(text.rstrip(b"\x00")).strip("\x00")
    if code[:3] == b"JIS":
        return _decode_jis(text)
    if code == bytes(8):
        return decode_text(text.strip(b"\x00"))
    return decode_text(value.strip(b"\x00"))  # ComfyUI and Fooocus write the text at once


def _decode_unicode(text: bytes, order: str) -> str:
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return clean_text(text.decode("utf-16", "replace"))
    if b"\x00" not in text.rstrip(b"\x00"):
        # No Latin letter in UTF-16; or UTF-8 under the wrong name, which then has words with blanks and no odd signs.
        try:
            reading = text.rstrip(b"\x00").decode("utf-8")
            if " " in reading and not _ODD.search(reading):
                return clean_text(reading)
        except UnicodeDecodeError:
            pass
    # The standard leaves the byte order open, and programs differ from the block they write into.
    readings = [text.decode(name, "replace").rstrip("\x00") for name in ("utf-16-be", "utf-16-le")]
    if order == "<":
        readings.reverse()
    return clean_text(max(readings, key=lambda reading: len(_ORDINARY.findall(reading[:4096]))))


def _decode_jis(text: bytes) -> str:
    for name in ("iso2022_jp", "cp932", "euc_jp"):
        try:
            return clean_text(text.rstrip(b"\x00").decode(name))
        except UnicodeDecodeError:
            continue
    return decode_text(text)
