"""The named endpoints of Gradio's own API: what gradio_client shows with view_api() and calls with predict()."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
from gradio.utils import get_upload_folder
from pydantic import BaseModel, ValidationError

from image_search.api import LibraryService, Upload
from image_search.api.errors import describe_faults
from image_search.api.schemas import ImageId, SearchRequest
from image_search.errors import ImageSearchError, UnreadableImage
from image_search.images import read_file
from image_search.registration.uploads import clean_name

T = TypeVar("T")
_CONCURRENCY = 32  # they wait for the concurrency limiters on the event loop, not in threads


def add_endpoints(library: LibraryService) -> None:
    """Add them to the Blocks whose context this is called in."""

    async def search(
        text: str = "",
        picture: dict[str, Any] | None = None,
        exclude: str = "",
        min_relevance: float = 0,
        page: int = 1,
        page_size: int = 16,
        filters: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Search by words, an image (gradio_client.handle_file) or both; without either it returns the newest images.

        filters: any other field of the REST search, for example {"orientation": "landscape"}.
        """
        given = {"text": text, "exclude": exclude, "min_relevance": min_relevance, "page": page, "page_size": page_size}
        return await _translate_errors(_search(library, given, picture, filters))

    async def similar(image_id: int, page: int = 1, page_size: int = 16) -> dict[str, Any]:
        """Images similar to one of the library, nearest first."""

        async def find() -> dict[str, Any]:
            given = {"like": _check_id(image_id), "page": page, "page_size": page_size}
            return await _search(library, given)

        return await _translate_errors(find())

    async def image(image_id: int) -> dict[str, Any]:
        """One image: its file, its texts and the addresses of its preview and its original."""

        async def describe() -> dict[str, Any]:
            return _dump(await library.describe(_check_id(image_id)))

        return await _translate_errors(describe())

    async def tags(image_id: int) -> list[dict[str, Any]]:
        """The likeliest words for an image, in Japanese and in English."""

        async def find() -> list[dict[str, Any]]:
            return [_dump(tag) for tag in await library.find_tags(_check_id(image_id))]

        return await _translate_errors(find())

    async def register(picture: dict[str, Any]) -> dict[str, Any]:
        """Register an image (gradio_client.handle_file); it can be found immediately."""

        async def add() -> dict[str, Any]:
            return _dump(await library.register(_open_upload(picture)))

        return await _translate_errors(add())

    async def status() -> dict[str, Any]:
        """Database, counts and models."""
        return _dump(await _translate_errors(library.read_status()))

    for endpoint in (search, similar, image, tags, register, status):
        gr.api(endpoint, api_name=endpoint.__name__, concurrency_limit=_CONCURRENCY, concurrency_id="api")


class _ImageRequest(BaseModel):
    image_id: ImageId


def _check_id(image_id: object) -> int:
    return _ImageRequest.model_validate({"image_id": image_id}).image_id


async def _search(
    library: LibraryService, given: dict[str, Any], file: object = None, filters: object = None
) -> dict[str, Any]:
    if not isinstance(filters, dict | None):
        raise _refuse('filters is no object. Send names and values, such as {"orientation": "landscape"}.')
    if twice := ", ".join(name for name in given if name in (filters or {})):
        raise _refuse(f"filters has {twice}, which is a parameter of its own. Send it as that one.")
    asked = SearchRequest.model_validate({**(filters or {}), **given})
    return _dump(await library.search(asked, None if file is None else _open_upload(file)))


def _open_upload(file: object) -> Upload:
    """An uploaded image. The path comes from the caller: one that is not in the folder of uploads is refused."""
    if not isinstance(file, dict):
        raise _refuse("picture is no file. Send one with gradio_client.handle_file.")
    path = Path(str(file.get("path", "")))
    name = clean_name(str(file.get("orig_name") or path.name))
    if "\0" in str(path) or not path.resolve().is_relative_to(Path(get_upload_folder()).resolve()):
        raise UnreadableImage(f"{name} was not uploaded. Send the file itself, with gradio_client.handle_file.")

    def read() -> bytes:
        try:
            return read_file(path)
        except UnreadableImage as error:
            # The location of uploads on this computer is private.
            raise UnreadableImage(str(error).replace(str(path), name)) from error

    return Upload(name, read)


def _refuse(sentence: str) -> gr.Error:
    return gr.Error(sentence, print_exception=False)


async def _translate_errors(work: Awaitable[T]) -> T:
    """Convert errors to gr.Error, the only ones whose message Gradio sends to programs."""
    try:
        return await work
    except ValidationError as error:
        raise _refuse(describe_faults(error.errors())) from error
    except ImageSearchError as error:
        raise _refuse(str(error)) from error


def _dump(facts: BaseModel) -> dict[str, Any]:
    return facts.model_dump(mode="json")
