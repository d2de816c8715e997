"""Sentences of errors and of the check in the visitor's language."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from image_search.errors import UnreadableImage
from image_search.images import decode_image
from image_search.originals import check_folder
from image_search.records import Finding
from image_search.settings import ROOT
from image_search.ui.library_texts import describe_finding
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
        ("The query picture is a film, not a picture. Send a picture, for example one frame of it.", "これは動画です"),
        ("-camera:x: a condition cannot be left out. Leave words out, as -word.", "条件は除外できません：-camera:x。"),
        ("夏 a.mp4 is a HEIC picture, not a film. Give it the suffix .heic.", "拡張子を .heic に変えて"),
        ("Something that no translation is known for.", "ログ"),
        ("", ""),
    ],
)
def test_known_sentence_is_said_in_japanese_and_another_is_left_to_the_log(sentence: str, part: str) -> None:
    said = explain_error(sentence, "ja")
    assert part in said
    assert not ENGLISH.search(said)


@pytest.mark.parametrize(
    ("finding", "what", "remedy"),
    [
        (
            Finding("files", False, "missing: 2 (a.png, b.png)", "Run ImageSearch.py --check --deep --repair, which x"),
            "元の画像が2枚ありません：a.png, b.png",
            "ImageSearch.py --check --deep --repair を実行すると",
        ),
        (
            Finding("files", False, "missing: 1 (a.png)", "Register the folder that they are in now: python r.py x"),
            "元の画像が1枚ありません：a.png",
            "いま画像があるフォルダーを追加してください。",
        ),
        (
            Finding(
                "model 1", False, "a/b (v1), 256 dimensions: 3 of 9 images, the current one; x", "Run: python r.py"
            ),
            "a/b：9枚のうち3枚を検索できます",
            "次を実行してください：python r.py",
        ),
        (
            check_folder("originals", Path("/proc/version/x"), "ORIGINALS_URL"),
            "/proc/version が見つかりません",
            "フォルダーを作るか、ORIGINALS_URL を直してください。",
        ),
    ],
)
def test_fault_and_its_remedy_are_said_in_japanese(finding: Finding, what: str, remedy: str) -> None:
    line = describe_finding(finding, "ja")
    assert line["what"] == what
    assert line["remedy"].startswith(remedy)
    assert (line["state"], line["details"]) == ("確認が必要です", [])


def test_finding_without_a_translation_is_kept_as_it_is() -> None:
    line = describe_finding(Finding("tablespace", False, "no quota on USERS", "Grant one."), "ja")
    assert (line["what"], line["remedy"], line["details"]) == ("", "", ["no quota on USERS", "Grant one."])


@pytest.mark.parametrize(
    ("folder", "shown"),
    [
        (f"{ROOT}/data/originals", "./data/originals"),
        (f"{ROOT}", "."),
        (f"{ROOT}-data/originals", f"{ROOT}-data/originals"),
        (f"{ROOT}.old", f"{ROOT}.old"),
        (f"/mnt{ROOT}/data", f"/mnt{ROOT}/data"),
    ],
)
def test_check_shortens_paths_below_the_program_and_no_others(folder: str, shown: str) -> None:
    for what in (f"{folder}, 12.5 GiB free", f"{folder} is not there", f"Look at {folder}."):
        line = describe_finding(Finding("originals", False, what, ""), "en")
        said = line["what"] or line["details"][0]
        assert shown in said
        assert (str(ROOT) in said) == (str(ROOT) in shown)
