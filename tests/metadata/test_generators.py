"""The text of each generator is taken apart into the same fields, and kept readable."""

from __future__ import annotations

import json
from typing import Any

import pytest

from image_search.metadata import read_image_text
from image_search.records import ImageText
from tests.fakes.images_with_text import (
    INFOTEXT,
    SETTINGS,
    alternatives,
    hide_text,
    international_chunk,
    make_exif,
    make_jpeg,
    make_png,
    make_png_of,
    make_user_comment,
    make_webp,
    make_xmp,
    save_image,
)

PROMPT, NEGATIVE = "白い猫, 1girl", "low quality"


def list_settings(text: ImageText) -> tuple[Any, ...]:
    return (text.prompt, text.negative_prompt, text.seed, text.steps, text.sampler, text.cfg, text.generated_size)


EXPECTED = (PROMPT, NEGATIVE, "12345", 20, "Euler a", 7.0, "512x768")


NOVELAI = {
    "prompt": PROMPT,
    "uc": NEGATIVE,
    "steps": 20,
    "sampler": "Euler a",
    "seed": 12345,
    "scale": 7.0,
    "width": 512,
    "height": 768,
    "n_samples": 1,
    "noise_schedule": "karras",
}


def test_novelai_is_read_from_chunks_from_hidden_bits_and_from_webp() -> None:
    chunks = {
        "Software": "NovelAI",
        "Source": "NovelAI Diffusion V4",
        "Comment": json.dumps(NOVELAI),
        "Description": PROMPT,
    }
    hidden = json.dumps(chunks)
    for data in (
        make_png_of(**chunks),
        save_image(hide_text(hidden, "A", packed=True)),
        make_webp((b"EXIF", make_exif({}, {0x9286: make_user_comment(hidden, "ASCII", "utf-8")}))),
    ):
        text = read_image_text(data)
        assert (text.generator, *list_settings(text)) == ("NovelAI", *EXPECTED)
        assert text.generation_model == "NovelAI Diffusion V4"


def test_characters_of_novelai_4_are_searched_beside_the_prompt() -> None:
    captions = {
        "caption": {"base_caption": "two cats", "char_captions": [{"char_caption": "黒猫"}, {"char_caption": "三毛猫"}]}
    }
    text = read_image_text(make_png_of(Software="NovelAI", Comment={**NOVELAI, "v4_prompt": captions}))
    assert text.prompt == "two cats"
    assert "黒猫" in (text.generation_prompt or "") and "三毛猫" in (text.generation_prompt or "")


INVOKE = {"seed": 12345, "steps": 20, "cfg_scale": 7.0, "width": 512, "height": 768}


@pytest.mark.parametrize(
    "chunks",
    [
        {
            "Dream": f'"{PROMPT} [{NEGATIVE}]" -s 20 -S 12345 -W 512 -H 768 -C 7.0 -A "k_euler"'.replace(
                '"k_euler"', "k_euler"
            )
        },
        {
            "sd-metadata": {
                "model_weights": "m",
                "image": {**INVOKE, "prompt": [{"prompt": f"{PROMPT} [{NEGATIVE}]"}], "sampler": "k_euler"},
            }
        },
        {"sd-metadata": {"model": "m", "image": {**INVOKE, "prompt": f"{PROMPT} [{NEGATIVE}]", "sampler": "k_euler"}}},
        {
            "invokeai": {
                **INVOKE,
                "type": "t2l",
                "positive_conditioning": PROMPT,
                "negative_conditioning": NEGATIVE,
                "scheduler": "k_euler",
            }
        },
        {
            "invokeai_metadata": {
                **INVOKE,
                "positive_prompt": PROMPT,
                "negative_prompt": NEGATIVE,
                "scheduler": "k_euler",
                "model": {"model_name": "m"},
            }
        },
        {
            "invokeai_metadata": {
                **INVOKE,
                "positive_prompt": PROMPT,
                "negative_prompt": NEGATIVE,
                "scheduler": "k_euler",
                "model": {"name": "m", "key": "k"},
            }
        },
        {
            "invokeai_graph": {
                "nodes": {
                    "core_metadata:1": {
                        **INVOKE,
                        "type": "core_metadata",
                        "positive_prompt": PROMPT,
                        "negative_prompt": NEGATIVE,
                        "scheduler": "k_euler",
                    }
                }
            }
        },
    ],
    ids=[
        "Dream",
        "sd-metadata",
        "sd-metadata, one prompt",
        "invokeai",
        "invokeai_metadata",
        "newer models",
        "graph only",
    ],
)
def test_every_form_of_invokeai_is_read(chunks: dict[str, Any]) -> None:
    text = read_image_text(make_png_of(**chunks))
    assert (text.generator, *list_settings(text)) == (
        "InvokeAI",
        PROMPT,
        NEGATIVE,
        "12345",
        20,
        "k_euler",
        7.0,
        "512x768",
    )


