"""The library in a running server: the choice of its model, jobs, and background work."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from PIL import Image

from image_search.encoders.base import Encoder
from image_search.encoders.checkpoint import KNOWN_MODELS, KnownModel, canonical_name, find_folder
from image_search.errors import ImageSearchError, ModelUnavailable, StoreError
from image_search.images import make_printable
from image_search.records import EmbeddingModel
from image_search.registration import Registrar, RegistrationReport
from image_search.registration.folders import make_scan
from image_search.registration.jobs import JobControl, JobQueue, Work
from image_search.registration.pipeline import ImageReader, make_reader
from image_search.registration.rereading import make_text_jobs
from image_search.registration.trash import empty_old_trash
from image_search.registration.uploads import UploadInbox, make_upload_work
from image_search.search import Searcher
from image_search.search.duplicates import find_duplicates, save_groups
from image_search.settings import BUNDLED, DEFAULT_DATABASE_URL, DEFAULT_MODEL, ROOT, Settings
from image_search.stores.base import CHOSEN_MODEL, ImageStore
from image_search.stores.text import decode_path, encode_path

_LOG = logging.getLogger(__name__)
_FOLDER = "model_folder/"  # settings of the library, with a hash of a model's name: its folder outside of the project
DOWNLOAD, LOADING, EMBEDDING = "download", "loading", "embedding"  # phases of the job


@dataclass(frozen=True)
class ModelChoice:
    """A model that may be used. known: None for one that is in no list. count: images embedded with it.

    obstacle: why a click cannot choose it: "code" (its own Python code would run), "licence" (to be accepted first),
    "folder" (which is not there any more).
    """

    name: str
    known: KnownModel | None
    count: int = 0
    obstacle: str = ""


def choose_model(settings: Settings, store: ImageStore) -> Settings:
    """The settings with the model chosen on the page; EMBEDDING_MODEL, when set, wins. Raises StoreError."""
    chosen = None if settings.embedding_model else store.list_settings(CHOSEN_MODEL).get(CHOSEN_MODEL)
    return replace(settings, embedding_model=chosen, embedding_model_revision="") if chosen else settings


def choose_model_if_reachable(settings: Settings, store: ImageStore) -> Settings:
    """Like choose_model; while the store is away, the model of the settings (the server looks again later)."""
    with suppress(StoreError):
        return choose_model(settings, store)
    return settings


def keep_choice(store: ImageStore, name: str) -> None:
    """Use this model from the next start on, where EMBEDDING_MODEL is not set. Raises StoreError."""
    folder = remember_folder(store, name)
    store.set_setting(CHOSEN_MODEL, str(folder) if folder else canonical_name(name))


def switch_model(store: ImageStore, model: EmbeddingModel, name: str) -> None:
    """Make this model, which EMBEDDING_MODEL opens by this name, the current one. Raises StoreError."""
    store.set_current_model(model.model_id)
    keep_choice(store, name)


def replace_empty_model(store: ImageStore, model: EmbeddingModel, name: str) -> bool:
    """Switch to this model if it has embeddings and the current one has none, as one that cannot be loaded.

    Returns whether it was switched. Raises StoreError.
    """
    counts = store.get_status().models
    if any(count for other, count in counts if other.is_current) or not any(
        count for other, count in counts if other.model_id == model.model_id
    ):
        return False
    switch_model(store, model, name)
    return True


# A model in a folder outside of the project has the folder's own name, by which nothing finds it.


def remember_folder(store: ImageStore, name: str) -> Path | None:
    """Keep with the library where a model's folder is, and return it; None for one of the project and a hub id.

    name: as in EMBEDDING_MODEL. Raises StoreError.
    """
    folder = find_folder(name)
    is_elsewhere = folder is not None and not folder.is_relative_to(BUNDLED)
    setting, value = _name_folder_setting(canonical_name(name)), encode_path(str(folder)) if is_elsewhere else None
    if store.list_settings(setting).get(setting) != value:
        store.set_setting(setting, value)
    return folder if is_elsewhere else None


def find_location(store: ImageStore, name: str) -> str:
    """The EMBEDDING_MODEL that opens a model of the library: its folder, or its name.

    Raises ModelUnavailable with the code no_folder when its folder is not there any more, and StoreError.
    """
    kept = find_kept_folder(store, name)
    place = kept or name
    if find_folder(place) is None and (kept or "/" not in name):  # ids of the hub name an owner, too
        raise ModelUnavailable(
            f"The folder of the model {name} is not there any more{f' ({make_printable(place)})' if kept else ''}. "
            "Bring it back, or name the model in EMBEDDING_MODEL.",
            "no_folder",
        )
    return place


def find_kept_folder(store: ImageStore, name: str) -> str:
    """The folder outside of the project where a model of the library was, or "". Raises StoreError."""
    setting = _name_folder_setting(name)
    return decode_path(store.list_settings(setting).get(setting, ""))


def _name_folder_setting(name: str) -> str:
    return _FOLDER + hashlib.sha256(os.fsencode(name)).hexdigest()


def list_choices(store: ImageStore, settings: Settings, in_use: str) -> list[ModelChoice]:
    """The model in use, the library's others, then the bundled and the known ones. Raises StoreError."""
    counts = {model.name: count for model, count in store.get_status().models}
    names = dict.fromkeys([in_use, *counts, DEFAULT_MODEL, *KNOWN_MODELS])
    return [
        ModelChoice(name, KNOWN_MODELS.get(name), counts.get(name, 0), _find_obstacle(store, name, settings))
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
    if choice.obstacle == "folder":
        raise ModelUnavailable(f"The folder of the model {name} is not there any more. Bring it back.", "no_folder")
    if choice.obstacle:
        raise ModelUnavailable(f"The licence of {name} has to be accepted first; then set HF_TOKEN.", "gated")


def _find_obstacle(store: ImageStore, name: str, settings: Settings) -> str:
    known = KNOWN_MODELS.get(name)
    if known is None:
        try:
            find_location(store, name)
        except ModelUnavailable:
            return "folder"
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

        place = find_location(store, name)
        if find_folder(place) is None:
            _download(name, settings, control)
        if control.stop.is_set():
            return
        control.report(0, 0, phase=LOADING)
        encoder = open_encoder(
            replace(settings, embedding_model=place, embedding_model_revision="", trust_remote_code=False)
        )
        encoder.load()
        size, stop = encoder.batch_size, control.stop
        tell = _report_to(control)
        before = Registrar(store, encoder, batch_size=size, reader=reader, on_progress=tell, stop=stop)
        before.embed_missing()
        if control.stop.is_set():
            return
        switch_model(store, before.model, place)
        use(encoder)
        # Images that came in meanwhile were embedded with the former model.
        Registrar(store, encoder, batch_size=size, reader=reader, stop=stop).embed_missing()

    return change


def _download(name: str, settings: Settings, control: JobControl) -> None:
    from image_search.encoders.hub import DownloadStopped, fetch_folder

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


# Jobs and uploads.


def make_jobs(searcher: Searcher, settings: Settings, inbox: UploadInbox | None = None) -> JobQueue:
    """The jobs of the library of the settings; they begin with start, or with the first that is added."""

    def use(encoder: Encoder) -> None:
        searcher.use(encoder)
        with suppress(ImageSearchError):  # an image-only model has no tags
            searcher.tagger.prepare()

    def find_model() -> tuple[Encoder, Callable[[], int]]:
        model = searcher.model
        return model.encoder, lambda: model.get_row().model_id

    reader = make_reader(settings)
    works = {
        "scan": make_scan(searcher.store, lambda: searcher.encoder, reader),
        "model": make_model_change(searcher.store, settings, reader, use),
        "duplicates": make_duplicate_search(searcher),
        **make_text_jobs(searcher.store, settings.max_image_pixels),
        "upload": make_upload_work(inbox or make_inbox(settings), searcher.store, find_model, reader),
    }
    return JobQueue(ROOT / "data" / "jobs.db", _name_library(settings), works, ["upload"], ["read_text", "forget_text"])


def make_inbox(settings: Settings) -> UploadInbox:
    """The files that visitors send to the library of the settings."""
    return UploadInbox(ROOT / "data" / "uploads" / _name_library(settings))


def _name_library(settings: Settings) -> str:
    url = settings.database_url
    scheme, is_file, name = url.partition(":///")
    if is_file and scheme in ("sqlite", "milvus") and url != DEFAULT_DATABASE_URL:  # the default lies below ROOT
        url = f"{scheme}:///{os.path.realpath(os.path.expanduser(name))}"  # elsewhere mine.db is another file
    place = (settings.db_dsn, settings.db_user) if settings.uses_oracle else (url,)
    return hashlib.sha256(json.dumps([str(ROOT), *place]).encode()).hexdigest()[:32]  # an address may be a secret


def make_duplicate_search(searcher: Searcher) -> Work:
    """The work of a job that compares all images and keeps the groups with the library."""

    def search(_: str, control: JobControl) -> None:
        for found in find_duplicates(searcher):
            control.report(found.done, found.count, {"groups": len(found.groups)} if found.groups else {})
            if control.stop.is_set():
                return
            if found.is_over:
                save_groups(searcher.store, found.groups)

    return search


# Background work: load a model, swap it while the old one answers, and empty the trash.

ReportProgress = Callable[[int, int], None]  # done, count


@dataclass(frozen=True)
class Progress:
    """Progress of the preparation. error: the message of a failed phase."""

    phase: Literal["loading", "registering", "ready", "model_failed", "registration_failed"] = "loading"
    done: int = 0
    count: int = 0
    error: str = ""

    @property
    def is_over(self) -> bool:
        return self.phase not in ("loading", "registering")


class Warmup:
    """Prepares in a background thread, so that the page is served before the model is loaded."""

    def __init__(
        self, searcher: Searcher, complete: Callable[[ReportProgress, threading.Event], None] | None = None
    ) -> None:
        """complete: registers or embeds missing images until the event is set; None skips that."""
        self.progress = Progress()
        self._searcher = searcher
        self._complete = complete
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._prepare, name="preparation", daemon=True)

    @property
    def fills_library(self) -> bool:
        """Whether images are being registered."""
        return self._complete is not None and not self.progress.is_over

    def start(self) -> None:
        self._thread.start()

    def wait(self, timeout: float | None = None) -> None:
        """Return when it has finished, or after that many seconds."""
        self._thread.join(timeout)

    def stop(self, timeout: float = 1.0) -> None:
        """End after the current batch, or return after that many seconds: a batch is written whole or not at all."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _prepare(self) -> None:
        phase: Literal["model_failed", "registration_failed"] = "model_failed"
        try:
            # Any image loads the model, so that the first search does not wait for it.
            self._searcher.encoder.encode_images([Image.new("RGB", (64, 64))])
            phase = "registration_failed"
            if self._complete:
                self._complete(self._report, self._stop)
            self.progress = replace(self.progress, phase="ready")
            with suppress(ImageSearchError):  # an image-only model has no tags
                self._searcher.tagger.prepare()
        except Exception as error:
            if self._stop.is_set():
                return  # the store was closed while a batch took long
            if not isinstance(error, ImageSearchError):
                raise
            _LOG.warning("%s", error)  # the page says it in the visitor's language, which may be shorter
            self.progress = Progress(phase, error=str(error))

    def _report(self, done: int, count: int) -> None:
        self.progress = Progress("registering", done, count)


SECONDS_BETWEEN_LOOKS = 5.0


class ModelWatcher:
    """Polls the library's current model. The first poll reports no change: EMBEDDING_MODEL decides at the start."""

    def __init__(
        self,
        searcher: Searcher,
        open_model: Callable[[str], Encoder],
        say: Callable[[str], None],
        find_wanted: Callable[[], str] | None = None,
    ) -> None:
        """open_model: the encoder of that name. say: called with every switch, and why one failed.

        find_wanted: name of the model to begin with, asked at the first look: the store may be away at the start.
        """
        self._searcher = searcher
        self._open_model = open_model
        self._say = say
        self._find_wanted = find_wanted
        self._stop = threading.Event()
        self._has_looked = False
        self._current: int | None = None

    def start(self) -> None:
        """Look every few seconds, in a thread of its own that ends with the program or with stop."""
        threading.Thread(target=self._look_until_stopped, name="follow model", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def look(self) -> None:
        """Search with the current model from now on if it was switched since the last look. May raise StoreError."""
        current = self._searcher.store.find_current_model()
        former, self._current = self._current, current.model_id if current else None
        is_first, self._has_looked = not self._has_looked, True
        wanted = self._find_wanted() if is_first and self._find_wanted else None
        if wanted and current and current.name == wanted != self._searcher.encoder.name:
            pass
        elif current is None or is_first or current.model_id in (former, self._searcher.get_model().model_id):
            return
        try:
            encoder = self._load(current)
        except ImageSearchError as error:
            self._say(
                f"Searches were switched to {current.name}, but it cannot be loaded ({error}) Searches go on with "
                f"{self._searcher.encoder.name}; set EMBEDDING_MODEL and start again."
            )
            return
        self._searcher.use(encoder)
        self._say(f"Searches use {current.name} ({current.version}) from now on.")
        with suppress(ImageSearchError):  # an image-only model has no tags
            self._searcher.tagger.prepare()

    def _load(self, model: EmbeddingModel) -> Encoder:
        encoder = self._open_model(model.name)
        if encoder.version != model.version:
            raise ModelUnavailable(f"What is found under this name is version {encoder.version}, not {model.version}.")
        encoder.encode_images([Image.new("RGB", (64, 64))])
        return encoder

    def _look_until_stopped(self) -> None:
        while True:
            with suppress(ImageSearchError):  # an unreachable database is reported by the next search
                self.look()
            if self._stop.wait(SECONDS_BETWEEN_LOOKS):
                return


HOURS_BETWEEN_COLLECTIONS = 24


class TrashCollector:
    """Removes images that have been in the trash for `days`: at the start, and daily."""

    def __init__(self, store: ImageStore, days: int, say: Callable[[str], None]) -> None:
        """days: 0 for never. say: called when something was removed."""
        self._store = store
        self._days = days
        self._say = say
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin in a thread of its own that ends with the program or with stop."""
        if self._days:
            threading.Thread(target=self._collect_until_stopped, name="trash", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def collect(self) -> None:
        """Empty it now. May raise StoreError."""
        removed = empty_old_trash(self._store, self._days)
        if removed:
            self._say(f"{removed} images were removed for good after {self._days} days in the trash (TRASH_DAYS).")

    def _collect_until_stopped(self) -> None:
        while not self._stop.is_set():
            hours = HOURS_BETWEEN_COLLECTIONS
            try:
                self.collect()
            except ImageSearchError:  # the database is unavailable
                hours = 1
            self._stop.wait(hours * 3600)


def make_watcher(searcher: Searcher, settings: Settings, say: Callable[[str], None]) -> ModelWatcher:
    """A watcher that opens models by their name in the library, a folder outside of the project where it is kept."""

    def open_model(name: str) -> Encoder:
        from image_search.encoders import open_encoder

        place = find_location(searcher.store, name)
        return open_encoder(replace(settings, embedding_model=place, embedding_model_revision=""))

    def find_wanted() -> str:
        return canonical_name(choose_model(settings, searcher.store).model)

    return ModelWatcher(searcher, open_model, say, find_wanted)
