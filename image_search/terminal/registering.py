"""Register files, and embed what is registered."""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from image_search.encoders import LazyEncoder, open_encoder
from image_search.records import EmbeddingModel
from image_search.registration import ImageReader, Registrar, RegistrationReport, find_files, watch_folders
from image_search.settings import Settings
from image_search.stores.base import ImageStore
from image_search.terminal import Exit
from image_search.terminal.console import Console, finishing_on_interrupt


def register(store: ImageStore, settings: Settings, paths: Sequence[Path], options: argparse.Namespace) -> Exit:
    """Embed whatever lacks an embedding of this model, then register the files, and go on with options.watch."""
    encoder = open_encoder(settings)
    console = Console()
    stop = threading.Event()
    registrar = Registrar(
        store,
        encoder,
        batch_size=lambda: choose_batch_size(encoder, options.batch_size, console.say),
        reader=ImageReader(settings.max_image_pixels, settings.read_gps),
        on_progress=console.show_progress,
        on_message=console.say,
        stop=stop,
    )
    model = registrar.model  # a model or a database that is not there is told before any file is looked at
    with finishing_on_interrupt(stop):
        try:
            registrar.embed_missing(options.shard)
            if options.watch:
                watch_folders(paths, registrar, stop, console.say, shard=options.shard)
            else:
                registrar.register(find_files(paths, options.shard))
        finally:
            console.close()
            print_summary(registrar.report, as_json=options.json)
    if stop.is_set():
        return Exit.INTERRUPTED
    announce_model(store, model, options.make_current)
    return Exit.SOME_FAILED if registrar.report.failed else Exit.EVERYTHING_IS_IN


def choose_batch_size(encoder: LazyEncoder, wanted: int | None, say: Callable[[str], None]) -> int:
    """Load the model, and tell what was chosen for it."""
    size = wanted or encoder.batch_size
    say(f"Model {encoder.name} ({encoder.version}) on {encoder.device} in {encoder.precision}, batches of {size}.")
    return size


def announce_model(store: ImageStore, model: EmbeddingModel, make_current: bool) -> None:
    """Switch searches to this model if asked to, or say that they use another one."""
    current = store.find_current_model()
    if current and current.model_id == model.model_id:
        return
    if make_current:
        store.set_current_model(model.model_id)
        print(f"Searches use {model.name} ({model.version}) from now on.", file=sys.stderr)
        print("Name it in EMBEDDING_MODEL, too, for what is registered or started later.", file=sys.stderr)
    elif current:
        print(f"Searches still use {current.name}; --make-current switches to {model.name}.", file=sys.stderr)


def print_summary(report: RegistrationReport, as_json: bool) -> None:
    if as_json:
        counts = {name: getattr(report, name) for name in ("registered", "failed", "moved", "embedded")}
        print(json.dumps(counts | {"already_known": report.known, "failures": report.failures}, ensure_ascii=False))
        return
    parts = [f"registered {report.registered}", f"already known {report.known}", f"failed {report.failed}"]
    parts += [f"{name} {count}" for name in ("moved", "embedded") if (count := getattr(report, name))]
    print(", ".join(parts), flush=True)
