"""How many round trips the Oracle store needs, and how much time of its own: the driver against the wire server.

A library of the original application with many images is migrated, then registered into, listed, searched and emptied
of some. The server of the tests answers (tests/oracle/wire), so times of the server say nothing about a database and
are left out: "client" is the time that this program's own thread computed, driver included. A round trip costs what the
network takes; a thousand of them are 1 s at 1 ms.

    python benchmarks/oracle_wire.py [--rows 50000]
"""

from __future__ import annotations

import argparse
import hashlib
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from image_search.records import NewImage
from image_search.stores.oracle import OracleStore
from image_search.stores.oracle.connection import connect
from image_search.stores.oracle.migration import migrate
from tests.fakes import make_embeddings, make_images
from tests.oracle.test_migration import ORIGINAL_TABLES
from tests.oracle.wire.server import Server
from tests.oracle.wired import make_settings, serve_nothing

DIMENSION = 768
BATCH = 32  # of a registration


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Count round trips to Oracle Database.")
    parser.add_argument("--rows", type=int, default=50_000, help="images of the library that is migrated")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serve_nothing(Path(folder) / "library.db") as server:
        settings = make_settings(server)
        with connect(settings) as session:
            for statement in ORIGINAL_TABLES:
                session.execute(statement)
            # Oracle joins a table with itself by hashing; SQLite, which stands behind the wire, needs an index for it.
            session.execute("CREATE INDEX benchmark ON image_embeddings (image_id, model_id, embedding_id)")
        fill(server, options.rows)
        print(f"{'step':44} {'round trips':>11} {'client s':>9} {'all s':>7}")
        measure(server, f"migrate {options.rows} images", lambda: list(migrate(settings, read_image)))
        measure(server, "migrate again: up to date", lambda: list(migrate(settings, read_image)))
        with OracleStore.open(settings) as store:
            exercise(server, store)


def exercise(server: Server, store: OracleStore) -> None:
    """The daily work on the library."""
    [model] = [model for model in store.list_models() if model.is_current]
    images, vectors = make_images(320), make_embeddings(320, DIMENSION, seed=8)
    store.add_images(model.model_id, images[BATCH:], vectors[BATCH:])  # opens the connection
    first, embeddings = images[:BATCH], vectors[:BATCH]
    measure(server, f"register {BATCH} images", lambda: store.add_images(model.model_id, first, embeddings))
    hashes = [image.content_sha256 for image in images] * 30
    measure(server, f"which of {len(set(hashes))} hashes are known", lambda: store.find_known_hashes(hashes))
    measure(server, "the 16 newest", lambda: store.list_images(limit=16))
    measure(server, "the 16 nearest, exact", lambda: store.search_embedding(model.model_id, vectors[0], limit=16))
    measure(server, "16 by a word", lambda: store.list_images(["image 7"], limit=16))
    measure(server, "1,000 ids to the trash", lambda: store.trash_images(range(1, 1001)))
    measure(server, "empty a trash of 1,000", lambda: store.empty_trash())


def fill(server: Server, count: int) -> None:
    """Rows of the original application, written behind the wire."""
    generator = np.random.default_rng(5)
    connection = sqlite3.connect(server.database.path)
    connection.execute(
        "INSERT INTO embedding_models (model_name, model_version, is_current, vector_dimension) VALUES (?, ?, ?, ?)",
        ("Japanese Stable CLIP", "vit-l-16", "Y", DIMENSION),
    )
    for number in range(1, count + 1):
        vector = generator.standard_normal(DIMENSION).astype(np.float32)
        connection.execute(
            "INSERT INTO images (image_data, file_name, file_type, generation_prompt) VALUES (?, ?, ?, ?)",
            (
                f"bytes of {number}".encode(),
                f"image {number}.png",
                "png",
                f"a prompt of some length, number {number} 猫",
            ),
        )
        connection.execute(
            "INSERT INTO image_embeddings (image_id, model_id, embedding) VALUES (?, 1, ?)",
            (number, (vector / np.linalg.norm(vector)).tobytes()),
        )
    connection.commit()
    connection.close()


def read_image(data: bytes, name: str) -> NewImage:
    """Instead of decoding, which would take most of the time: benchmarks/registration.py measures that."""
    return NewImage(hashlib.sha256(data).hexdigest(), name, "image/png", 64, 48, data=data, preview=bytes(2_000))


def measure(server: Server, step: str, work: Callable[[], object]) -> None:
    """Run one step and print its line."""
    server.events.clear()
    started, computed = time.monotonic(), time.thread_time()
    work()
    computed, elapsed = time.thread_time() - computed, time.monotonic() - started
    print(f"{step:44} {len(server.events):11,} {computed:9.2f} {elapsed:7.1f}", flush=True)


if __name__ == "__main__":
    main()
