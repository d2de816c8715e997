"""TIFF of deep numbers by every coding that libtiff knows, and Photoshop documents: written here byte by byte."""

from __future__ import annotations

import struct
import zlib
from itertools import product
from typing import Any

import numpy as np
import pytest

from image_search.errors import UnreadableImage
from image_search.images import decode_image
from image_search.metadata import read_image_text
from tests.fakes.images_with_text import alternatives, make_xmp

HEIGHT, WIDTH = 40, 48
ROWS, COLUMNS = np.mgrid[0:HEIGHT, 0:WIDTH]
COLORS = np.stack([COLUMNS / (WIDTH - 1), ROWS / (HEIGHT - 1), (COLUMNS + ROWS) / (WIDTH + HEIGHT - 2)], -1)
LZW, DEFLATE, PACK_BITS = 5, 8, 32773
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
HORIZONTAL, FLOATING_POINT = 2, 3


def pack_bits(data: bytes) -> bytes:
    runs = (data[start : start + 128] for start in range(0, len(data), 128))
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def pack_lzw(data: bytes) -> bytes:
    """Single bytes; the table is cleared before codes grow longer than 9 bits."""
    codes = [code for start in range(0, len(data), 250) for code in (256, *data[start : start + 250])]
    bits = "".join(f"{code:09b}" for code in (*codes, 257))
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))


PACK = {LZW: pack_lzw, DEFLATE: zlib.compress, PACK_BITS: pack_bits}


def predict(part: np.ndarray, predictor: int, order: str) -> bytes:
    """Rows, columns, samples as a file has them."""
    rows, width, samples = part.shape
    if predictor == FLOATING_POINT:
        size = part.dtype.itemsize
        data = np.frombuffer(part.astype(part.dtype.newbyteorder(">")).tobytes(), np.uint8)
        planes = data.reshape(rows, width * samples, size).transpose(0, 2, 1).reshape(rows, -1)
        differences = planes.copy()
        differences[:, samples:] -= planes[:, :-samples]
        return differences.tobytes()
    whole = part.view(f"u{part.dtype.itemsize}").copy()
    if predictor == HORIZONTAL:
        whole[:, 1:] -= whole[:, :-1].copy()
    return whole.astype(whole.dtype.newbyteorder(order)).tobytes()


