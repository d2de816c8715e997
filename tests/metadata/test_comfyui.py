"""The words and settings of ComfyUI's graphs are found by walking them, whatever nodes they go through."""

from __future__ import annotations

import json
from typing import Any

import pytest

from image_search.metadata import read_image_text
from image_search.records import ImageText
from tests.fakes.images_with_text import (
    SETTINGS,
    hide_text,
    make_exif,
    make_jpeg,
    make_png_of,
    make_user_comment,
    make_webp,
    save_image,
)

Graph = dict[str, dict[str, Any]]


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def make_graph(**changes: dict[str, Any]) -> Graph:
    """The graph ComfyUI starts with; changes by the name of the node."""
    return {
        "sampler": node(
            "KSampler",
            seed=12345,
            steps=20,
            cfg=7.0,
            sampler_name="euler",
            scheduler="karras",
            denoise=1.0,
            model=["loader", 0],
            positive=["positive", 0],
            negative=["negative", 0],
            latent_image=["latent", 0],
        ),
        "loader": node("CheckpointLoaderSimple", ckpt_name="anything-v5.safetensors"),
        "latent": node("EmptyLatentImage", width=512, height=768, batch_size=1),
        "positive": node("CLIPTextEncode", text="白い猫", clip=["loader", 1]),
        "negative": node("CLIPTextEncode", text="low quality", clip=["loader", 1]),
        "decode": node("VAEDecode", samples=["sampler", 0], vae=["loader", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="ComfyUI"),
        **changes,
    }


def read(graph: Graph) -> ImageText:
    return read_image_text(make_png_of(prompt=graph))


def list_words(graph: Graph) -> tuple[str | None, str | None]:
    text = read(graph)
    return text.prompt, text.negative_prompt


WORDS = ("白い猫", "low quality")
GRAPH = make_graph()
TEXT = json.dumps(GRAPH)


@pytest.mark.parametrize(
    "data",
    [
        make_png_of(prompt=TEXT, workflow="{}"),
        make_png_of(prompt=TEXT),
        make_png_of(prompt=TEXT.replace("7.0", "NaN").replace("NaN", "7.0", 1)),
        make_webp((b"EXIF", make_exif({0x0110: f"prompt:{TEXT}", 0x010F: "workflow:{}"}))),
        make_webp((b"EXIF", make_exif({0x010F: f"Prompt: {TEXT}", 0x010E: "Workflow: {}"}))),
        make_jpeg((0xE1, make_exif({0x9286: json.dumps({"prompt": GRAPH, "workflow": {}})}))),
        make_jpeg((0xE1, make_exif({}, {0x9286: make_user_comment(json.dumps({"prompt": TEXT, "workflow": "{}"}))}))),
        make_jpeg((0xFE, TEXT.encode())),
        save_image(hide_text(json.dumps({"prompt": GRAPH}), "A", packed=True)),
    ],
    ids=["PNG", "API only", "NaN", "WebP", "extended", "JPEG", "JSON in JSON", "JPEG comment", "hidden"],
)
def test_graph_is_read_wherever_it_is_kept(data: bytes) -> None:
    text = read_image_text(data)
    assert text.generator == "ComfyUI"
    assert (text.prompt, text.negative_prompt) == WORDS
    assert (text.seed, text.steps, text.sampler, text.cfg, text.generated_size) == (
        "12345",
        20,
        "euler",
        7.0,
        "512x768",
    )
    assert text.generation_model == "anything-v5.safetensors"


def test_readable_text_is_kept_and_not_the_graph() -> None:
    assert read(GRAPH).generation_prompt == (
        "白い猫\nNegative prompt: low quality\nSteps: 20, Sampler: euler, CFG scale: 7, Seed: 12345, Size: 512x768, "
        "Model: anything-v5.safetensors, Schedule type: karras"
    )
    assert json.loads(read(GRAPH).raw["prompt"]) == GRAPH


WAYS = {
    "SDXL": {
        "positive": node("CLIPTextEncodeSDXL", text_g="白い猫", text_l="白い猫", width=1024, height=1024),
        "negative": node("CLIPTextEncodeSDXL", text_g="low quality", text_l="", width=1024, height=1024),
    },
    "Flux": {"positive": node("CLIPTextEncodeFlux", clip_l="白い猫", t5xxl="白い猫", guidance=3.5)},
    "SD3": {"positive": node("CLIPTextEncodeSD3", clip_l="白い猫", clip_g="白い猫", t5xxl="白い猫")},
    "primitive": {
        "positive": node("CLIPTextEncode", text=["words", 0]),
        "words": node("PrimitiveStringMultiline", value="白い猫"),
    },
    "reroute": {
        "positive": node("CLIPTextEncode", text=["reroute", 0]),
        "reroute": node("Reroute", **{"": ["words", 0]}),
        "words": node("String", string="白い猫"),
    },
    "rgthree": {"positive": node("Power Prompt (rgthree)", prompt="白い猫")},
    "ControlNet": {
        "positive": node("ControlNetApplyAdvanced", positive=["p", 0], negative=["n", 0], strength=1.0),
        "negative": node("ControlNetApplyAdvanced", positive=["p", 0], negative=["n", 0], strength=1.0),
        "p": node("CLIPTextEncode", text="白い猫"),
        "n": node("CLIPTextEncode", text="low quality"),
    },
    "Efficiency": {
        "positive": node("Efficient Loader", positive="白い猫", negative="low quality", ckpt_name="m"),
        "negative": node("Efficient Loader", positive="白い猫", negative="low quality", ckpt_name="m"),
    },
    "guidance": {
        "positive": node("FluxGuidance", conditioning=["p", 0], guidance=3.5),
        "p": node("CLIPTextEncode", text="白い猫"),
    },
    "wildcard": {"positive": node("ImpactWildcardEncode", wildcard_text="__animal__", populated_text="白い猫", seed=1)},
    "shown": {
        "positive": node("CLIPTextEncode", text=["show", 0]),
        "show": node("ShowText|pysssss", text=["model", 0], text_0="白い猫"),
        "model": node("TextGenerate", prompt="You are a poet."),
    },
    "switch": {
        "positive": node("CLIPTextEncode", text=["switch", 0]),
        "switch": node("ComfySwitchNode", switch=True, on_true=["model", 0], on_false=["words", 0]),
        "model": node("TextGenerate", prompt="You are a poet."),
        "words": node("PrimitiveString", value="白い猫"),
    },
    "styler": {"positive": node("SDXLPromptStyler", text_positive="白い猫", text_negative="low quality", style="base")},
}


@pytest.mark.parametrize("way", WAYS)
def test_words_are_found_through_every_kind_of_node(way: str) -> None:
    assert list_words(make_graph(**WAYS[way])) == WORDS


def test_texts_that_a_node_joins_are_joined_as_it_does() -> None:
    joined = node("StringConcatenate", string_a=["a", 0], string_b="cat", delimiter=" white ")
    graph = make_graph(
        positive=node("CLIPTextEncode", text=["join", 0]), join=joined, a=node("PrimitiveString", value="a")
    )
    assert list_words(graph)[0] == "a white cat"


def test_conditionings_that_are_combined_each_give_their_words() -> None:
    area = node("ConditioningSetArea", conditioning=["b", 0], width=64, height=64)
    graph = make_graph(
        positive=node("ConditioningCombine", conditioning_1=["a", 0], conditioning_2=["area", 0]),
        a=node("CLIPTextEncode", text="evening\n"),
        area=area,
        b=node("CLIPTextEncode", text="morning"),
    )
    assert list_words(graph)[0] == "evening\nmorning"


def test_zeroed_conditioning_is_no_negative_prompt() -> None:
    graph = make_graph(negative=node("ConditioningZeroOut", conditioning=["positive", 0]))
    assert list_words(graph) == ("白い猫", None)


CUSTOM = {
    "sampler": node(
        "SamplerCustomAdvanced",
        noise=["noise", 0],
        guider=["guider", 0],
        sampler=["select", 0],
        sigmas=["split", 0],
        latent_image=["latent", 0],
    ),
    "noise": node("RandomNoise", noise_seed=12345),
    "guider": node("CFGGuider", cfg=7.0, model=["loader", 0], positive=["positive", 0], negative=["negative", 0]),
    "select": node("KSamplerSelect", sampler_name="euler"),
    "split": node("SplitSigmas", sigmas=["schedule", 0], step=3),
    "schedule": node("BasicScheduler", scheduler="karras", steps=20, denoise=1.0, model=["loader", 0]),
}


def test_sampler_made_of_several_nodes_is_put_together() -> None:
    text = read(make_graph(**CUSTOM))
    assert (text.prompt, text.negative_prompt, text.seed, text.steps, text.sampler, text.cfg) == (
        *WORDS,
        "12345",
        20,
        "euler",
        7,
    )
    assert text.generation_model == "anything-v5.safetensors"


def test_guider_without_a_scale_has_the_guidance_of_its_conditioning_and_no_negative_prompt() -> None:
    changes = {
        **CUSTOM,
        "guider": node("BasicGuider", model=["loader", 0], conditioning=["guidance", 0]),
        "guidance": node("FluxGuidance", guidance=3.5, conditioning=["positive", 0]),
        "loader": node("UNETLoader", unet_name="flux1-dev.safetensors"),
    }
    text = read(make_graph(**changes))
    assert (text.prompt, text.negative_prompt, text.cfg) == ("白い猫", None, 3.5)
    assert text.generation_model == "flux1-dev.safetensors"


def test_numbers_are_followed_to_the_nodes_they_were_typed_into() -> None:
    graph = make_graph()
    graph["sampler"]["inputs"] |= {"seed": ["seed", 0], "steps": ["steps", 0], "cfg": ["reroute", 0]}
    graph |= {
        "seed": node("Seed (rgthree)", seed=777),
        "steps": node("PrimitiveInt", value=31),
        "reroute": node("Reroute", any=["cfg", 0]),
        "cfg": node("FloatConstant", float=4.5),
    }
    text = read(graph)
    assert (text.seed, text.steps, text.cfg) == ("777", 31, 4.5)


@pytest.mark.parametrize(
    "latent",
    [
        node("SDXL Empty Latent Image (rgthree)", dimensions="512 x 768   (portrait)", batch_size=1),
        node("EmptyLatentImage", width=["preset", 0], height=["preset", 1]),
        node("EmptyLatentImage", width=["numbers", 0], height=["numbers", 1]),
    ],
    ids=["dimensions", "preset", "numbers"],
)
def test_size_is_found_where_it_was_chosen(latent: dict[str, Any]) -> None:
    preset = node("CR SDXL Aspect Ratio", width=1024, height=1024, aspect_ratio="2:3 portrait 512x768")
    numbers = node("Resolution", width=512, height=768)
    assert read(make_graph(latent=latent, preset=preset, numbers=numbers)).generated_size == "512x768"


def test_first_of_two_passes_is_told() -> None:
    second = node(
        "KSampler",
        seed=1,
        steps=7,
        cfg=2.0,
        sampler_name="ddim",
        scheduler="simple",
        denoise=0.4,
        model=["loader", 0],
        positive=["positive", 0],
        negative=["negative", 0],
        latent_image=["upscale", 0],
    )
    graph = {"second": second, **make_graph(decode=node("VAEDecode", samples=["second", 0]))}
    graph["upscale"] = node("LatentUpscale", samples=["sampler", 0], width=1024, height=1536)
    text = read(graph)
    assert (text.seed, text.steps, text.generated_size) == ("12345", 20, "512x768")


def test_sampler_that_made_nothing_of_the_saved_image_is_passed_over() -> None:
    other = node("KSampler", seed=1, steps=1, cfg=1, sampler_name="x", model=["loader", 0], positive=["p", 0])
    assert read({"other": other, "p": node("CLIPTextEncode", text="dog"), **make_graph()}).prompt == "白い猫"


def test_loras_are_listed_and_the_model_behind_them_is_named() -> None:
    graph = make_graph(lora=node("LoraLoader", lora_name="line.safetensors", model=["loader", 0], clip=["loader", 1]))
    graph["sampler"]["inputs"]["model"] = ["lora", 0]
    text = read(graph)
    assert text.generation_model == "anything-v5.safetensors"
    assert "Lora: line.safetensors" in (text.generation_prompt or "")


def test_words_without_a_path_to_them_are_taken_by_their_titles() -> None:
    graph = make_graph(
        positive=node("Mystery", x=1), negative=node("Mystery", x=2), a=node("CLIPTextEncode", text="白い猫")
    )
    graph["b"] = {**node("CLIPTextEncode", text="low quality"), "_meta": {"title": "Negative"}}
    assert list_words(graph) == WORDS


def test_nodes_that_save_a_readable_text_fill_what_the_graph_leaves_open() -> None:
    graph = make_graph()
    graph["sampler"]["inputs"]["seed"] = ["unknown", 0]
    text = read_image_text(
        make_png_of(prompt=graph, workflow="{}", parameters=f"cat\n{SETTINGS.replace('12345', '9')}")
    )
    assert (text.generator, text.prompt, text.seed) == ("ComfyUI", "白い猫", "9")


def test_civitai_tells_what_was_asked_for_where_the_graph_has_no_words() -> None:
    asked = {"prompt": "白い猫", "negativePrompt": "low quality", "cfgScale": 7, "steps": 20, "seed": 12345}
    upscale = {"resource-stack": node("CheckpointLoaderSimple", ckpt_name="m"), "1": node("LoadImage", image="a.png")}
    for graph in (upscale, make_graph()):
        comment = {**graph, "extra": {"airs": []}, "extraMetadata": json.dumps(asked)}
        data = make_jpeg((0xE1, make_exif({}, {0x9286: make_user_comment(json.dumps(comment))})))
        text = read_image_text(data)
        assert (text.generator, text.prompt, text.negative_prompt) == ("Civitai", *WORDS)
        assert (text.seed, text.steps, text.cfg) == ("12345", 20, 7.0)


def test_tensorart_names_words_and_model_and_its_graph_the_rest() -> None:
    data = {"prompt": "白い猫", "negativePrompt": "low quality", "baseModel": {"modelFileName": "WAI v16", "hash": "1"}}
    graph = make_graph(loader=node("ECHOCheckpointLoaderSimple", ckpt_name="EMS-1-EMS"))
    text = read_image_text(make_png_of(generation_data=json.dumps(data) + "\0", prompt=graph))
    assert (text.generator, text.prompt, text.negative_prompt) == ("TensorArt", *WORDS)
    assert (text.generation_model, text.seed, text.generated_size) == ("WAI v16", "12345", "512x768")


def test_stability_matrix_is_known_by_its_project() -> None:
    settings = {"PositivePrompt": "白い猫", "NegativePrompt": "low quality", "Seed": 12345, "Steps": 20, "CfgScale": 7}
    settings |= {"Width": 512, "Height": 768, "ModelName": "anything"}
    text = read_image_text(make_png_of(**{"parameters-json": settings, "smproj": "{}", "prompt": make_graph()}))
    assert (text.generator, text.prompt, text.negative_prompt) == ("Stability Matrix", *WORDS)
    assert (text.seed, text.generation_model, text.sampler) == ("12345", "anything", "euler")


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("ImpactSwitch", {"select": 2, "input1": ["b", 0], "input2": ["a", 0]}),
        ("Any Switch (rgthree)", {"any_01": ["a", 0], "any_02": ["b", 0]}),
        ("CR Text Input Switch", {"Input": 1, "text1": ["a", 0], "text2": ["b", 0]}),
        ("easy anythingIndexSwitch", {"index": 0, "value0": ["a", 0], "value1": ["b", 0]}),
    ],
)
def test_switch_gives_the_words_of_its_chosen_input_only(kind: str, inputs: dict[str, Any]) -> None:
    words = {name: node("PrimitiveString", value=text) for name, text in (("a", "白い猫"), ("b", "赤い犬"))}
    switch = node(kind, **inputs)
    encoder = node("CLIPTextEncode", text=["switch", 0], clip=["loader", 1])
    assert list_words(make_graph(positive=encoder, switch=switch, **words))[0] == "白い猫"
