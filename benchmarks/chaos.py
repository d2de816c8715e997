"""Bad minutes: clients and a registering program act at random, all are killed again and again, and all is compared.

Clients upload, edit, trash, restore, delete for good and search over HTTP; register_images.py takes in a folder that
grows. Every few seconds both programs get SIGKILL. Then, with nothing running, the library is compared with what the
clients were told: an answer of success must hold, a request without an answer may have been done or not. Store, index,
previews and originals must agree: every live image has its embedding, is found by it, and its original has its hash.

    python benchmarks/chaos.py [--minutes 5] [--kill-every 6]
    python benchmarks/chaos.py --minutes 20 --kill-every 0        a soak: nothing is killed before the end

Exit code 1 when there is a difference. SQLite, in a temporary folder, with the demo model.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from subprocess import DEVNULL
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx
import numpy as np
from PIL import Image

from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore

ROOT = Path(__file__).resolve().parents[1]
ACTIONS = {"upload": 4, "edit": 3, "search": 3, "trash": 2, "restore": 1, "remove": 1}
Place = Literal["live", "trash", "gone"]


@dataclass
class Expected:
    """All that may be true of one image: (where it is, caption)."""

    sha256: str
    image_id: int | None = None
    states: set[tuple[Place, str | None]] = field(default_factory=set)


def main() -> int:
    """Run the program. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Kill the programs in the midst of work, and compare what is left.")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--kill-every", type=float, default=6, help="seconds between kills; 0: never before the end")
    parser.add_argument("--clients", type=int, default=6)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "pictures").mkdir()
        environment = {
            "DATABASE_URL": f"sqlite:///{place}/library.db",
            "APP_RATE_LIMIT": "1000000",
            "LOG_LEVEL": "ERROR",
        }
        settings = Settings.load(environ=environment)
        register = [sys.executable, str(ROOT / "register_images.py"), str(place / "pictures")]
        (place / "pictures" / "first.png").write_bytes(make_picture(0))  # a library that was empty gets the samples
        subprocess.run(register, env=os.environ | environment, check=True, stdout=DEVNULL)
        clients = [Client(number) for number in range(options.clients)]
        end, kills, differences = time.monotonic() + 60 * options.minutes, 0, 0
        while time.monotonic() < end:
            seconds = options.kill_every * random.uniform(0.5, 1.5) if options.kill_every else end - time.monotonic()
            act(place, environment, clients, seconds)
            kills += 1
            found = compare(settings, clients)
            differences += len(found)
            for difference in found:
                print(difference, flush=True)
        subprocess.run(register, env=os.environ | environment, check=True, stdout=DEVNULL)
        files = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (place / "pictures").iterdir()}
        with open_store(settings) as store:
            missing = files - store.find_known_hashes(list(files)).keys()
            count = store.count_images()
        differences += len(missing)
        check = [sys.executable, str(ROOT / "ImageSearch.py"), "--check", "--deep", "--repair"]
        looked = subprocess.run(check, env=os.environ | environment, capture_output=True, text=True)
        done = sum((client.done for client in clients), Counter[str]())
        print(f"{done.total()} actions ({', '.join(f'{name} {n}' for name, n in sorted(done.items()))})")
        print(f"{kills} times killed, {count} images, {len(files)} files of the folder, {len(missing)} of them missing")
        faults = [line for line in looked.stdout.splitlines() if not line.startswith("ok ")]
        print("--check --deep --repair:", *(faults or ["no fault"]), sep="\n")
        print(f"{differences} differences")
    return 1 if differences else 0


