"""Wild bytes: whatever a file says, reading it ends, in bounded memory, without an error."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from image_search.metadata import MAX_KEPT_TOTAL, read_image_text
from image_search.metadata.text import MAX_DESCRIPTION_CHARACTERS, MAX_KEPT_CHARACTERS
from image_search.records import ImageText
from tests.fakes.examples import scale
from tests.fakes.images_with_text import (
    INFOTEXT,
    alternatives,
    hide_text,
    international_chunk,
    make_chunk,
    make_exif,
    make_gif_with_xmp,
    make_gps,
    make_image,
    make_iptc,
    make_jpeg,
    make_manifest,
    make_png,
    make_png_of,
    make_user_comment,
    make_webp,
    make_xmp,
    packed_chunk,
    save_image,
    text_chunk,
)

EXAMPLES = 30  # few, because the suite runs often; the search has been run with thousands
FUZZ = settings(max_examples=scale(EXAMPLES), deadline=None, suppress_health_check=list(HealthCheck))

EXIF = make_exif({0x010E: "caption", 0x0110: "Camera"}, {0x9286: make_user_comment(INFOTEXT)})
XMP = make_xmp(alternatives("dc:description", "caption"))
MANIFEST = make_manifest(claim_generator="ChatGPT", digitalSourceType="digitalsourcetype/trainedAlgorithmicMedia")
IMAGES = [
    make_png(
        text_chunk("parameters", INFOTEXT.encode()),
        packed_chunk("a", "b"),
        international_chunk("XML:com.adobe.xmp", XMP),
        make_chunk(b"eXIf", EXIF[6:]),
        make_chunk(b"caBX", MANIFEST),
        packed_chunk("Raw profile type exif", f"\nexif\n{len(EXIF)}\n{EXIF.hex()}"),
    ),
    make_jpeg(
        (0xE1, EXIF),
        (0xE1, make_gps((1, 2, 3), False, (4, 5, 6), True)),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
        (0xED, make_iptc([(120, "caption"), (25, "word")])),
        (0xEB, b"JP\0\1\0\0\0\1" + MANIFEST),
        (0xFE, b"comment"),
    ),
    make_webp((b"EXIF", EXIF), (b"XMP ", XMP), (b"C2PA", MANIFEST)),
    make_image(format="AVIF", exif=EXIF, xmp=XMP),
    make_image(format="TIFF", tiffinfo={270: "caption", 700: XMP}),
    make_gif_with_xmp(XMP),
    save_image(hide_text(INFOTEXT, "A", packed=True, size=(24, 130))),
    save_image(hide_text(INFOTEXT, "RGB", packed=False), "WEBP", lossless=True, exact=True),
]


@contextmanager
def at_most(mebibytes: int) -> Iterator[None]:
    """Fail when more memory than this is taken at once inside the block."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < mebibytes << 20
    finally:
        tracemalloc.stop()


def check(data: bytes, **more: Any) -> ImageText:
    text = read_image_text(data, read_gps=True, **more)
    assert isinstance(text, ImageText)
    assert sum(len(value) for value in text.raw.values()) <= MAX_KEPT_TOTAL + 100 * len(text.raw)
    for value in (text.generation_prompt, text.description, text.prompt, *text.raw, *text.raw.values(), *text.keywords):
        assert value is None or ("\0" not in value and value == value.encode("utf-8", "ignore").decode())
    return text


@FUZZ
@given(
    st.binary(max_size=2000),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1", b"II*\0\x08\0\0\0", b"GIF89a"]),
)
def test_any_bytes_are_read_without_an_error(data: bytes, beginning: bytes) -> None:
    check(beginning + data)


@FUZZ
@given(st.data())
def test_damaged_images_are_read_without_an_error(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(IMAGES)))
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "double", "size"])):
            case "flip":
                damaged[place] = data.draw(st.integers(0, 255))
            case "cut":
                del damaged[place : place + data.draw(st.integers(1, 200))]
            case "double":
                damaged[place:place] = damaged[place : place + data.draw(st.integers(1, 200))]
            case "size":
                damaged[place : place + 4] = data.draw(
                    st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
                )
        damaged = damaged or bytearray(b"x")
    check(bytes(damaged))


