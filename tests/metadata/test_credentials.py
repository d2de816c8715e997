"""Services that sign their images with Content Credentials are named, cameras are not."""

from __future__ import annotations

import pytest

from image_search.metadata import read_image_text
from tests.fakes.images_with_text import make_chunk, make_jpeg, make_manifest, make_png, make_webp, make_xmp

MADE_BY_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


@pytest.mark.parametrize(
    ("claim", "generator"),
    [
        ("OpenAI Media Service API", "ChatGPT"),
        ("ChatGPT", "ChatGPT"),
        ("OpenAI DALL·E", "DALL-E"),
        ("Google C2PA Core Generator Library", "Gemini"),
        ("Adobe_Firefly", "Firefly"),
        ("Somebody New", "Content Credentials"),
    ],
)
def test_content_credentials_name_the_service(claim: str, generator: str) -> None:
    manifest = make_manifest(claim_generator=claim, digitalSourceType=MADE_BY_MODEL)
    first, second = manifest[:40], manifest[40:]
    box = b"JP\0\1\0\0\0"
    for data in (
        make_png(make_chunk(b"caBX", manifest)),
        make_jpeg((0xEB, box + b"\1" + first), (0xEB, box + b"\2" + second)),
        make_webp((b"C2PA", manifest)),
    ):
        text = read_image_text(data)
        assert (text.generator, text.generation_prompt) == (generator, None)


def test_credentials_of_a_camera_name_no_generator() -> None:
    source = MADE_BY_MODEL.replace("trainedAlgorithmicMedia", "digitalCapture")
    manifest = make_manifest(claim_generator="Google C2PA", digitalSourceType=source)
    assert read_image_text(make_png(make_chunk(b"caBX", manifest))).generator is None


def test_xmp_names_the_service_where_there_are_no_credentials() -> None:
    packet = make_xmp("<photoshop:Credit>Made with Google AI</photoshop:Credit>")
    assert read_image_text(make_webp((b"XMP ", packet))).generator == "Gemini"
