"""The text of AUTOMATIC1111 and of programs that borrow its layout."""

from __future__ import annotations

from typing import Any

import pytest

from image_search.metadata import read_image_text
from image_search.records import ImageText
from tests.fakes.images_with_text import (
    INFOTEXT,
    SETTINGS,
    make_exif,
    make_jpeg,
    make_png_of,
    make_user_comment,
    make_webp,
)

PROMPT, NEGATIVE = "白い猫, 1girl", "low quality"


def read_with_version(*words: str) -> ImageText:
    return read_image_text(
        make_png_of(parameters="\n".join([PROMPT, f"Negative prompt: {NEGATIVE}", ", ".join(words)]))
    )


def list_settings(text: ImageText) -> tuple[Any, ...]:
    return (text.prompt, text.negative_prompt, text.seed, text.steps, text.sampler, text.cfg, text.generated_size)


EXPECTED = (PROMPT, NEGATIVE, "12345", 20, "Euler a", 7.0, "512x768")


@pytest.mark.parametrize(
    ("sign", "generator"),
    [
        ("Version: v1.10.1", "AUTOMATIC1111"),
        ("Clip skip: 2", "AUTOMATIC1111"),
        ("Version: f2.0.1v1.10.1-previous-669-gdfdcbab6, Module 1: vae", "Forge"),
        ("Version: classic", "Forge Classic"),
        ("Version: neo-2.1", "Forge Neo"),
        ("Version: f1.0.0v2-v1.10.1RC-latest-2498-g5120e679", "reForge"),
        ("Version: f1.0.0-v1.10.1", "EasyReforge"),
        ("ADetailer Version: 24.1, Version: v1.9.4", "AUTOMATIC1111"),
        ("App: SD.Next, Version: 56a8aea, Pipeline: StableDiffusionXLPipeline", "SD.Next"),
        ("Version: Fooocus v2.5.5", "Fooocus"),
        ("Version: ComfyUI", "ComfyUI"),
        ('Civitai resources: [{"type":"checkpoint","modelVersionId":2514310}], Civitai metadata: {}', "Civitai"),
    ],
)
def test_descendants_of_automatic1111_are_told_apart(sign: str, generator: str) -> None:
    text = read_with_version(SETTINGS, sign)
    assert text.generator == generator
    assert list_settings(text) == EXPECTED
    assert text.generation_model == "anything-v5"


def test_text_of_automatic1111_is_kept_as_it_was_written() -> None:
    assert read_image_text(make_png_of(parameters=INFOTEXT)).generation_prompt == INFOTEXT


@pytest.mark.parametrize(
    ("parameters", "prompt", "negative", "seed"),
    [
        (f"a cat\n{SETTINGS}", "a cat", None, "12345"),
        (f"Negative prompt: dog\n{SETTINGS}", None, "dog", "12345"),
        (f"line one\nline two\nNegative prompt: no\nnot\n{SETTINGS}", "line one\nline two", "no\nnot", "12345"),
        ("steps: 20, sampler: Euler a, cfg scale: 7, seed: 12345", None, None, "12345"),
        (f"mist.{SETTINGS}", "mist.", None, "12345"),
        ("only words", "only words", None, None),
        ("cat\nNegative prompt: dog", "cat", "dog", None),
        (f"he said: Steps: are hard\n{SETTINGS}", "he said: Steps: are hard", None, "12345"),
        ("a\nSize: 8x8, Seed: 12345, Model: m", "a", None, "12345"),
    ],
)
def test_infotext_with_parts_missing_is_still_taken_apart(
    parameters: str, prompt: str | None, negative: str | None, seed: str | None
) -> None:
    text = read_image_text(make_png_of(parameters=parameters))
    assert (text.prompt, text.negative_prompt, text.seed) == (prompt, negative, seed)


def test_quoted_values_may_hold_commas_and_colons() -> None:
    text = read_with_version(
        'Steps: 20, Sampler: Euler a, ADetailer prompt: "Steps: 99, a \\"b\\", Seed: 1", Model: "a, b: c", Seed: 12345'
    )
    assert (text.steps, text.seed, text.generation_model) == (20, "12345", "a, b: c")


