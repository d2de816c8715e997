"""Metadata as image generators, cameras and editors write it, made to fit the drawn scene."""

import json
import random
from typing import Any
from xml.sax.saxutils import escape

from PIL import Image
from PIL.PngImagePlugin import PngInfo

NEGATIVE = "blurry, lowres, watermark"
CAMERAS = (("FUJIFILM", "X-T5"), ("NIKON CORPORATION", "NIKON Z 6_2"), ("Apple", "iPhone 15"), ("SONY", "ILCE-7M4"))
ORIENTATION_TAG, DESCRIPTION_TAG, MAKE_TAG, MODEL_TAG, DATE_TAG = 0x0112, 0x010E, 0x010F, 0x0110, 0x0132
EXIF_FOLDER, DATE_TAKEN_TAG, ISO_TAG, FOCAL_TAG = 0x8769, 0x9003, 0x8827, 0x920A
# How the stored pixels are turned, so that the orientation tag turns them upright again.
TURNS = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def write_prompt(caption: str) -> str:
    return f"{caption}, flat illustration, soft light, clean shapes"


def make_automatic1111_chunks(caption: str, seed: int, size: tuple[int, int]) -> PngInfo:
    """The `parameters` chunk of AUTOMATIC1111's web UI."""
    chunks = PngInfo()
    settings = (
        f"Steps: 28, Sampler: DPM++ 2M, CFG scale: 6.5, Seed: {seed}, Size: {size[0]}x{size[1]}, Model: drawn-scenes"
    )
    chunks.add_text("parameters", f"{write_prompt(caption)}\nNegative prompt: {NEGATIVE}\n{settings}")
    return chunks


def make_comfyui_chunks(caption: str, seed: int, size: tuple[int, int]) -> PngInfo:
    """The `prompt` (what runs) and `workflow` (what the editor shows) chunks of ComfyUI."""
    prompt: dict[str, Any] = {
        "3": _node("KSampler", seed=seed, steps=20, cfg=7.0, sampler_name="euler", scheduler="normal", denoise=1.0,
                   model=["4", 0], positive=["6", 0], negative=["7", 0], latent_image=["5", 0]),
        "4": _node("CheckpointLoaderSimple", ckpt_name="drawn-scenes.safetensors"),
        "5": _node("EmptyLatentImage", width=size[0], height=size[1], batch_size=1),
        "6": _node("CLIPTextEncode", text=write_prompt(caption), clip=["4", 1]),
        "7": _node("CLIPTextEncode", text=NEGATIVE, clip=["4", 1]),
        "8": _node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": _node("SaveImage", filename_prefix="scene", images=["8", 0]),
    }  # fmt: skip
    nodes = [
        {"id": int(number), "type": node["class_type"], "pos": [260 * index, 120], "mode": 0,
         "widgets_values": [v for v in node["inputs"].values() if not isinstance(v, list)]}
        for index, (number, node) in enumerate(prompt.items())
    ]  # fmt: skip
    chunks = PngInfo()
    chunks.add_text("prompt", json.dumps(prompt))
    chunks.add_text("workflow", json.dumps({"last_node_id": 9, "last_link_id": 9, "nodes": nodes, "version": 0.4}))
    return chunks


def _node(kind: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def make_exif(rng: random.Random, orientation: int) -> Image.Exif:
    """Camera, day and orientation."""
    exif = Image.Exif()
    make, model = rng.choice(CAMERAS)
    taken = f"{rng.choice((2023, 2024, 2025))}:{rng.randint(1, 12):02}:{rng.randint(1, 28):02} "
    taken += f"{rng.randint(6, 22):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}"
    exif[MAKE_TAG], exif[MODEL_TAG], exif[DATE_TAG], exif[ORIENTATION_TAG] = make, model, taken, orientation
    folder = exif.get_ifd(EXIF_FOLDER)
    folder[DATE_TAKEN_TAG], folder[ISO_TAG], folder[FOCAL_TAG] = taken, rng.choice((100, 200, 800)), 35.0
    return exif


def make_described_exif(caption: str) -> Image.Exif:
    exif = Image.Exif()
    exif[DESCRIPTION_TAG] = caption
    return exif


def make_xmp(caption: str) -> bytes:
    """An XMP packet whose dc:description is the caption."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>'
        f'<rdf:li xml:lang="x-default">{escape(caption)}</rdf:li></rdf:Alt></dc:description>'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()
