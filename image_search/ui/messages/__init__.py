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


# {count|picture|pictures}: the first word for 1, the second for any other number.
_PLURAL = re.compile(r"\{(\w+)\|([^|{}]*)\|([^|{}]*)\}")


def translate(language: Language, key: str, **values: object) -> str:
    """The text of a key, with values filled in; numbers get thousands separators."""
    text = _PLURAL.sub(lambda found: found[2] if str(values[found[1]]) == "1" else found[3], MESSAGES[language][key])
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


Sentences = tuple[tuple[re.Pattern[str], str], ...]


def compile_sentences(*sentences: tuple[str, str]) -> Sentences:
    """Patterns of English sentences of the program, each with the key of its text; groups give the values."""
    return tuple((re.compile(pattern, re.DOTALL), key) for pattern, key in sentences)


def find_text(sentence: str, sentences: Sentences, language: Language) -> str:
    """The text of the first of these sentences that fits; "" without any."""
    for pattern, key in sentences:
        if match := pattern.fullmatch(sentence):
            return translate(language, key, **match.groupdict())
    return ""


ERRORS = compile_sentences(
    (r"(?P<name>.+) is empty\.", "failure_empty"),
    (r"(?P<name>.+) is larger than \d+ MiB\..*", "failure_large"),
    (r"(?P<name>.+) has more than \d+ pixels\..*", "failure_pixels"),
    (r"(?P<name>.+) is cut short[:.] .*", "failure_cut"),
    (r"(?P<name>.+) needs more memory .*", "failure_memory"),
    (r"EMBEDDING_MODEL is (?P<name>.+), but there is no such folder\..*", "model_no_folder"),
    (r"(?P<name>.+) brings Python code of its own, .*", "model_own_code"),
    (r"(?P<name>.+) is offered under a licence .*", "model_licence"),
    (r"huggingface\.co refused HF_TOKEN for (?P<name>.+?)\. .*", "model_token"),
    (r"(?P<name>.+) is not on this machine and HF_HUB_OFFLINE is set\..*", "model_offline"),
    (r"(?P<name>.+) does not fit into the memory of .*", "model_memory"),
    (r"(?P<name>.+) is held by another program\. .*", "store_busy"),
    (r"The disk of (?P<name>.+) is full\. .*", "store_full"),
    (r"The file (?P<name>.+) is not there any more\. .*", "store_gone"),
    (r"The folder (?P<name>.+) is not there\. .*", "store_gone"),
    (r"(?P<name>.+) cannot be reached just now \(.*", "store_unreachable"),
    (r"(?P<name>.+) cannot be (?:read|written|opened)\b.*", "failure_access"),
    (r".+ is a film, not a picture\. Send .*", "failure_query_film"),
    (r"The query picture is .*", "failure_query_picture"),
    (r"(?P<name>.+): a condition cannot be left out\. .*", "condition_negated"),
    (r"(?P<name>.+) has no index: .*", "failure_cut"),
    (r"(?P<name>.+) is encrypted\. .*", "failure_encrypted"),
    (r"(?P<name>.+?) is an? .+ picture, not a film\. Give it the suffix (?P<suffix>\.\w+)\.", "failure_suffix"),
    (r"(?P<name>.+?) (?:is not a film, |has no (?:moving picture|frame) |is of a codec ).*", "failure_film"),
    (r"Films need the Python package (?P<name>.+?)\. .*", "films_install"),
    (r"(?P<name>.+?\.\w{1,5}) is an? (?:HEIC|HEIF)\b.*", "failure_heic"),
    (r"(?P<name>.+?\.\w{1,5}) is (?:not a file|missing).*", "failure_access"),
    (r"(?P<name>.+?\.\w{1,5}) is (?:not a|an?|damaged) .*", "failure_damaged"),
)


def explain_error(sentence: str, language: Language) -> str:
    """An error's sentence for the page. One that has no translation is left to the program's log."""
    if language == "en" or not sentence:
        return sentence
    return find_text(sentence, ERRORS, language) or translate(language, "see_log")
