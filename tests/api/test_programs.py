"""Gradio's named endpoints and the tools, asked by real clients over HTTP."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from mcp import Client as ToolClient
from mcp.types import CallToolResult, ImageContent, TextContent, Tool
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from image_search.api.mcp import _INSTRUCTIONS
from image_search.records import RecognizedText, TextLine
from image_search.settings import Settings
from tests.fakes import draw_image_bytes
from tests.fakes.api_library import open_colours, serve_in_thread


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with (
        open_colours(tmp_path_factory.mktemp("library")) as searcher,
        serve_in_thread(searcher, Settings(app_mcp=True)) as address,
    ):
        line = TextLine("ポイ捨て禁止", 0.9, (0, 0, 1, 0.05))
        searcher.store.set_recognized(2, RecognizedText("reader 1", line.text, (line,)))
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> Client:
    return Client(address, verbose=False)


def call(address: str, name: str, **arguments: Any) -> CallToolResult:
    async def run() -> CallToolResult:
        async with ToolClient(f"{address}/mcp") as tools:
            return await tools.call_tool(name, arguments)

    return asyncio.run(run())


def read_facts(result: CallToolResult) -> Any:
    assert not result.is_error, result.content
    assert isinstance(result.content[0], TextContent)
    return json.loads(result.content[0].text)


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


# --- Gradio's API -----------------------------------------------------------------------------------------------------


def test_only_the_named_endpoints_are_shown_with_typed_parameters(client: Client) -> None:
    described = client.view_api(print_info=False, return_format="dict")
    assert set(described["named_endpoints"]) == {"/search", "/similar", "/image", "/tags", "/register", "/status"}
    assert described["unnamed_endpoints"] == {}
    search = {item["parameter_name"]: item["type"] for item in described["named_endpoints"]["/search"]["parameters"]}
    assert search["text"] == {"type": "string"}
    assert search["page"] == {"type": "integer"}


def test_image_is_searched_with_and_registered(client: Client, tmp_path: Path) -> None:
    (tmp_path / "query.png").write_bytes(draw_image_bytes("magenta"))
    picture = handle_file(tmp_path / "query.png")
    found = client.predict(picture=picture, page_size=2, api_name="/search")
    assert found["hits"][0]["image"]["file_name"] == "magenta.png"
    assert client.predict(picture=picture, api_name="/register")["is_new"] is False
    assert client.predict(api_name="/status")["image_count"] == 10


@pytest.mark.parametrize(
    ("endpoint", "given", "said"),
    [
        ("/image", {"image_id": 999}, "There is no image 999"),
        ("/similar", {"image_id": 999}, "There is no image 999"),
        ("/search", {"page": 0}, "page"),
        ("/search", {"filters": {"shape": "round"}}, "shape"),
        ("/search", {"filters": [1]}, "filters is no object"),
        ("/search", {"filters": "x"}, "filters is no object"),
        ("/search", {"filters": {"text": "dog"}}, "filters has text, which is a parameter of its own"),
        ("/search", {"text": None}, "text: Input should be a valid string"),
        ("/search", {"picture": "x"}, "picture is no file"),
        ("/search", {"picture": ["a"]}, "picture is no file"),
        ("/register", {"picture": {"path": "/etc/passwd"}}, "was not uploaded"),
        ("/register", {"picture": "x"}, "picture is no file"),
        ("/register", {"picture": None}, "picture is no file"),
        ("/register", {"picture": ["a"]}, "picture is no file"),
        *((path, {"image_id": "abc"}, "image_id: Input should be a valid integer") for path in ("/image", "/tags")),
        ("/image", {"image_id": 1.5}, "image_id: Input should be a valid integer"),
        ("/image", {"image_id": None}, "image_id: Input should be a valid integer"),
        ("/image", {"image_id": 0}, "image_id: Input should be greater than or equal to 1"),
        ("/similar", {"image_id": "abc"}, "image_id: Input should be a valid integer"),
    ],
)
def test_error_reaches_the_program_as_its_sentence(
    client: Client, endpoint: str, given: dict[str, Any], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AppError, match=said):
        client.predict(**given, api_name=endpoint)
    assert "Traceback" not in capfd.readouterr().err


def test_image_id_as_text_is_read_as_rest_reads_it(client: Client) -> None:
    assert client.predict(image_id="1", api_name="/image")["image_id"] == 1


def test_address_of_the_api_itself_is_answered_as_those_below_it(address: str) -> None:
    for path in ("/api", "/api/"):
        answer = httpx.get(f"{address}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


# --- tools ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("search_images", {"text": "red", "query": "blue"}, "search_images takes no query. It takes: text, exclude,"),
        ("get_library_status", {"verbose": True}, "get_library_status takes no verbose. It takes: nothing."),
        ("search_images", {"limit": 0}, "limit: Input should be greater than or equal to 1"),
        ("get_image", {}, "image_id: Field required"),
        ("get_image", {"image_id": "first"}, "image_id: Input should be a valid integer"),
    ],
)
def test_call_that_does_not_fit_is_refused_in_one_sentence(
    address: str, name: str, arguments: dict[str, Any], said: str
) -> None:
    result = call(address, name, **arguments)
    assert result.is_error and isinstance(result.content[0], TextContent)
    text = result.content[0].text
    assert said in text and "\n" not in text and "pydantic" not in text


def list_tools(address: str) -> list[Tool]:
    async def run() -> list[Tool]:
        async with ToolClient(f"{address}/mcp") as tools:
            return (await tools.list_tools()).tools

    return asyncio.run(run())


def list_descriptions(described: Any) -> Iterator[str]:
    """Every description and summary in JSON that a program reads."""
    values = described.values() if isinstance(described, dict) else described if isinstance(described, list) else ()
    for value in values:
        yield from list_descriptions(value)
    if isinstance(described, dict):
        yield from (text for name in ("description", "summary") if isinstance(text := described.get(name), str))


def test_apis_call_an_image_an_image(address: str) -> None:
    described = [
        httpx.get(f"{address}/api/openapi.json").json(),
        *(tool.model_dump(mode="json") for tool in list_tools(address)),
    ]
    texts = [*list_descriptions(described), _INSTRUCTIONS]
    assert len(texts) > 100
    assert not [text for text in texts if re.search(r"\bpictures?\b", text, re.IGNORECASE)]


def test_every_tool_and_every_parameter_is_described_and_none_deletes(address: str) -> None:
    tools = {tool.name: tool for tool in list_tools(address)}
    assert set(tools) == {
        "search_images", "find_similar_images", "get_image", "tag_image", "register_image", "get_library_status",
    }  # fmt: skip
    for condition in ("camera:", "rating:4", "2019-08"):
        assert condition in tools["search_images"].input_schema["properties"]["text"]["description"]
    for name, tool in tools.items():
        assert tool.description and len(tool.description) > 40
        assert all(field["description"] for field in tool.input_schema["properties"].values())
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint == (name != "register_image")


def test_search_gives_ids_names_and_small_previews(address: str) -> None:
    result = call(address, "search_images", text="red", limit=3)
    facts = read_facts(result)
    assert facts["hits"][0]["file_name"] == "red.png"
    assert (facts["total"], len(facts["hits"])) == (10, 3)
    previews = [item for item in result.content if isinstance(item, ImageContent)]
    assert len(previews) == 3
    picture = Image.open(io.BytesIO(base64.b64decode(previews[0].data)))
    assert (picture.format, max(picture.size) <= 256) == ("JPEG", True)
    assert len(call(address, "search_images", text="red", limit=3, previews=False).content) == 1


def test_words_in_an_image_are_found_and_told(address: str) -> None:
    [first, *others] = read_facts(call(address, "search_images", text="捨て禁止", limit=3))["hits"]
    assert (first["image_id"], first["recognized_text"], first["found_in_text"]) == (2, "ポイ捨て禁止", True)
    assert not any("found_in_text" in other for other in others)
    with httpx.Client(base_url=address) as client:
        hit = client.post("/api/search", json={"text": "捨て禁止", "has_text": True}).json()["hits"][0]
    assert (hit["found_in_text"], hit["image"]["recognized_text"]) == (True, "ポイ捨て禁止")


def test_image_is_searched_with_described_tagged_and_added(address: str) -> None:
    data = draw_image_bytes("blue")
    [nearest, *_] = read_facts(call(address, "search_images", picture=encode(data), previews=False))["hits"]
    assert nearest["file_name"] == "blue.png"
    image_id = nearest["image_id"]
    assert read_facts(call(address, "get_image", image_id=image_id))["width"] == 64
    assert read_facts(call(address, "tag_image", image_id=image_id))["tags"]
    similar = read_facts(call(address, "find_similar_images", image_id=image_id, previews=False))["hits"]
    assert image_id not in [hit["image_id"] for hit in similar]
    added = read_facts(call(address, "register_image", picture=encode(data), file_name="../b.png"))
    assert (added["is_new"], added["image"]["file_name"]) == (False, "blue.png")
    assert read_facts(call(address, "get_library_status"))["image_count"] == 10


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("get_image", {"image_id": 999}, "There is no image 999"),
        ("search_images", {"picture": "http://localhost/a.png"}, "Base64"),
        ("register_image", {"picture": encode(b"no picture"), "file_name": "/home/me/a.png"}, "a.png is not a picture"),
        ("search_images", {"limit": 1000}, "limit"),
        ("search_images", {"text": "x" * 3000}, "2000"),
    ],
)
def test_error_reaches_the_model_as_its_sentence(address: str, tool: str, arguments: dict[str, Any], said: str) -> None:
    result = call(address, tool, **arguments)
    assert result.is_error
    assert isinstance(result.content[0], TextContent)
    assert said in result.content[0].text
    assert "/home/me" not in result.content[0].text


def test_long_texts_of_hits_are_cut_for_a_model(address: str) -> None:
    file = io.BytesIO()
    facts = PngInfo()
    facts.add_text("parameters", "a very long prompt " * 1000 + "\nSteps: 20, Sampler: Euler, Seed: 1, Size: 8x8")
    Image.new("RGB", (8, 8), (1, 2, 3)).save(file, "PNG", pnginfo=facts)
    sent = call(address, "register_image", picture=encode(file.getvalue()), file_name="long.png")
    image_id = read_facts(sent)["image"]["image_id"]
    found = call(address, "search_images", text='"very long prompt"', previews=False)
    [hit] = read_facts(found)["hits"]
    assert hit["image_id"] == image_id and len(hit["prompt"]) == 301
    whole = read_facts(call(address, "get_image", image_id=image_id, previews=False))
    assert len(whole["text"]["prompt"]) > 10_000
    found = call(address, "search_images", text="long " * 100, previews=False)
    assert "longer than the model takes" in read_facts(found)["note"]