def make_tiff(pixels: np.ndarray, photometric: int, method: int, predictor: int = 1, order: str = "<", **layout: Any):
    """layout: is_apart, for planes; tile, for its side; bits and samples, for rows of packed numbers."""
    planes = np.split(pixels, pixels.shape[2], 2) if layout.get("is_apart") else [pixels]
    tile, bits = layout.get("tile", 0), layout.get("bits", 8 * pixels.dtype.itemsize)
    across, down = (tile, tile) if tile else (pixels.shape[1], 16)
    parts = []
    for plane in planes:
        for top, left in product(range(0, HEIGHT, down), range(0, pixels.shape[1], across)):
            part = plane[top : top + down, left : left + across]
            if tile:
                part = np.pad(part, [(0, tile - part.shape[0]), (0, tile - part.shape[1]), (0, 0)])
            parts.append(PACK[method](predict(np.ascontiguousarray(part), predictor, order)))
    samples = layout.get("samples", pixels.shape[2])
    sizes = [len(part) for part in parts]
    starts = [8 + sum(sizes[:number]) for number in range(len(parts))]
    tags = {
        256: [WIDTH],
        257: [HEIGHT],
        258: [bits] * samples,
        259: [method],
        262: [photometric],
        277: [samples],
        284: [1 + bool(layout.get("is_apart"))],
        317: [predictor],
        339: [{"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]],
        **({322: [tile], 323: [tile], 324: starts, 325: sizes} if tile else {273: starts, 278: [down], 279: sizes}),
    }
    body = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + sum(sizes)) + b"".join(parts)
    values, entries = b"", b""
    end = len(body) + 2 + 12 * len(tags) + 4
    for tag in sorted(tags):
        content = struct.pack(f"{order}{len(tags[tag])}I", *tags[tag])
        place = content if len(content) == 4 else struct.pack(order + "I", end + len(values))
        values += content if len(content) > 4 else b""
        entries += struct.pack(order + "HHI", tag, 4, len(tags[tag])) + place
    return body + struct.pack(order + "H", len(tags)) + entries + bytes(4) + values


def is_as_drawn(data: bytes, wanted: np.ndarray) -> bool:
    shown = np.asarray(decode_image(data, "a").image).astype(float)
    return bool(np.abs(shown - 255 * wanted).max() <= 3)


def to_numbers(colors: np.ndarray, kind: str) -> np.ndarray:
    numbers = np.dtype(kind)
    top = 1 if numbers.kind == "f" else float(np.iinfo(numbers).max) * (1 - 1e-9)
    return (colors * top).astype(numbers)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("layout", [{}, {"is_apart": True}, {"tile": 32}])
@pytest.mark.parametrize(
    ("kind", "method", "predictor"),
    [
        ("f4", DEFLATE, FLOATING_POINT), ("f8", LZW, FLOATING_POINT), ("f2", DEFLATE, FLOATING_POINT),
        ("f4", LZW, 1), ("u4", LZW, HORIZONTAL), ("u8", LZW, 1), ("u2", LZW, HORIZONTAL), ("i4", PACK_BITS, 1),
        ("i2", LZW, HORIZONTAL), ("f4", DEFLATE, HORIZONTAL),
    ],
)  # fmt: skip
def test_deep_numbers_of_every_coding_are_read(
    kind: str, method: int, predictor: int, layout: dict[str, Any], order: str
) -> None:
    pixels = to_numbers(COLORS, kind)
    assert is_as_drawn(make_tiff(pixels, RGB, method, predictor, order, **layout), COLORS)
    grey = COLORS[..., :1]
    assert is_as_drawn(make_tiff(pixels[..., :1], BLACK_IS_ZERO, method, predictor, order, **layout), grey)
    assert is_as_drawn(make_tiff(pixels[..., :1], WHITE_IS_ZERO, method, predictor, order, **layout), 1 - grey)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_numbers_of_fewer_than_16_bits_are_unpacked(bits: int) -> None:
    numbers = np.rint(COLORS * (2**bits - 1)).astype(np.uint16)
    flags = numbers.reshape(HEIGHT, -1, 1) >> np.arange(bits)[::-1] & 1
    packed = np.packbits(flags.astype(np.uint8).reshape(HEIGHT, -1), axis=1)[..., None]
    assert is_as_drawn(make_tiff(packed, RGB, DEFLATE, bits=bits, samples=3), COLORS)


# Photoshop documents.

GREY, RGB_MODE = 1, 3


def make_psd(
    channels: np.ndarray, bits: int, mode: int, is_large: bool = False, is_packed: bool = False, text: bytes = b""
) -> bytes:
    """channels: channels, rows, columns, 0 to 1. text: an XMP packet."""
    count, height, width = channels.shape
    numbers = channels if bits == 32 else np.rint(channels * (2**bits - 1))
    rows = [row.tobytes() for row in numbers.astype({8: "u1", 16: ">u2", 32: ">f4"}[bits]).reshape(-1, width)]
    if is_packed:
        rows = [pack_bits(row) for row in rows]
    sizes = b"".join(len(row).to_bytes(4 if is_large else 2) for row in rows) if is_packed else b""
    resources = b"8BIM\4\x24\0\0" + struct.pack(">I", len(text)) + text + b"\0" * (len(text) % 2) if text else b""
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1 + is_large, count, height, width, bits, mode)
    layers = bytes(8 if is_large else 4)
    return b"".join(
        [
            header,
            bytes(4),
            struct.pack(">I", len(resources)),
            resources,
            layers,
            b"\0" + bytes([is_packed]),
            sizes,
            *rows,
        ]
    )


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_photoshop_documents_of_every_depth_are_read(bits: int, is_large: bool, is_packed: bool) -> None:
    colors = COLORS.transpose(2, 0, 1)
    channels = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4) if bits == 32 else colors
    selection = np.zeros_like(colors[:1])
    for extra in ([], [selection], [selection] * 2):
        shown = make_psd(np.concatenate([channels, *extra]), bits, RGB_MODE, is_large, is_packed)
        assert is_as_drawn(shown, COLORS)
        grey = make_psd(np.concatenate([channels[:1], *extra]), bits, GREY, is_large, is_packed)
        assert is_as_drawn(grey, COLORS[..., :1])
    cut = shown[: len(shown) * 93 // 100]
    assert decode_image(make_psd(channels, bits, RGB_MODE, is_large, is_packed)[:-200], "a").is_incomplete
    with pytest.raises(UnreadableImage, match="cut short"):
        decode_image(cut[: len(cut) // 3], "a")


def test_text_of_a_photoshop_document_is_read() -> None:
    packet = make_xmp(alternatives("dc:description", "港の灯"))
    assert read_image_text(make_psd(np.zeros((3, 4, 4)), 16, RGB_MODE, text=packet)).description == "港の灯"


def test_text_of_a_jpeg_2000_is_read() -> None:
    packet = make_xmp(alternatives("dc:description", "港の灯"))
    box = b"uuid" + bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + packet
    data = b"\0\0\0\x0cjP  \r\n\x87\n" + struct.pack(">I", len(box) + 4) + box
    assert read_image_text(data).description == "港の灯"
