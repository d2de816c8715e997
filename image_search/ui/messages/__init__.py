"""Every text shown to a person, in Japanese and in English."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal

from image_search.errors import (
    FilmsUnavailable,
    ImageNotFound,
    ImageSearchError,
    ModelUnavailable,
    RecognizerUnavailable,
    StoreUnavailable,
    TextNotSupported,
    UnreadableFilm,
    UnreadableImage,
)

Language = Literal["ja", "en"]

LANGUAGES: tuple[Language, ...] = ("ja", "en")
# Texts by language and key, from ja.json and en.json beside this file.
MESSAGES: dict[Language, dict[str, str]] = {
    language: json.loads(Path(__file__).with_name(f"{language}.json").read_text(encoding="utf-8"))
    for language in LANGUAGES
}

_ERROR_KEYS: tuple[tuple[type[ImageSearchError], str], ...] = (
    (StoreUnavailable, "store_away"),
    (ModelUnavailable, "model_unavailable"),
    (TextNotSupported, "text_not_supported"),
    (UnreadableImage, "unreadable"),
    (UnreadableFilm, "unreadable_film"),
    (FilmsUnavailable, "films_unavailable"),
    (RecognizerUnavailable, "recognizer_unavailable"),
    (ImageNotFound, "image_gone"),
    (ImageSearchError, "error"),
)


def translate(language: Language, key: str, **values: object) -> str:
    """The text of a key, with values filled in; numbers get thousands separators."""
    text = MESSAGES[language][key]
    return text.format(**{name: f"{value:,}" if isinstance(value, int) else value for name, value in values.items()})


def error_key(error: ImageSearchError) -> str:
    """The key of the words that introduce an error; str(error) says the rest."""
    return next(key for kind, key in _ERROR_KEYS if isinstance(error, kind))


def negotiate_language(accept_language: str) -> Language:
    """The language a browser prefers of the two: Japanese when it ranks before English, otherwise English."""
    ranked = []
    for position, item in enumerate(accept_language.split(",")):
        match = re.fullmatch(r"\s*([a-zA-Z]+)[\w-]*\s*(?:;\s*q=([\d.]+))?\s*", item)
        if match and match[1].lower() in ("ja", "en"):
            try:
                quality = float(match[2] or 1)
            except ValueError:
                continue
            ranked.append((-quality, position, match[1].lower()))
    return "ja" if ranked and min(ranked)[2] == "ja" else "en"