def test_infotext_in_a_jpeg_comment_or_an_exif_comment_is_recognised() -> None:
    for data in (
        make_jpeg((0xFE, INFOTEXT.encode())),
        make_jpeg((0xE1, make_exif({}, {0x9286: make_user_comment(INFOTEXT)}))),
        make_jpeg((0xE1, make_exif({0x010E: INFOTEXT}))),
        make_webp((b"EXIF", make_exif({}, {0x9286: make_user_comment(INFOTEXT)}))),
    ):
        assert (read_image_text(data).generator, read_image_text(data).seed) == ("AUTOMATIC1111", "12345")


def test_settings_that_make_no_sense_are_left_out() -> None:
    text = read_with_version("Steps: 999999999999, Sampler: , CFG scale: nan, Seed: many, Size: big")
    assert (text.steps, text.sampler, text.cfg, text.seed, text.generated_size) == (None,) * 5


def test_hexadecimal_seed_is_a_number_and_a_huge_one_keeps_its_digits() -> None:
    assert read_with_version("Steps: 1, Sampler: a, Seed: 0xABCDEF12").seed == str(0xABCDEF12)
    assert read_with_version(f"Steps: 1, Sampler: a, Seed: {2**70}").seed == str(2**70)


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        (b"UNICODE\0", "utf-16-be"), (b"UNICODE\0", "utf-16-le"), (b"UNICODE\0", "utf-16"), (b"UNICODE ", "utf-16-be"),
        (b"Unicode\0", "utf-16-le"), (b"unicode\0", "utf-16-be"), (b"UNICODE\0", "utf-8"), (b"ASCII\0\0\0", "utf-8"),
        (b"ASCII   ", "utf-8"), (b"ascii\0\0\0", "utf-8"), (b"UTF-8\0\0\0", "utf-8"), (b" " * 8, "utf-8"),
        (bytes(8), "utf-8"), (bytes(8), "utf-16-le"), (b"", "utf-8"), (b"", "utf-16"), (b"charset=Ascii ", "utf-8"),
        (b"ASCII\0\0\0", "utf-16-le"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", [b"", b"\0", bytes(20)])
def test_user_comment_is_read_under_any_code(head: bytes, encoding: str, end: bytes) -> None:
    comment = head + INFOTEXT.encode(encoding) + end
    text = read_image_text(make_jpeg((0xE1, make_exif({}, {0x9286: comment}))))
    assert list_settings(text) == EXPECTED


def test_infotext_that_lost_its_line_ends_is_taken_apart() -> None:
    text = read_image_text(make_png_of(Parameters=INFOTEXT.replace("\n", " ")))
    assert list_settings(text) == EXPECTED
    text = read_image_text(make_png_of(parameters=f"a sign, Negative prompt: none\nNegative prompt: ugly\n{SETTINGS}"))
    assert (text.prompt, text.negative_prompt) == ("a sign, Negative prompt: none", "ugly")


@pytest.mark.parametrize(
    ("resources", "model", "loras"),
    [
        (
            '[{"type": "lora", "weight": 0.8, "modelName": "Rain, one: two"},'
            ' {"type": "checkpoint", "modelName": "Sky"}, {"type": "embed", "modelName": "hands"}]',
            "Sky",
            ("Rain, one: two",),
        ),
        ('[{"type": "checkpoint", "modelVersionId": 7}, null, 5, {"modelName": ["x"]}]', None, ()),
        ('[{"type": "checkpoint", "modelName": "Sky"', None, ()),
    ],
)
def test_models_in_the_list_of_civitai_are_read(resources: str, model: str | None, loras: tuple[str, ...]) -> None:
    settings = SETTINGS.replace(", Model: anything-v5", "")
    infotext = (
        f"{PROMPT}\nNegative prompt: {NEGATIVE}\n{settings}, Civitai resources: {resources}, Civitai metadata: {{}}"
    )
    text = read_image_text(make_png_of(parameters=infotext))
    assert (text.generation_model, text.loras, text.seed) == (model, loras, "12345")