WORDS = """
    prompt workflow parameters Comment sui_image_params invokeai_metadata sd-metadata invokeai_graph invokeai Dream
    nodes links class_type inputs text positive negative seed steps cfg model image v4_prompt uc c caption char_captions
    base_model generation_data extraMetadata smproj prompt_2 loras width height resolution sampler definitions subgraphs
    widgets_values id type core_metadata objects Software fooocus_scheme use_stable_diffusion_model n_samples sigmas
    guider noise latent_image tags 1 2
"""
KEYS = st.sampled_from(WORDS.split()) | st.text(max_size=5)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["KSampler", "NovelAI", "1", "2"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=8),
    max_leaves=15,
)


@FUZZ
@given(st.dictionaries(KEYS, JSON, max_size=8))
def test_any_json_in_any_chunk_is_read_without_an_error(chunks: dict[str, Any]) -> None:
    parts = [
        make_chunk(b"tEXt", key.encode("latin-1", "replace")[:79] + b"\0" + json.dumps(value).encode())
        for key, value in chunks.items()
    ]
    check(make_png(*parts))
    check(make_image(), sidecars={"a.json": json.dumps(chunks).encode()})


NODES = st.dictionaries(
    st.sampled_from("12345"),
    st.fixed_dictionaries(
        {
            "class_type": st.sampled_from(
                ["KSampler", "CLIPTextEncode", "SamplerCustomAdvanced", "Reroute", "ComfySwitchNode", "X"]
            ),
            "inputs": st.dictionaries(
                KEYS, st.tuples(st.sampled_from("12345"), st.integers(0, 2)).map(list) | JSON, max_size=8
            ),
        }
    ),
    max_size=5,
)


@FUZZ
@given(NODES)
def test_any_graph_with_any_cycles_is_read_without_an_error(graph: dict[str, Any]) -> None:
    check(make_png_of(prompt=graph))


@FUZZ
@given(st.text(alphabet=st.sampled_from('Steps: 20,\n"\\Negativprom[](){}<>-\t'), max_size=400))
def test_any_settings_text_is_read_without_an_error(text: str) -> None:
    check(make_png_of(parameters=text))


@pytest.mark.slow
def test_text_of_100_mb_is_cut_with_a_note() -> None:
    bomb = zlib.compress(b"a" * 100_000_000)
    assert len(bomb) < 200_000
    for chunk in (make_chunk(b"zTXt", b"Notes\0\0" + bomb), make_chunk(b"iTXt", b"Notes\0\1\0\0\0" + bomb)):
        data = make_png(*[chunk] * 20)
        with at_most(mebibytes=80):
            text = check(data)
        assert text.raw["Notes"].endswith("]")
        assert f"[cut: {MAX_KEPT_CHARACTERS} characters of" in text.raw["Notes"]
        assert len(text.description or "") < MAX_DESCRIPTION_CHARACTERS + 100


@pytest.mark.slow
def test_plain_text_of_100_mb_is_cut_as_well() -> None:
    data = make_png(make_chunk(b"tEXt", b"parameters\0" + b"a, " * 33_000_000))
    with at_most(mebibytes=80):
        assert len(check(data).generation_prompt or "") < 2 * MAX_KEPT_CHARACTERS


def test_ten_thousand_chunks_are_bounded() -> None:
    text = check(make_png(*(text_chunk(f"k{number}", b"v" * 100) for number in range(10_000))))
    assert 0 < len(text.raw) <= 256


@pytest.mark.slow
def test_hidden_text_that_unpacks_without_end_is_cut() -> None:
    with at_most(mebibytes=80):
        check(save_image(hide_text("a" * 30_000_000, "RGB", packed=True, size=(300, 300))))


def test_broken_utf_16_gives_what_can_be_read() -> None:
    for comment in (b"UNICODE\0\xd8\x00\x00a\xdc\x00", b"UNICODE\0a\0b\0c", b"UNICODE\0", b"UNICODE\0\xff\xfe\x00\xd8"):
        check(make_jpeg((0xE1, make_exif({}, {0x9286: comment}))))
    assert "x" in (check(make_png_of(Comment="\\ud800x")).description or "")
    check(make_png(international_chunk("parameters", b'{"sui_image_params": {"prompt": "\\ud800"}}')))


