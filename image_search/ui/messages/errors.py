"""Errors in the visitor's language: they are English sentences, of which the known ones are shown in Japanese."""

from __future__ import annotations

import re

from image_search.ui.messages import Language, translate

# Sentences of errors, and the key of the same in both languages. Groups give the values.
_SENTENCES = tuple(
    (re.compile(pattern, re.DOTALL), key)
    for pattern, key in (
        (r"(?P<name>.+) is empty\.", "failure_empty"),
        (r"(?P<name>.+) is larger than \d+ MiB\..*", "failure_large"),
        (r"(?P<name>.+) has more than \d+ pixels\..*", "failure_pixels"),
        (r"(?P<name>.+) is cut short: .*", "failure_cut"),
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
        (r"The query picture is .*", "failure_query_picture"),
        (r"(?P<name>.+) has no index: .*", "failure_cut"),
        (r"(?P<name>.+) is encrypted\. .*", "failure_encrypted"),
        (r"(?P<name>.+?) (?:is not a film, |has no (?:moving picture|frame) |is of a codec ).*", "failure_film"),
        (r"Films need the Python package (?P<name>.+?)\. .*", "films_install"),
        (r"(?P<name>.+?\.\w{1,5}) is (?:not a|an?|damaged) .*", "failure_damaged"),
    )
)


def explain_error(sentence: str, language: Language) -> str:
    """An error's sentence for the page. One that has no translation is left to the program's log."""
    if language == "en" or not sentence:
        return sentence
    for pattern, key in _SENTENCES:
        match = pattern.fullmatch(sentence)
        if match:
            return translate(language, key, **match.groupdict())
    return translate(language, "see_log")
