"""The library as its server looks after it: the models one may choose, the one chosen, and the disk space it takes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from image_search.encoders.base import Encoder
from image_search.encoders.checkpoint import KNOWN_MODELS, KnownModel, canonical_name, find_folder
from image_search.errors import ModelUnavailable, StoreError
from image_search.originals import FolderOriginals
from image_search.registration import Registrar, RegistrationReport
from image_search.registration.jobs import JobControl, Work
from image_search.registration.pipeline import ImageReader
from image_search.settings import BUNDLED, DEFAULT_MODEL, ROOT, Settings
from image_search.stores.base import ImageStore

_SETTING = "model"  # of the library: the name chosen on the page
DOWNLOAD, LOADING, EMBEDDING = "download", "loading", "embedding"  # phases of the job


@dataclass(frozen=True)
class ModelChoice:
    """A model that may be used. known: None for one that is in no list. count: images embedded with it.

    obstacle: why a click cannot choose it: "code" (its own Python code would run), "licence" (to be accepted first).
    """

    name: str
    known: KnownModel | None
    count: int = 0
    obstacle: str = ""


def choose_model(settings: Settings, store: ImageStore) -> Settings:
    """The settings with the model chosen on the page; EMBEDDING_MODEL, when set, wins. Raises StoreError."""
    chosen = None if settings.embedding_model else store.list_settings(_SETTING).get(_SETTING)
    return replace(settings, embedding_model=chosen, embedding_model_revision="") if chosen else settings


def choose_model_if_reachable(settings: Settings, store: ImageStore) -> Settings:
    """As choose_model; while the store is away, the model of the settings (the server looks again when it is back)."""
    with suppress(StoreError):
        return choose_model(settings, store)
    return settings


def keep_choice(store: ImageStore, name: str) -> None:
    """Use this model from the next start on, where EMBEDDING_MODEL is not set. Raises StoreError."""
    folder = find_folder(name)
    is_elsewhere = folder is not None and not folder.is_relative_to(BUNDLED)
    store.set_setting(_SETTING, str(folder) if is_elsewhere else canonical_name(name))


def list_choices(store: ImageStore, settings: Settings, in_use: str) -> list[ModelChoice]:
    """The model in use, the library's others, then the bundled and the known ones. Raises StoreError."""
    counts = {model.name: count for model, count in store.get_status().models}
    names = dict.fromkeys([in_use, *counts, DEFAULT_MODEL, *KNOWN_MODELS])
    return [
        ModelChoice(name, known := KNOWN_MODELS.get(name), counts.get(name, 0), _find_obstacle(known, settings))
        for name in names
    ]


def check_choice(name: str, choices: Iterable[ModelChoice], settings: Settings) -> None:
    """Raises ModelUnavailable, with a code, for a model that a click may not choose."""
    if settings.embedding_model:
        raise ModelUnavailable(
            f"EMBEDDING_MODEL is set to {settings.embedding_model} and decides. Remove it from .env to choose here.",
            "set",
        )
    choice = next((choice for choice in choices if choice.name == name), None)
    if choice is None:
        raise ModelUnavailable(f"{name} is not in the list of models. Name it in EMBEDDING_MODEL.", "not_found")
    if choice.obstacle == "code":
        raise ModelUnavailable(f"{name} brings Python code of its own. Name it in EMBEDDING_MODEL.", "remote_code")
    if choice.obstacle:
        raise ModelUnavailable(f"The licence of {name} has to be accepted first; then set HF_TOKEN.", "gated")


def _find_obstacle(known: KnownModel | None, settings: Settings) -> str:
    if known is None:
        return ""
    return "code" if known.remote_code else "licence" if known.gated and not settings.hf_token else ""


def make_model_change(
    store: ImageStore, settings: Settings, reader: ImageReader, use: Callable[[Encoder], None]
) -> Work:
    """The work of a job that downloads a model, embeds the library beside the old one, and then searches with it.

    use: makes searches use an encoder from now on. Code of a model's repository is never run.
    """

    def change(name: str, control: JobControl) -> None:
        from image_search.encoders import open_encoder

        if find_folder(name) is None:
            _download(name, settings, control)
        if control.stop.is_set():
            return
        control.report(0, 0, phase=LOADING)
        encoder = open_encoder(
            replace(settings, embedding_model=name, embedding_model_revision="", trust_remote_code=False)
        )
        encoder.load()
        size, stop = encoder.batch_size, control.stop
        tell = _report_to(control)
        before = Registrar(store, encoder, batch_size=size, reader=reader, on_progress=tell, stop=stop)
        before.embed_missing()
        if control.stop.is_set():
            return
        store.set_current_model(before.model.model_id)
        keep_choice(store, name)
        use(encoder)
        # Images that came in meanwhile were embedded with the former model.
        Registrar(store, encoder, batch_size=size, reader=reader, stop=stop).embed_missing()

    return change


def _download(name: str, settings: Settings, control: JobControl) -> None:
    from image_search.encoders.checkpoint import DownloadStopped, fetch_folder

    def report(done: int, total: int) -> bool:
        control.report(done, total, phase=DOWNLOAD)
        return not control.stop.is_set()

    known = KNOWN_MODELS.get(name)
    with suppress(DownloadStopped):
        fetch_folder(name, known.revision if known else "", settings.hf_token, report)


def _report_to(control: JobControl) -> Callable[[RegistrationReport], None]:
    def report(found: RegistrationReport) -> None:
        control.report(found.done, found.total, {"embedded": found.embedded}, found.failures, EMBEDDING)

    return report


def measure_disk(store: ImageStore, settings: Settings) -> dict[str, int]:
    """Bytes of "database" and "originals" where they are files here, of downloaded "models", and what is "free"."""
    parts: dict[str, int] = {}
    if settings.database_url.startswith("sqlite:"):
        database = Path(store.get_status().location)
        parts["database"] = sum(_measure(path) for path in database.parent.glob(f"{database.name}*") if path.is_file())
    if isinstance(store.originals, FolderOriginals):
        parts["originals"] = _measure(store.originals.folder)
    parts["models"] = _measure(_find_model_cache())
    with suppress(OSError):
        parts["free"] = shutil.disk_usage(ROOT).free
    return parts


def _find_model_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _measure(place: Path) -> int:
    """Bytes of a file, or of all files below a folder; links are not followed."""
    with suppress(OSError):
        if not place.is_dir():
            return place.stat().st_size
    return sum(_list_sizes(str(place)))


def _list_sizes(folder: str) -> Iterator[int]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    yield from _list_sizes(entry.path)
                elif not entry.is_symlink():
                    yield entry.stat(follow_symlinks=False).st_size