FOOOCUS = {
    "prompt": PROMPT,
    "negative_prompt": NEGATIVE,
    "base_model": "juggernaut",
    "guidance_scale": 7.0,
    "steps": 20,
    "seed": "12345",
    "sampler": "Euler a",
    "scheduler": "karras",
    "resolution": "(512, 768)",
    "full_prompt": [PROMPT, "cinematic"],
}


@pytest.mark.parametrize(
    ("data", "generator"),
    [
        (make_png_of(parameters=FOOOCUS, fooocus_scheme="fooocus"), "Fooocus"),
        (
            make_jpeg((0xE1, make_exif({0x0131: "Fooocus v2.5.5", 0x9286: json.dumps(FOOOCUS), 0x927C: "fooocus"}))),
            "Fooocus",
        ),
        (make_png_of(parameters=INFOTEXT, fooocus_scheme="a1111"), "Fooocus"),
        (
            make_png_of(Comment={**FOOOCUS, "cfg": 7.0, "width": 512, "height": 768, "software": "Fooocus 2.0 MRE"}),
            "Fooocus",
        ),
        (
            make_png_of(
                parameters={
                    "Prompt": PROMPT,
                    "Negative": NEGATIVE,
                    "steps": 20,
                    "cfg": 7.0,
                    "width": 512,
                    "height": 768,
                    "seed": 12345,
                    "sampler_name": "Euler a",
                    "base_model_name": "m",
                    "software": "RuinedFooocus",
                }
            ),
            "Ruined Fooocus",
        ),
        (
            make_jpeg(
                (
                    0xE1,
                    make_exif(
                        {
                            0x9286: json.dumps(
                                {
                                    "Prompt": PROMPT,
                                    "Negative Prompt": NEGATIVE,
                                    "Steps": 20,
                                    "Guidance Scale": 7.0,
                                    "Resolution": "(512, 768)",
                                    "Seed": "12345",
                                    "Sampler": "Euler a",
                                    "Base Model": "m",
                                    "Version": "Fooocus v2",
                                }
                            )
                        }
                    ),
                )
            ),
            "Fooocus",
        ),
    ],
    ids=["PNG", "JPEG", "AUTOMATIC1111 scheme", "MRE", "Ruined", "labels"],
)
def test_fooocus_and_its_forks_are_read(data: bytes, generator: str) -> None:
    text = read_image_text(data)
    assert (text.generator, *list_settings(text)) == (generator, *EXPECTED)


EASY = {
    "prompt": PROMPT,
    "negative_prompt": NEGATIVE,
    "seed": "12345",
    "num_inference_steps": "20",
    "guidance_scale": "7.0",
    "width": "512",
    "height": "768",
    "sampler_name": "Euler a",
    "use_stable_diffusion_model": "sd-v1-5",
}
EASY_LABELS = {
    "Prompt": PROMPT, "Negative Prompt": NEGATIVE, "Seed": "12345", "Steps": "20", "Guidance Scale": "7.0",
    "Width": "512", "Height": "768", "Sampler": "Euler a", "Stable Diffusion model": "sd-v1-5",
}  # fmt: skip


@pytest.mark.parametrize("settings", [EASY, EASY_LABELS], ids=["names", "labels"])
def test_easy_diffusion_is_read_from_chunks_and_from_json(settings: dict[str, str]) -> None:
    comment = make_exif({}, {0x9286: make_user_comment(json.dumps(settings))})
    for data in (make_png_of(**settings), make_jpeg((0xE1, comment)), make_png()):
        text = read_image_text(data, sidecars={"a.json": json.dumps(settings).encode()})
        assert (text.generator, *list_settings(text)) == ("Easy Diffusion", *EXPECTED)
        assert text.generation_model == "sd-v1-5"


SWARM = {
    "sui_image_params": {
        "prompt": PROMPT, "negativeprompt": NEGATIVE, "model": "m", "seed": 12345, "steps": 20, "cfgscale": 7.0,
        "width": 512, "height": 768, "sampler": "Euler a", "scheduler": "karras", "swarm_version": "0.9.7.0",
    }
}  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        make_png_of(parameters=SWARM),
        make_jpeg((0xE1, make_exif({}, {0x9286: make_user_comment(json.dumps(SWARM), encoding="utf-16-le")}, "<"))),
        make_jpeg((0xE1, make_exif({0x0110: json.dumps(SWARM)}))),
        save_image(hide_text(json.dumps(SWARM), "RGB", packed=True)),
    ],
    ids=["PNG", "JPEG", "EXIF Model", "hidden"],
)
def test_swarmui_is_read(data: bytes) -> None:
    text = read_image_text(data)
    assert (text.generator, *list_settings(text)) == ("SwarmUI", *EXPECTED)


