"""The model of a library: chosen, downloaded, embedded beside the old one, and searched with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from image_search.encoders.base import Encoder
from image_search.errors import ModelUnavailable
from image_search.library import choose_model, keep_choice, make_inbox, make_model_change
from image_search.registration import Registrar
from image_search.registration.files import find_files
from image_search.registration.jobs import Job, JobControl
from image_search.registration.pipeline import ImageReader
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from tests.encoders.test_downloads import point_client_at
from tests.fakes import FakeEncoder, draw_image_bytes
from tests.fakes.checkpoints import get_checkpoint
from tests.fakes.hub import FakeHub, serve_hub

MODEL = "somebody/clip"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    from huggingface_hub import constants

    with serve_hub() as (fake, endpoint):
        point_client_at(endpoint, tmp_path, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        fake.repositories[MODEL] = get_checkpoint("clip")
        yield fake


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(database_url=f"sqlite:///{tmp_path}/library.db", device="cpu")


@pytest.fixture
def store(tmp_path: Path, settings: Settings) -> Iterator[ImageStore]:
    """Three images, embedded with a model that is called fake."""
    (tmp_path / "pictures").mkdir()
    for colour in ("red", "green", "blue"):
        (tmp_path / "pictures" / f"{colour}.png").write_bytes(draw_image_bytes(colour))
    with open_store(settings) as store:
        Registrar(store, FakeEncoder()).register(find_files([tmp_path / "pictures"]))
        yield store


class Told(JobControl):
    """Remembers every report; calls on_report with each."""

    def __init__(self) -> None:
        super().__init__(Job(1, "model", MODEL))
        self.reports: list[tuple[str, int, int]] = []

    def report(self, done: int, total: int, *arguments: object, **named: object) -> None:
        super().report(done, total, *arguments, **named)  # type: ignore[arg-type]
        self.reports.append((self.job.phase, done, total))


def change(store: ImageStore, settings: Settings, control: JobControl, name: str = MODEL) -> list[Encoder]:
    used: list[Encoder] = []
    make_model_change(store, settings, ImageReader(), used.append)(name, control)
    return used


@pytest.mark.slow
@pytest.mark.usefixtures("hub")
def test_model_is_downloaded_embedded_beside_the_old_one_and_used(store: ImageStore, settings: Settings) -> None:
    control = Told()
    [encoder] = change(store, settings, control)
    assert list(dict.fromkeys(phase for phase, _, _ in control.reports)) == ["download", "loading", "embedding"]
    downloads = [(done, total) for phase, done, total in control.reports if phase == "download"]
    assert downloads[0][0] == 0 and downloads[-1][0] == downloads[-1][1] > 0
    assert control.job.counts == {"embedded": 3}
    counts = {model.name: (count, model.is_current) for model, count in store.get_status().models}
    assert counts == {"fake": (3, False), MODEL: (3, True)}
    assert encoder.name == choose_model(settings, store).model == MODEL


def test_choice_is_kept_with_the_library_and_the_setting_wins(
    store: ImageStore, settings: Settings, tmp_path: Path
) -> None:
    assert choose_model(settings, store).model == "demo/model"
    keep_choice(store, MODEL)
    assert choose_model(settings, store).model == MODEL
    assert choose_model(replace(settings, embedding_model="openai/x"), store).model == "openai/x"
    (tmp_path / "model").mkdir()
    keep_choice(store, str(tmp_path / "model"))
    assert choose_model(settings, store).model == str((tmp_path / "model").resolve())


@pytest.mark.parametrize("scheme", ["sqlite", "milvus"])
def test_relative_database_in_another_folder_is_another_library(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_inbox(name: str) -> Path:
        return make_inbox(Settings(database_url=f"{scheme}:///{name}"))._folder

    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        found.append(find_inbox("mine.db"))
    assert found[0] != found[1]
    assert find_inbox("../b/mine.db") == find_inbox(f"{tmp_path}/b/mine.db") == found[1]


@pytest.mark.slow
def test_change_that_is_stopped_while_it_downloads_changes_nothing(
    hub: FakeHub, store: ImageStore, settings: Settings
) -> None:
    control = Told()
    hub.may_send.clear()
    working = threading.Thread(target=lambda: change(store, settings, control))
    working.start()
    while len(control.reports) < 3:
        pass
    control.stop.set()
    hub.may_send.set()
    working.join()
    assert [model.name for model, _ in store.get_status().models] == ["fake"]
    assert choose_model(settings, store).model == "demo/model"


@pytest.mark.slow
def test_code_of_a_repository_is_not_run_whatever_the_settings_allow(
    hub: FakeHub, store: ImageStore, settings: Settings
) -> None:
    hub.repositories["somebody/code"] = get_checkpoint("japanese_stable_clip")
    with pytest.raises(ModelUnavailable) as raised:
        change(store, replace(settings, trust_remote_code=True), Told(), "somebody/code")
    assert raised.value.code == "remote_code"
    assert choose_model(settings, store).model == "demo/model"


@pytest.mark.slow
def test_no_network_has_its_own_words_and_the_old_model_stays(
    hub: FakeHub, store: ImageStore, settings: Settings
) -> None:
    hub.is_down = True
    with pytest.raises(ModelUnavailable) as raised:
        change(store, settings, Told())
    assert raised.value.code == "offline"
    current = store.find_current_model()
    assert current is not None and current.name == "fake"