def test_xml_bomb_is_not_expanded() -> None:
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<!DOCTYPE x [<!ENTITY a0 "aaaaaaaaaa">{entities}]><x:xmpmeta xmlns:x="adobe:ns:meta/">&a9;</x:xmpmeta>'
    for encoding in ("utf-8", "utf-16"):
        with at_most(mebibytes=20):
            assert check(make_png(international_chunk("XML:com.adobe.xmp", bomb.encode(encoding)))).description is None


@pytest.mark.slow
def test_xml_that_is_deep_or_wide_is_bounded() -> None:
    with at_most(mebibytes=100):
        check(make_png(international_chunk("XML:com.adobe.xmp", b"<a>" * 170_000)))
        check(make_png(international_chunk("XML:com.adobe.xmp", b"<a>" + b"<b/>" * 125_000 + b"</a>")))


@pytest.mark.slow
def test_exif_block_whose_entries_all_claim_everything_is_bounded() -> None:
    entries = b"".join(struct.pack(">HHII", tag % 65536, 2, 2**31, 8) for tag in range(0x010E, 0x010E + 60_000))
    block = b"MM\0*" + struct.pack(">IH", 8, 60_000) + entries
    with at_most(mebibytes=60):
        check(make_png(make_chunk(b"eXIf", block)))


def make_node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def make_ring(size: int, kind: str, link: str, **inputs: Any) -> dict[str, Any]:
    return {str(n): make_node(kind, **inputs, **{link: [str((n + 1) % size), 0]}) for n in range(size)}


ME = ["1", 0]
GRAPHS = {
    "ring of samplers": make_ring(8000, "KSampler", "latent_image", seed=1, steps=2, model=["0", 0]),
    "ring of texts": make_ring(20_000, "CLIPTextEncode", "text"),
    "itself": {"1": make_node("KSampler", seed=ME, steps=ME, positive=ME, model=ME)},
    "long names": {str(n): make_node("X" * 500, **{"cond" * 2000: ME, "text": "a " * 50}) for n in range(300)},
    "many inputs": {
        "0": make_node("KSampler", seed=1, steps=2, positive=ME, **{f"text{n}": ME for n in range(60_000)}),
        "1": make_node("Y", **{f"text_{n}": ["0", 0] for n in range(60_000)}),
    },
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "many inputs" else name for name in GRAPHS]
)
def test_cyclic_and_enormous_graphs_end(name: str) -> None:
    assert check(make_png_of(prompt=GRAPHS[name])).generator == "ComfyUI"


def test_workflows_of_subgraphs_in_subgraphs_end() -> None:
    inner = {"id": "s", "nodes": [{"id": n, "type": "s", "inputs": []} for n in range(100)], "links": []}
    workflow = {"nodes": [{"id": 1, "type": "s"}], "links": [], "definitions": {"subgraphs": [inner]}}
    check(make_png_of(workflow=workflow))


def test_json_that_is_too_deep_is_kept_as_text() -> None:
    check(make_png_of(prompt='{"a":' * 100_000, Comment="[" * 100_000, parameters='{"a":' * 5000 + "1" + "}" * 5000))


SLOW = {
    "blanks": " " * 200_000,
    "word": "a" * 200_000,
    "quotes": 'a: "' * 50_000,
    "lines": "\n" * 200_000,
    "words": "a " * 100_000,
    "brackets": "[" * 200_000,
    "steps": "Steps: 1, " * 20_000,
    "negatives": "x\nNegative prompt: " * 10_000,
    "switches": "-" * 100_000 + " --a " * 20_000 + "Job ID: 00000000-1111",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_texts_made_to_be_slow_are_not(name: str) -> None:
    text = SLOW[name]
    for key in ("parameters", "Dream", "Description", "Comment"):
        check(make_png_of(**{key: text}))
        check(make_png_of(**{key: f"{text}\nSteps: 20, Sampler: a, Seed: 5{text}"}))
