"""An image that has only the drawn workflow still tells its words and settings."""

from __future__ import annotations

import copy
from typing import Any

from image_search.metadata import read_image_text
from image_search.records import ImageText
from tests.fakes.images_with_text import make_png_of


def drawn(number: int, kind: str, values: Any = None, mode: int = 0, **links: int) -> dict[str, Any]:
    inputs = [{"name": name, "link": link} for name, link in links.items()]
    return {"id": number, "type": kind, "mode": mode, "inputs": inputs, "widgets_values": values}


WORKFLOW: dict[str, Any] = {
    "nodes": [
        drawn(9, "SaveImage", ["ComfyUI"], images=9),
        drawn(8, "VAEDecode", samples=7),
        drawn(
            3,
            "KSampler",
            [12345, "randomize", 20, 7.0, "euler", "karras", 1],
            model=1,
            positive=4,
            negative=6,
            latent_image=2,
        ),
        drawn(4, "CheckpointLoaderSimple", ["anything-v5.safetensors"]),
        drawn(5, "EmptyLatentImage", [512, 768, 1]),
        drawn(6, "CLIPTextEncode", ["白い猫"]),
        drawn(7, "CLIPTextEncode", ["low quality"]),
    ],
    "links": [
        [1, 4, 0, 3, 0, "MODEL"],
        [2, 5, 0, 3, 3, "LATENT"],
        [4, 6, 0, 3, 1, "CONDITIONING"],
        [6, 7, 0, 3, 2, "CONDITIONING"],
        [7, 3, 0, 8, 0, "LATENT"],
        [9, 8, 0, 9, 0, "IMAGE"],
    ],
}


def change(*nodes: dict[str, Any], links: tuple[list[Any], ...] = (), **more: Any) -> dict[str, Any]:
    """The workflow with these nodes put in the place of those with the same number, and these links likewise."""
    workflow = copy.deepcopy(WORKFLOW)
    numbers = {node["id"] for node in nodes}
    workflow["nodes"] = [node for node in workflow["nodes"] if node["id"] not in numbers] + list(nodes)
    taken = {link[0] for link in links}
    workflow["links"] = [link for link in workflow["links"] if link[0] not in taken] + list(links)
    return workflow | more


def read(workflow: dict[str, Any]) -> ImageText:
    return read_image_text(make_png_of(workflow=workflow))


def test_workflow_alone_gives_words_and_settings() -> None:
    text = read(WORKFLOW)
    assert (text.generator, text.prompt, text.negative_prompt) == ("ComfyUI", "白い猫", "low quality")
    assert (text.seed, text.steps, text.sampler, text.cfg, text.generated_size) == (
        "12345",
        20,
        "euler",
        7.0,
        "512x768",
    )
    assert text.generation_model == "anything-v5.safetensors"


def test_inputs_that_name_their_widget_name_the_values_of_unknown_nodes() -> None:
    sampler = drawn(3, "NewSampler", [55, "fixed", 30, 4.5], model=1, positive=4, negative=6, latent_image=2)
    sampler["inputs"] += [{"name": name, "widget": {"name": name}} for name in ("seed", "steps", "cfg")]
    text = read(change(sampler))
    assert (text.seed, text.steps, text.cfg, text.prompt) == ("55", 30, 4.5, "白い猫")


def test_bypassed_node_is_passed_through_and_a_muted_one_is_not_there() -> None:
    bypassed = drawn(20, "ControlNetApply", ["ignored words here"], mode=4, conditioning=20)
    muted = drawn(7, "CLIPTextEncode", ["low quality"], mode=2)
    text = read(change(bypassed, muted, links=([4, 20, 0, 3, 1, "CONDITIONING"], [20, 6, 0, 20, 0, "CONDITIONING"])))
    assert (text.prompt, text.negative_prompt) == ("白い猫", None)


def test_words_in_a_primitive_or_a_reroute_are_followed() -> None:
    encoder = drawn(6, "CLIPTextEncode", [""], text=21)
    nodes = (encoder, drawn(21, "Reroute", **{"": 22}), drawn(22, "PrimitiveNode", ["白い猫", "fixed"]))
    text = read(change(*nodes, links=([21, 21, 0, 6, 1, "STRING"], [22, 22, 0, 21, 0, "STRING"])))
    assert text.prompt == "白い猫"


def test_subgraph_is_opened() -> None:
    inner = {
        "id": "7d2a5c1e",
        "nodes": [drawn(1, "CLIPTextEncode", [""], text=31)],
        "links": [
            {"id": 31, "origin_id": -10, "origin_slot": 0, "target_id": 1, "target_slot": 0},
            {"id": 32, "origin_id": 1, "origin_slot": 0, "target_id": -20, "target_slot": 0},
        ],
    }
    outer = (drawn(6, "7d2a5c1e", [], text=33), drawn(30, "PrimitiveString", ["白い猫"]))
    outer[1]["inputs"] = [{"name": "value", "widget": {"name": "value"}}]
    workflow = change(*outer, links=([33, 30, 0, 6, 0, "STRING"],), definitions={"subgraphs": [inner]})
    assert read(workflow).prompt == "白い猫"


def test_subgraph_that_holds_itself_ends() -> None:
    inner = {"id": "loop", "nodes": [drawn(1, "loop"), drawn(2, "loop")], "links": []}
    assert read(change(drawn(6, "loop"), definitions={"subgraphs": [inner]})).generator == "ComfyUI"


def test_workflow_of_something_else_is_named_and_nothing_more() -> None:
    text = read({"nodes": [], "links": []})
    assert (text.generator, text.prompt, text.generation_prompt) == ("ComfyUI", None, None)


def test_text_typed_into_the_node_of_a_subgraph_is_the_prompt() -> None:
    inside = drawn(1, "CLIPTextEncode", ["stale"])
    inside["inputs"] = [{"name": "text", "link": 1, "widget": {"name": "text"}}]
    subgraph = {
        "id": "sub",
        "nodes": [inside],
        "links": [
            {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 1, "target_slot": 0},
            {"id": 2, "origin_id": 1, "origin_slot": 0, "target_id": -20, "target_slot": 0},
        ],
    }
    outside = drawn(6, "sub", ["赤い犬"])
    outside["inputs"] = [{"name": "text", "link": None, "widget": {"name": "text"}}]
    assert read(change(outside, definitions={"subgraphs": [subgraph]})).prompt == "赤い犬"


def test_get_node_leads_to_what_the_set_node_of_its_name_was_given() -> None:
    workflow = change(
        drawn(20, "GetNode", ["words"]),
        drawn(21, "SetNode", ["words"], CONDITIONING=21),
        links=([4, 20, 0, 3, 1, "CONDITIONING"], [21, 6, 0, 21, 0, "CONDITIONING"]),
    )
    assert read(workflow).prompt == "白い猫"