def act(place: Path, environment: dict[str, str], clients: list[Client], seconds: float) -> None:
    """Start both programs, let the clients work so long, and kill everything."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = os.environ | environment | {"APP_PORT": str(port), "APP_HOST": "127.0.0.1"}
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "ImageSearch.py")], env=variables, stdout=DEVNULL, stderr=DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    wait_until_it_answers(address, server)
    for _ in range(20):
        data = make_picture(random.getrandbits(64))
        (place / "pictures" / f"{hashlib.sha256(data).hexdigest()[:16]}.png").write_bytes(data)
    register = [sys.executable, str(ROOT / "register_images.py"), str(place / "pictures")]
    registering = subprocess.Popen(register, env=variables, stdout=DEVNULL, stderr=DEVNULL)
    stop = threading.Event()
    threads = [threading.Thread(target=client.work, args=(address, stop)) for client in clients]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    for process in (server, registering):
        process.send_signal(signal.SIGKILL)
    stop.set()
    for thread in threads:
        thread.join()
    for process in (server, registering):
        process.wait()


def wait_until_it_answers(address: str, server: subprocess.Popen[bytes]) -> None:
    """Return when the model answers: before that there is no work to be killed in the midst of.

    Raises RuntimeError when the program ends instead.
    """
    while True:
        try:
            httpx.post(f"{address}/api/search", json={"text": "red"}, timeout=60).raise_for_status()
            return
        except httpx.HTTPError:
            if server.poll() is not None:
                raise RuntimeError(f"ImageSearch.py ended with {server.returncode}.") from None
            time.sleep(0.3)


class Client:
    """One person with images of their own, who remembers what the answers said."""

    def __init__(self, number: int) -> None:
        self.chance = random.Random(number)
        self.images: list[Expected] = []
        self.done: Counter[str] = Counter()

    def work(self, address: str, stop: threading.Event) -> None:
        with httpx.Client(base_url=address, timeout=60) as http:
            while not stop.is_set():
                [action] = self.chance.choices(list(ACTIONS), list(ACTIONS.values()))
                image = self.chance.choice(self.images) if self.images else None
                try:
                    self._do(http, action, image)
                    self.done[action] += 1
                except httpx.HTTPError:
                    self.done["without an answer"] += 1
                    time.sleep(0.1)

    def _do(self, http: httpx.Client, action: str, image: Expected | None) -> None:
        if action == "search":
            http.post(
                "/api/search", json={"text": self.chance.choice(("猫", "red", "sunset", "noise"))}
            ).raise_for_status()
        elif action == "upload" or image is None or image.image_id is None:
            data = make_picture(self.chance.getrandbits(64))
            new = Expected(hashlib.sha256(data).hexdigest(), states={("live", None), ("gone", None)})
            self.images.append(new)
            answer = http.post("/api/images", files={"picture": ("picture.png", data)}).raise_for_status().json()
            new.image_id, new.states = answer["image"]["image_id"], {("live", None)}
        elif len(image.states) == 1:  # what is uncertain waits for the comparison
            [(where, caption)] = image.states
            self._change(http, action, image, where, caption)

    def _change(self, http: httpx.Client, action: str, image: Expected, where: Place, caption: str | None) -> None:
        path = f"/api/images/{image.image_id}"
        body: dict[str, str | None] | None = None
        if action == "edit" and where == "live":
            new: tuple[Place, str | None] = ("live", f"caption {self.chance.getrandbits(32)} 夕焼け")
            method, body = "PATCH", {"description": new[1]}
        elif action == "trash" and where == "live":
            new, method = ("trash", caption), "DELETE"
        elif action == "remove" and where == "live":
            new, method, path = ("gone", None), "DELETE", f"{path}?permanent=true"
        elif action == "restore" and where == "trash":
            new, method, path = ("live", caption), "POST", f"{path}/restore"
        else:
            return
        image.states.add(new)
        if action == "remove":
            image.states.add(("trash", caption))  # it goes through the trash, in two steps
        http.request(method, path, json=body).raise_for_status()
        image.states = {new}


def compare(settings: Settings, clients: list[Client]) -> list[str]:
    """A sentence for every difference, with no program running."""
    found: list[str] = []
    with open_store(settings) as store:
        for image in [image for client in clients for image in client.images]:
            if image.image_id is None:
                image.image_id = store.find_known_hashes([image.sha256]).get(image.sha256)
            now = find_state(store, image)
            if now not in image.states:
                found.append(f"image {image.image_id} is {now} and should be one of {image.states}")
            image.states = {now}
        found += compare_parts(store)
    return found


def find_state(store: ImageStore, image: Expected) -> tuple[Place, str | None]:
    """Where an image is, and its caption."""
    records = store.find_images([image.image_id]) if image.image_id is not None else {}
    if not records:
        return "gone", None
    record = records[image.image_id or 0]
    return "trash" if record.deleted_at else "live", record.description


def compare_parts(store: ImageStore) -> list[str]:
    """Store, index, previews and originals of every live image."""
    found: list[str] = []
    model = next((model for model in store.list_models() if model.is_current), None)
    total = store.count_images()
    records = [hit.image for start in range(0, total, 500) for hit in store.list_images(limit=500, offset=start)]
    if len({record.image_id for record in records}) != total:
        found.append(f"{total} images are counted, {len(records)} listed")
    if model is None or not records:
        return found
    image_ids = [record.image_id for record in records]
    embeddings, previews = store.get_embeddings(image_ids, model.model_id), store.read_previews(image_ids)
    if embeddings.keys() != set(image_ids) or previews.keys() != set(image_ids):
        found.append(f"{total} images, {len(embeddings)} embeddings, {len(previews)} previews")
    for record in records:
        Image.open(BytesIO(previews[record.image_id])).load()
        if hashlib.sha256(store.read_original(record.image_id)).hexdigest() != record.content_sha256:
            found.append(f"the original of image {record.image_id} has another hash")
    for record in random.sample(records, min(50, len(records))):
        hits = store.search_embedding(model.model_id, embeddings[record.image_id], limit=5)
        if hits.total != total or not any(abs((hit.distance or 0) + 1) < 1e-4 for hit in hits):
            found.append(
                f"image {record.image_id} is not found by its own embedding ({hits.total} of {total} searched)"
            )
    return found


def make_picture(seed: int) -> bytes:
    """A small PNG unlike any other."""
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())