def test_draw_things_is_read_from_its_object_and_from_its_description() -> None:
    comment = {
        "c": PROMPT,
        "uc": NEGATIVE,
        "seed": 12345,
        "steps": 20,
        "scale": 7.0,
        "sampler": "Euler a",
        "size": "512x768",
    }
    tool = "<xmp:CreatorTool>Draw Things</xmp:CreatorTool>"
    described = f"{PROMPT}&#xA;-{NEGATIVE}&#xA;{SETTINGS.replace('CFG scale', 'Guidance Scale')}"
    for properties in (
        tool + alternatives("exif:UserComment", json.dumps(comment).replace("&", "&amp;")),
        tool + alternatives("dc:description", described),
    ):
        text = read_image_text(make_png(international_chunk("XML:com.adobe.xmp", make_xmp(properties))))
        assert (text.generator, *list_settings(text)) == ("Draw Things", *EXPECTED)


def test_space_on_hugging_face_is_read() -> None:
    settings = {
        "prompt": PROMPT, "negative_prompt": NEGATIVE, "resolution": "512 x 768", "guidance_scale": 7, "seed": 12345,
        "num_inference_steps": 20, "sampler": "Euler a", "Model": "Animagine XL", "Model hash": "e3c47aedb0",
    }  # fmt: skip
    text = read_image_text(make_png_of(parameters=settings))
    assert (text.generator, *list_settings(text)) == ("Hugging Face Space", *EXPECTED)


def test_program_for_stable_diffusion_3_with_its_prompts_in_chunks_is_read() -> None:
    text = read_image_text(
        make_png_of(prompt=PROMPT, prompt_2=PROMPT, prompt_3="more words", negative_prompt=NEGATIVE, seed="12345")
    )
    assert (text.generator, text.prompt, text.negative_prompt) == ("Stability", f"{PROMPT}\nmore words", NEGATIVE)
    assert text.generation_prompt == f"{PROMPT}\nmore words\nNegative prompt: {NEGATIVE}\nSeed: 12345"


def test_midjourney_is_read_from_its_command() -> None:
    command = (
        "a cat in the rain --ar 3:2 --v 6.1 --no dogs, cars --seed 12345 Job ID: 00000000-1111-2222-3333-444444444444"
    )
    text = read_image_text(make_png_of(Description=command))
    assert (text.generator, text.prompt, text.negative_prompt) == ("Midjourney", "a cat in the rain", "dogs, cars")
    assert (text.seed, text.generation_model) == ("12345", "v 6.1")


def test_unknown_chunks_go_to_the_description_line_by_line() -> None:
    text = read_image_text(make_png_of(Mood="calm", Place="sea", Software="X 1"))
    assert (text.description, text.generation_prompt, text.generator) == ("Mood: calm\nPlace: sea", None, None)


@pytest.mark.parametrize(
    ("chunks", "caption"),
    [
        ({"Description": "a cup of coffee"}, "a cup of coffee"),
        ({"Title": "Breakfast", "Comment": "a cup", "Author": "Jane"}, "Breakfast\na cup\nAuthor: Jane"),
        ({"Title": "a cup of coffee", "Description": "a cup of coffee"}, "a cup of coffee"),
        ({"XML:com.adobe.xmp": make_xmp(alternatives("dc:description", "a cup of tea")).decode(),
          "Description": "a cup"}, "a cup of tea"),
    ],
)  # fmt: skip
def test_caption_in_a_chunk_stands_without_the_name_of_the_chunk_and_once(chunks: dict[str, str], caption: str) -> None:
    text = read_image_text(make_png_of(**chunks))
    assert text.description == caption
    assert text.raw["Description" if "Description" in chunks else "Comment"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"prompt": "x", "base_model": "m", "loras": [["sdxl.safetensors", 0.1, "hash"], ["b", 1]]}, ("sdxl", "b")),
        ({"Prompt": "x", "Base Model": "m", "LoRA 1": "a.safetensors : 0.1", "LoRA 2": "b : 1"}, ("a", "b")),
        ({"sui_image_params": {"prompt": "x", "loras": ["a", "b"], "loraweights": ["1", "1"]}}, ("a", "b")),
        ({"c": "x", "uc": "y", "lora": [{"model": "a.ckpt", "weight": 0.5}]}, ("a",)),
        ({"prompt": "x", "use_stable_diffusion_model": "m", "use_lora_model": ["a", "None"]}, ("a",)),
    ],
)
def test_loras_are_named_however_a_generator_lists_them(settings: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert read_image_text(make_png_of(parameters=settings)).loras == expected


def test_loras_of_a_stack_in_comfyui_count_where_they_are_switched_on() -> None:
    graph = {
        "1": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 2, "positive": ["2", 0]}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "cat"}},
        "3": {"class_type": "CR LoRA Stack", "inputs": {"switch_1": "On", "lora_name_1": "a.safetensors",
              "switch_2": "Off", "lora_name_2": "b", "lora_name_3": "None"}},
        "4": {"class_type": "Lora Loader Stack (rgthree)", "inputs": {"lora_01": "c", "strength_01": 1}},
    }  # fmt: skip
    assert read_image_text(make_png_of(prompt=graph)).loras == ("a", "c")
