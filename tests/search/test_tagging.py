"""Tags without a language model."""

from __future__ import annotations

from pathlib import Path

import pytest

from image_search.errors import SettingsError, TextNotSupported
from image_search.search.tagging import DEFAULT_LIST, Tag, Tagger, read_tags
from tests.fakes import FakeEncoder, draw_image


@pytest.fixture
def words(tmp_path: Path) -> Path:
    file = tmp_path / "tags.tsv"
    file.write_text("# colours\nred\tred\nblue\tblue\n\ngreen\ngreen\tagain\n", encoding="utf-8")
    return file


def test_list_is_read_line_by_line(words: Path) -> None:
    assert read_tags(words) == [Tag("red", "red"), Tag("blue", "blue"), Tag("green", "green")]


def test_image_gets_the_nearest_words_with_probability(words: Path) -> None:
    encoder = FakeEncoder()
    [best, *_] = Tagger(encoder, words).classify_image(encoder.encode_images([draw_image("blue")])[0])
    assert best.japanese == "blue"
    assert best.probability > 0.9


def test_list_is_embedded_once(words: Path) -> None:
    encoder = FakeEncoder()
    tagger = Tagger(encoder, words)
    assert not tagger.is_ready
    tagger.prepare()
    assert tagger.is_ready
    calls = len(encoder.calls)
    tagger.classify_image(encoder.encode_images([draw_image("blue")])[0])
    assert len(encoder.calls) == calls + 1  # the image only


def test_empty_list_names_nothing(tmp_path: Path) -> None:
    (tmp_path / "none.tsv").write_text("# nothing yet\n", encoding="utf-8")
    encoder = FakeEncoder()
    assert Tagger(encoder, tmp_path / "none.tsv").classify_image(encoder.encode_images([draw_image()])[0]) == []


def test_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "tags.tsv").write_bytes(b"\xff\xfe\x00")
    for file in (tmp_path / "missing.tsv", tmp_path / "tags.tsv"):
        with pytest.raises(SettingsError, match=file.name):
            Tagger(FakeEncoder(), file).prepare()


def test_image_only_model_has_no_tags(words: Path) -> None:
    with pytest.raises(TextNotSupported):
        Tagger(FakeEncoder(supports_text=False), words).prepare()


def test_default_list_has_three_hundred_tags_in_two_languages() -> None:
    tags = read_tags(DEFAULT_LIST)
    assert len(tags) >= 300
    assert all(tag.english.isascii() and not tag.japanese.isascii() for tag in tags if tag.japanese != "CG")
    assert len({tag.english for tag in tags}) == len(tags)
