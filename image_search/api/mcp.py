"""The same library as tools of the Model Context Protocol, for language models. Nothing here deletes."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Annotated, Any, TypeVar

import anyio.to_thread
from mcp.server import MCPServer
from mcp.server.mcpserver import Image as Preview
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import ToolAnnotations
from PIL import Image
from pydantic import Field, ValidationError
from starlette.applications import Starlette

from image_search.api import LibraryService, Upload
from image_search.api.errors import describe_faults
from image_search.api.schemas import CONDITIONS, ImageId, ImageOut, SearchAnswer, SearchRequest
from image_search.errors import ImageSearchError, UnreadableImage
from image_search.registration.uploads import clean_name

T = TypeVar("T")
MAX_MESSAGE = 32 * 2**20  # bytes; images come as Base64 in JSON, held in memory
_PREVIEW_SIDE = 256
_MAX_HITS = 20
_MAX_TEXT, _MAX_KEYWORDS = 300, 20  # characters and keywords of one hit in a list

_INSTRUCTIONS = (
    "A library of images. search_images finds by what an image shows, in Japanese or English, and by words of its "
    "prompt, caption, keywords and file name, and words that stand in it. Results carry an image_id, which the other "
    "tools take."
)
_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)

Limit = Annotated[int, Field(ge=1, le=_MAX_HITS, description="How many images at most")]
Previews = Annotated[bool, Field(description="Whether small previews come with the result")]
ResultId = Annotated[ImageId, Field(description="image_id of a result")]
Base64 = Annotated[str, Field(description="The image file (JPEG, PNG, WebP ...) as Base64")]


def build_tools(library: LibraryService) -> Starlette:
    """An application that answers the Model Context Protocol over HTTP at /mcp. Its lifespan must run."""
    server = _Server("image-search", title="類似画像検索", instructions=_INSTRUCTIONS, log_level="ERROR")

    async def search_images(
        text: Annotated[
            str, Field(description=f'Words; "quoted" ones must occur; -this moves away from it. {CONDITIONS}')
        ] = "",
        exclude: Annotated[str, Field(description="Words for what must not be seen")] = "",
        picture: Base64 = "",
        min_relevance: Annotated[float, Field(ge=0, le=1, description="0.5 leaves out what is hardly relevant")] = 0,
        limit: Limit = 8,
        page: Annotated[int, Field(ge=1, description="2 for the next images, and so on")] = 1,
        after: Annotated[str, Field(description="In a list of the newest: next of the answer before, not page")] = "",
        previews: Previews = True,
    ) -> list[Any]:
        """Find images by what they show, described in words, by an example image, or by both together.

        Without words and image the newest images come. Every result has an image_id, a file name, a distance
        (smaller is nearer), and a relevance from 0 to 1 where it is known. A film is one result, with the time of its
        best moment. Small previews follow in the same order.
        """
        sent = _decode(picture, "picture") if picture else None
        asked = {"text": text, "exclude": exclude, "min_relevance": min_relevance, "page": page, "page_size": limit}
        asked |= {"after": after} if after else {}
        return await _search(library, asked, sent, previews)

    async def find_similar_images(image_id: ResultId, limit: Limit = 8, previews: Previews = True) -> list[Any]:
        """Find images of the library that look like one of them. The image itself is left out."""
        return await _search(library, {"like": image_id, "page_size": limit}, None, previews)

    async def get_image(image_id: ResultId, previews: Previews = True) -> list[Any]:
        """Tell everything known of one image (size, prompt, caption, camera, keywords), with a small preview."""
        facts = await library.describe(image_id)
        return [facts.model_dump(mode="json"), *(await _fetch_previews(library, [facts]) if previews else [])]

    async def tag_image(image_id: ResultId) -> dict[str, Any]:
        """Name what one image shows: the likeliest words in Japanese and English, each with its probability."""
        return {"tags": [tag.model_dump() for tag in await library.find_tags(image_id)]}

    async def register_image(
        picture: Base64, file_name: Annotated[str, Field(description="What it is called")]
    ) -> dict[str, Any]:
        """Add an image to the library, where it can be found at once. The same file twice is one image."""
        return (await library.register(_decode(picture, file_name))).model_dump(mode="json")

    async def get_library_status() -> dict[str, Any]:
        """Tell how many images there are, in which database, and which model compares them."""
        return (await library.read_status()).model_dump(mode="json")

    for tool in (search_images, find_similar_images, get_image, tag_image, get_library_status):
        server.add_tool(_translate_errors(tool), annotations=_READS, structured_output=False)
    server.add_tool(_translate_errors(register_image), annotations=_ADDS, structured_output=False)
    return server.streamable_http_app(
        json_response=True,
        stateless_http=True,
        max_request_body_size=MAX_MESSAGE,
        # Host and Origin are checked in front of the whole application.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )


async def _search(library: LibraryService, asked: dict[str, Any], upload: Upload | None, previews: bool) -> list[Any]:
    answer = await library.search(SearchRequest.model_validate(asked), upload)
    images = [hit.image for hit in answer.hits]
    return [_summarise(answer), *(await _fetch_previews(library, images) if previews else [])]


def _summarise(answer: SearchAnswer) -> dict[str, Any]:
    hits = [
        {
            "image_id": hit.image.image_id,
            "file_name": hit.image.file_name,
            "time": hit.image.frame.position if hit.image.frame else None,
            "other_moments": hit.moments or None,
            "distance": hit.distance,
            "relevance": hit.relevance,
            "prompt": _cut(hit.image.text.get("prompt") or hit.image.text.get("generation_prompt")),
            "description": _cut(hit.image.description),
            "recognized_text": _cut(hit.image.recognized_text) or None,
            "found_in_text": hit.found_in_text or None,
            "keywords": hit.image.keywords[:_MAX_KEYWORDS] or None,
            "rating": hit.image.rating,
        }
        for hit in answer.hits
    ]
    kept = [{name: value for name, value in hit.items() if value is not None} for hit in hits]
    found = {"hits": kept, "total": answer.total, "has_more": answer.has_more, "has_match": answer.has_match}
    if answer.next:
        found["next"] = answer.next
    cut = ["The text was longer than the model takes; only its beginning counts."] if answer.is_text_cut else []
    if notes := [*answer.notes, *cut]:
        found["note"] = " ".join(notes)
    return found


def _cut(text: str | None) -> str | None:
    """The beginning of a long text; get_image tells the whole of it."""
    return text if text is None or len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"


async def _fetch_previews(library: LibraryService, images: list[ImageOut]) -> list[Preview]:
    stored = [await library.read_preview(image.image_id) for image in images]
    return await anyio.to_thread.run_sync(lambda: [_shrink(data) for data in stored])


def _shrink(data: bytes) -> Preview:
    with Image.open(io.BytesIO(data), formats=["WEBP"]) as preview:
        preview.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
        target = io.BytesIO()
        preview.convert("RGB").save(target, "JPEG", quality=80)
    return Preview(data=target.getvalue(), format="jpeg")


def _decode(text: str, name: str) -> Upload:
    try:
        data = base64.b64decode(text.partition("base64,")[2] or text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnreadableImage("The image is not Base64. Send the bytes of the file as Base64.") from error
    return Upload(clean_name(name), lambda: data)


class _Server(MCPServer):
    """Refuses arguments that no tool has, and says in a sentence which argument does not fit."""

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
        for tool in await self.list_tools():
            known = tool.input_schema.get("properties", {})
            if tool.name == name and (unknown := sorted(arguments.keys() - known.keys())):
                listed = ", ".join(known) or "nothing"
                raise ToolError(f"{name} takes no {', '.join(unknown)[:200]}. It takes: {listed}.")
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if isinstance(error.__cause__, ValidationError):
                raise ToolError(describe_faults(error.__cause__.errors())) from error
            raise


def _translate_errors(tool: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    """The sentence of an error of this program goes to the model; of others nothing does."""

    @wraps(tool)
    async def answer(*arguments: Any, **named: Any) -> T:
        try:
            return await tool(*arguments, **named)
        except ValidationError as error:
            raise ToolError(describe_faults(error.errors())) from error
        except ImageSearchError as error:
            raise ToolError(str(error)) from error

    return answer
