"""Whatever is registered, edited, moved, changed, trashed and restored in whatever order: an engine agrees with the
store in memory after every step."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from image_search.errors import StoreError
from image_search.records import DeletedImage, Edits, Frame, ImageText, NewImage, Order, RecognizedText, SearchFilter
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.stores.text import hash_frame
from tests.fakes import make_embeddings, make_image
from tests.fakes.engines import each_engine, new_library
from tests.fakes.examples import scale
from tests.fakes.memory_store import MemoryStore

pytestmark = pytest.mark.slow

CONTENTS = 9
FIRST_FRAME = 7  # this content and those behind it are frames of one film
FILM = "f1" * 32
KEYWORDS = ("山", "snow", "Paris, France")
FOLDERS = ("/photos", os.fsdecode(b"/caf\xe9"))
PATHS = tuple(f"{folder}/{name}" for folder in FOLDERS for name in ("1.png", os.fsdecode(b"\xe9.png"), "写真.png"))
FILTERS = (
    SearchFilter(),
    SearchFilter(keyword=KEYWORDS[0]),
    SearchFilter(min_rating=1),
    SearchFilter(folder=FOLDERS[1]),
    SearchFilter(has_text=True),
    SearchFilter(words=("犬",)),
)

texts = st.builds(
    ImageText,
    description=st.sampled_from([None, "猫と犬", "a dog"]),
    keywords=st.sets(st.sampled_from(KEYWORDS)).map(lambda chosen: tuple(sorted(chosen))),
    rating=st.none() | st.integers(0, 5),
)
edits = st.builds(
    Edits,
    description=st.sampled_from([None, "", "うちの犬"]),
    keywords=st.none() | st.sets(st.sampled_from(KEYWORDS)).map(lambda chosen: tuple(sorted(chosen))),
    rating=st.none() | st.integers(0, 5),
)
contents = st.integers(0, CONTENTS - 1)
paths = st.sampled_from(PATHS)
chosen = st.lists(st.integers(0, 9), min_size=1, max_size=3)  # images, by the order of their registration
reasons = st.sampled_from(["deleted", "gone"])


def make_content(number: int, path: str | None = None, text: ImageText | None = None) -> NewImage:
    image = make_image(f"{number}.png", text, file_path=path, modified_ns=number)
    if number >= FIRST_FRAME:
        frame = Frame(FILM, 500 * number, 9000)
        image = replace(image, content_sha256=hash_frame(FILM, frame.frame_ms), data=None, size=99, frame=frame)
    return replace(image, upload_date=datetime(2024, 1, 1 + number), recipe=1 + number % 2)


HASHES = [make_content(number).content_sha256 for number in range(CONTENTS)]


class History(RuleBasedStateMachine):
    """Everything is done in both stores; image_ids are compared by the order of registration."""

    def __init__(self, engine: str, folder: Path) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.steps = 0
        library = self.stack.enter_context(new_library(engine, folder))
        self.open: Callable[[], ImageStore] = lambda: self.stack.enter_context(open_store(library))
        self.stores: list[ImageStore] = [MemoryStore(), self.open()]
        self.ids: list[list[int]] = [[], []]  # every image_id that was ever given out
        for store in self.stores:
            self.models = [store.get_or_create_model(name, "1", 16).model_id for name in ("first", "second")]

    def teardown(self) -> None:
        self.stack.close()

    def do(self, action: Callable[[ImageStore, list[int]], Any]) -> None:
        """Do the same in both. Both refuse, or both answer alike."""
        answers = []
        for store, ids in zip(self.stores, self.ids, strict=True):
            try:
                answers.append(action(store, ids))
            except StoreError as error:
                answers.append(type(error))
        assert answers[0] == answers[1]

    @initialize()
    def register_some(self) -> None:
        layers = {"edits": Edits("うちの犬", KEYWORDS[:1], 3), "recognized": RecognizedText("reader 1", "出口 犬")}
        images = [replace(make_content(number, PATHS[number]), **layers) for number in range(4)]
        images += [make_content(number, PATHS[4]) for number in range(FIRST_FRAME, CONTENTS)]
        self.do(lambda store, ids: ids.extend(store.add_images(self.models[0], images, make_embeddings(6))))

    # --- steps ------------------------------------------------------------------------------------------------------

    @rule(
        files=st.lists(st.tuples(contents, st.none() | paths, texts), min_size=1, max_size=3), model=st.integers(0, 1)
    )
    def register(self, files: list[tuple[int, str | None, ImageText]], model: int) -> None:
        images = [make_content(number, path, text) for number, path, text in files]
        embeddings = make_embeddings(CONTENTS, seed=model)[[number for number, _, _ in files]]

        def add(store: ImageStore, ids: list[int]) -> list[int]:
            added = store.add_images(self.models[model], images, embeddings)
            ids += sorted({*added} - {*ids})
            return [ids.index(image_id) for image_id in added]

        self.do(add)

    @rule(image=st.integers(0, 9), number=contents, text=texts, model=st.integers(0, 1))
    def change(self, image: int, number: int, text: ImageText, model: int) -> None:
        embedding = make_embeddings(CONTENTS, seed=model)[number]
        content = make_content(number, None, text)
        self.do(lambda store, ids: store.replace_image(pick(ids, image), self.models[model], content, embedding))

    @rule(image=st.integers(0, 9), path=paths)
    def move(self, image: int, path: str) -> None:
        self.do(lambda store, ids: store.set_path(pick(ids, image), path, 10 + image, image))

    @rule(lost=st.lists(paths, min_size=1, max_size=3))
    def lose_paths(self, lost: list[str]) -> None:
        self.do(lambda store, _: store.remove_paths(lost))

    @rule(image=st.integers(0, 9), text=texts)
    def read_again(self, image: int, text: ImageText) -> None:
        self.do(lambda store, ids: store.set_text(pick(ids, image), text))

    @rule(image=st.integers(0, 9), edits=edits)
    def edit(self, image: int, edits: Edits) -> None:
        self.do(lambda store, ids: store.set_edits(pick(ids, image), edits))

    @rule(image=st.integers(0, 9), text=st.sampled_from([None, "", "出口 犬"]))
    def recognize(self, image: int, text: str | None) -> None:
        recognized = None if text is None else RecognizedText("reader 1", text)
        self.do(lambda store, ids: store.set_recognized(pick(ids, image), recognized))

    @rule(images=chosen, reason=reasons)
    def trash(self, images: list[int], reason: Any) -> None:
        self.do(lambda store, ids: store.trash_images(pick_all(ids, images), reason))

    @rule(images=chosen)
    def restore(self, images: list[int]) -> None:
        self.do(lambda store, ids: store.restore_images(pick_all(ids, images)))

    @rule(images=st.none() | chosen)
    def empty(self, images: list[int] | None) -> None:
        self.do(lambda store, ids: store.empty_trash(None if images is None else pick_all(ids, images)))

    @rule(images=chosen)
    def delete(self, images: list[int]) -> None:
        self.do(lambda store, ids: store.delete_images(pick_all(ids, images)))

    @rule(numbers=st.none() | st.lists(contents, max_size=2))
    def forget(self, numbers: list[int] | None) -> None:
        self.do(lambda store, _: store.forget_deleted(None if numbers is None else [HASHES[n] for n in numbers]))

    @rule(number=contents, path=paths)
    def remember(self, number: int, path: str) -> None:
        deleted = DeletedImage(HASHES[number], datetime(2023, 1, 1), (path,))
        self.do(lambda store, _: store.add_deleted([deleted]))

    @rule(images=chosen, model=st.integers(0, 1))
    def embed(self, images: list[int], model: int) -> None:
        rows = make_embeddings(len(images), seed=7)
        self.do(
            lambda store, ids: (
                store.add_embeddings(self.models[model], pick_all(ids, images), rows, 2)
                if len(set(pick_all(ids, images))) == len(images)
                else None
            )
        )

    @rule()
    def reopen(self) -> None:
        self.stores[1].close()
        self.stores[1] = self.open()

    # --- what must be equal -------------------------------------------------------------------------------------------

    @invariant()
    def images_agree(self) -> None:
        self.do(lambda store, ids: [describe_image(store, image_id, self.models) for image_id in ids])

    @invariant()
    def lists_agree(self) -> None:
        self.steps += 1

        def describe(store: ImageStore, ids: list[int]) -> list[object]:
            found: list[object] = [list_numbers(store.list_trash(50), ids)]
            for filter in FILTERS[self.steps % 6 :][:1]:  # one at each step, for time
                orders: tuple[Order, ...] = ("registered", "taken", "name")
                lists = [store.list_images((), 50, 0, filter, order) for order in orders]
                found += [(list_numbers(hits, ids), hits.total) for hits in lists]
                if ids:
                    after = self.stores[0].library.entries.get(self.ids[0][self.steps % len(self.ids[0])])
                    place = after and replace(after.record, image_id=ids[self.steps % len(ids)])
                    behind = [store.list_images((), 3, 0, filter, order, place) for order in orders]
                    found += [(list_numbers(hits, ids), hits.total) for hits in behind]
                found.append(store.count_images(filter))
                for model, seed in zip(self.models, (0, 1), strict=True):
                    hits = store.search_embedding(model, make_embeddings(1, seed=seed + 3)[0], 50, 0, filter)
                    found.append((list_numbers(hits, ids), hits.total))
            for terms in (["犬"], ["dog"], ["出口"], ["paris, france"], ["png", "山"]):
                found.append(list_numbers(store.list_images(terms, 50), ids))
            found += [list(store.count_values(field).items()) for field in ("keyword", "rating", "folder")]
            return found

        self.do(describe)

    @invariant()
    def memory_agrees(self) -> None:
        """Of a film at a path any one of its frames is told."""

        def describe(store: ImageStore, ids: list[int]) -> list[object]:
            numbers = {image_id: number for number, image_id in enumerate(ids)}
            status = store.get_status()
            return [
                {sha256: numbers[image_id] for sha256, image_id in store.find_known_hashes(HASHES).items()},
                store.find_deleted_hashes(HASHES),
                sorted(store.find_deleted_paths(PATHS)),
                {path: f.film_sha256 or (numbers[f.image_id], f.byte_size, f.modified_ns, f.content_sha256)
                 for path, f in store.find_known_files(PATHS).items()},
                [(path, store.get_image(image_id).frame is not None or numbers[image_id])
                 for folder in FOLDERS for path, image_id in store.list_paths(folder)],
                [(one.content_sha256, sorted(one.paths)) for one in store.list_deleted()],
                [numbers[image_id] for image_id in store.list_image_ids()],
                [numbers[image_id] for image_id in store.find_images_without_recognition("reader 1")],
                [numbers[image_id] for image_id in store.find_images_of_old_recipe(2)],
                [
                    [numbers[image_id] for image_id in store.find_images_without_embedding(model, min_recipe=recipe)]
                    for model in self.models
                    for recipe in (0, 2)
                ],
                (status.image_count, status.trash_count, [embedded for _, embedded in status.models]),
                store.has_held_images(),
            ]  # fmt: skip

        self.do(describe)


def pick(ids: Sequence[int], number: int) -> int:
    """An image_id, or an unknown one."""
    return ids[number % len(ids)] if ids and number < 9 else 999_999


def pick_all(ids: Sequence[int], numbers: Sequence[int]) -> list[int]:
    return [pick(ids, number) for number in numbers]


def list_numbers(hits: Any, ids: Sequence[int]) -> list[int]:
    return [ids.index(hit.image_id) for hit in hits]


def describe_image(store: ImageStore, image_id: int, models: Sequence[int]) -> object:
    """All that is known of an image, or the error."""
    try:
        record = store.get_image(image_id)
        return (
            replace(record, image_id=0, deleted_at=None),
            None if record.frame else store.read_original(image_id),
            store.read_preview(image_id),
            store.get_recognized(image_id),
            [[row.tobytes() for row in store.get_embeddings([image_id], model).values()] for model in models],
        )
    except StoreError as error:
        return type(error)


@each_engine
def test_every_history_ends_as_in_memory(engine, tmp_path):
    numbers = count()
    run_state_machine_as_test(
        lambda: History(engine, tmp_path / f"library{next(numbers)}"),
        settings=settings(
            max_examples=scale(40) if engine == "sqlite" else 2,
            stateful_step_count=25 if engine == "sqlite" else 10,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
