"""Sentences of errors in the visitor's language."""

from __future__ import annotations

import re

import pytest

from image_search.errors import UnreadableImage
from image_search.images import decode_image
from image_search.ui.messages import explain_error

ENGLISH = re.compile(r"[a-z]{2,} [a-z]{2,}")
CUT = b"\x89PNG\r\n\x1a\n" + b"\0" * 40


@pytest.mark.parametrize(
    "data", [b"", b"no picture at all", CUT, b"<html></html>", b"%PDF-1.7", b"\xff\xd8\xff\xe0 cut"]
)
def test_file_that_is_no_image_is_named_in_japanese(data: bytes) -> None:
    with pytest.raises(UnreadableImage) as raised:
        decode_image(data, "夏 a.png")
    said = explain_error(str(raised.value), "ja")
    assert said.startswith("夏 a.png：")
    assert not ENGLISH.search(said)
    assert explain_error(str(raised.value), "en") == str(raised.value)


@pytest.mark.parametrize(
    ("sentence", "part"),
    [
        ("EMBEDDING_MODEL is /nowhere/model, but there is no such folder. Correct the path.", "/nowhere/model"),
        ("/d/x.db is held by another program. Try again when it has finished.", "/d/x.db はほかのプログラム"),
        ("The disk of /d/x.db is full. Nothing of this batch was kept.", "空きを作って"),
        ("db:5432 cannot be reached just now (refused). Check the server.", "db:5432 に接続できません"),
        ("a/b is offered under a licence that has to be accepted first: accept it.", "ライセンスに同意"),
        ("Something that no translation is known for.", "ログ"),
        ("", ""),
    ],
)
def test_known_sentence_is_said_in_japanese_and_another_is_left_to_the_log(sentence: str, part: str) -> None:
    said = explain_error(sentence, "ja")
    assert part in said
    assert not ENGLISH.search(said)
