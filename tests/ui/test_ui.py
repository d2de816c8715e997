"""The page without a browser: what its addresses answer, and what it says when things go wrong."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from image_search.errors import ModelUnavailable, StoreError
from image_search.images import decode_image, make_preview
from image_search.library import Progress, ReportProgress, Warmup
from image_search.records import Edits, ImageText
from image_search.registration.pipeline import ImageReader
from image_search.search import Searcher
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.ui import get_static_root
from image_search.ui.results import PageSearch, QueryImages, get_version
from image_search.web.app import build_app, build_application
from tests.fakes import COLOURS, AwayStore, FakeEncoder, draw_image, draw_image_bytes, make_image
from tests.fakes.page_addresses import open_addresses

READER = ImageReader(max_pixels=10**6)
NASTY = "<script>alert(1)</script>\"'&.png"
NO_TEXT = ImageText()
JAPANESE = {"Accept-Language": "ja"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        yield store


@pytest.fixture
def searcher(store: ImageStore) -> Searcher:
    return Searcher(store, FakeEncoder())


@pytest.fixture
def client(searcher: Searcher) -> TestClient:
    return open_addresses(searcher, max_pixels=READER.max_pixels)


@pytest.fixture
def page(searcher: Searcher) -> TestClient:
    """The same with Gradio's part of the page."""
    return TestClient(build_app(searcher, Warmup(searcher), READER), headers=JAPANESE)


def register_colours(searcher: Searcher, count: int = len(COLOURS)) -> list[int]:
    colours = COLOURS[:count]
    images = [make_image(f"{colour}.png", data=draw_image_bytes(colour)) for colour in colours]
    embeddings = searcher.encoder.encode_images([draw_image(colour) for colour in colours])
    return searcher.store.add_images(searcher.get_model().model_id, images, embeddings)


def register_one(searcher: Searcher, name: str = "a.png", text: ImageText = NO_TEXT) -> int:
    model_id = searcher.get_model().model_id
    image = make_image(name, text, data=draw_image_bytes("red"))
    return searcher.store.add_images(model_id, [image], searcher.encoder.encode_images([draw_image()]))[0]


def list_names(answer: dict[str, Any]) -> list[str]:
    return [tile["name"] for tile in answer["tiles"]]


# --- results ----------------------------------------------------------------------------------------------------------


def test_newest_images_are_the_answer_to_nothing(client: TestClient, searcher: Searcher) -> None:
    register_colours(searcher)
    answer = client.get("/ui/results").json()
    assert list_names(answer) == [f"{colour}.png" for colour in reversed(COLOURS)]
    assert (answer["heading"], answer["count"]) == ("新着画像", f"{len(COLOURS)}枚")
    assert not answer["has_more"]


def test_only_a_list_of_all_is_called_the_newest(client: TestClient, searcher: Searcher) -> None:
    register_colours(searcher)
    addresses = ("type=image/png", "from=2000&order=name", "order=name", "")
    answers = [client.get(f"/ui/results?{address}", headers={"Accept-Language": "en"}).json() for address in addresses]
    assert [answer["heading"] for answer in answers] == ["Results", "Results", "All pictures", "Newest pictures"]


def test_words_rank_and_tell_distance_and_time(client: TestClient, searcher: Searcher) -> None:
    register_colours(searcher)
    answer = client.get("/ui/results?q=red").json()
    assert list_names(answer)[0] == "red.png"
    assert answer["tiles"][0]["distance"] == pytest.approx(-1, abs=1e-3)
    assert "符号化" in answer["timing"]


def test_next_page_holds_new_tiles_only_and_embeds_nothing_again(client: TestClient, searcher: Searcher) -> None:
    images = [make_image(f"{number}.png") for number in range(20)]
    embeddings = searcher.encoder.encode_images([draw_image((number * 12, 80, 40)) for number in range(20)])
    searcher.store.add_images(searcher.get_model().model_id, images, embeddings)
    first = client.get("/ui/results?q=red").json()
    assert len(first["tiles"]) == 16
    assert first["has_more"]
    calls = len(searcher.encoder.calls)
    second = client.get("/ui/results?q=red&offset=16&limit=48").json()
    assert len({*list_names(first), *list_names(second)}) == 20
    assert not second["has_more"]
    assert len(searcher.encoder.calls) == calls


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_tiles_are_compressed_for_those_who_take_it(client: TestClient, searcher: Searcher, encoding: str) -> None:
    register_shades(searcher)
    plain, packed = (
        client.get("/ui/results?limit=40", headers={"Accept-Encoding": name}) for name in ("identity", encoding)
    )
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == encoding
    assert "Accept-Encoding" in packed.headers["vary"]
    assert packed.headers["content-type"] == plain.headers["content-type"]
    assert int(packed.headers["content-length"]) < 0.3 * len(plain.content)
    assert list_names(packed.json()) == list_names(plain.json())


def test_name_order_is_the_stores(client: TestClient, searcher: Searcher) -> None:
    register_colours(searcher)
    assert list_names(client.get("/ui/results?order=name").json()) == sorted(f"{colour}.png" for colour in COLOURS)


def register_shades(searcher: Searcher) -> None:
    """40 images of which 4 are red, and the list of tags embedded, so that relevance can be told."""
    images = [make_image(f"{number:02}.png") for number in range(40)]
    shades = [(250, 5, 5) if number < 4 else (number * 5, 100, 255 - number * 5) for number in range(40)]
    embeddings = searcher.encoder.encode_images([draw_image(shade) for shade in shades])
    searcher.store.add_images(searcher.get_model().model_id, images, embeddings)
    searcher.tagger.prepare()


def test_search_in_another_order_keeps_to_the_relevant_ones(searcher: Searcher) -> None:
    register_shades(searcher)
    answer = open_addresses(searcher).get("/ui/results?q=red&order=name&limit=100").json()
    names = list_names(answer)
    assert names == sorted(names)
    assert answer["total"] == len(names) < 40


def test_query_image_is_sent_once_and_named_by_its_token(client: TestClient, searcher: Searcher) -> None:
    register_colours(searcher)
    token = client.post("/ui/query-images", content=draw_image_bytes("blue")).json()["token"]
    assert list_names(client.get(f"/ui/results?picture={token}").json())[0] == "blue.png"
    assert client.get(f"/ui/query-images/{token}").headers["content-type"] == "image/webp"


def test_query_image_that_is_gone_is_said_so(client: TestClient) -> None:
    for token in ("0" * 32, "../../etc/passwd", "x"):
        answer = client.get("/ui/results", params={"picture": token})
        assert answer.status_code == 422
        assert "もう一度選んでください" in answer.json()["title"]
        assert client.get(f"/ui/query-images/{token}").status_code == 404


def test_query_images_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("image_search.ui.results._MAX_QUERY_IMAGES", 2)
    images = QueryImages(10**6)
    tokens = [images.add(draw_image_bytes(colour), "a.png") for colour in ("red", "blue", "green")]
    assert [images.open(token).size for token in tokens[1:]]
    with pytest.raises(Exception, match="no longer kept"):
        images.open(tokens[0])


def test_file_that_is_no_image_is_refused_in_words(page: TestClient) -> None:
    [path] = page.post("/gradio_api/upload", files={"files": ("broken.png", b"no picture")}).json()
    answer = page.post("/ui/query-images", json={"path": path, "name": "broken.png"})
    assert answer.status_code == 422
    assert answer.json()["title"] == "この画像は読み込めません"
    assert "broken.png" in answer.json()["hint"]
    assert path not in answer.text


def test_query_image_is_taken_from_the_folder_of_uploads_only(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(draw_image_bytes("red"))
    for path in (str(tmp_path / "secret.png"), "/etc/passwd", "\0", ""):
        assert client.post("/ui/query-images", json={"path": path, "name": "x.png"}).status_code == 422


def test_empty_library_says_how_to_fill_it(client: TestClient) -> None:
    for address in ("/ui/results", "/ui/results?q=red"):
        assert "ライブラリー" in client.get(address).json()["message"]["hint"]


def test_condition_that_nothing_meets_is_said_so(client: TestClient, searcher: Searcher) -> None:
    register_colours(searcher)
    assert client.get("/ui/results?shape=portrait&rating=5").json()["message"]["title"] == "条件に合う画像はありません"


def test_library_without_embeddings_of_this_model_says_what_to_run(searcher: Searcher) -> None:
    register_colours(searcher)
    other = open_addresses(Searcher(searcher.store, FakeEncoder(name="another")))
    for address in ("/ui/results?q=orange-like", "/ui/results?q=orange-like&shape=landscape"):
        message = other.get(address).json()["message"]
        assert message["title"] == "このモデルで検索できる画像がまだありません"
        assert "python register_images.py --model another" in message["hint"]


def test_condition_that_nothing_meets_in_a_library_with_embeddings_is_not_laid_on_the_model(
    client: TestClient, searcher: Searcher
) -> None:
    register_colours(searcher)
    message = client.get("/ui/results?q=red&shape=portrait&rating=5").json()["message"]
    assert message["title"] == "条件に合う画像はありません"


def test_hits_that_are_all_below_the_line_are_not_called_missing(searcher: Searcher) -> None:
    register_shades(searcher)
    page = open_addresses(searcher)
    answer = next(
        answer
        for words in ("zebra", "violin", "tractor", "umbrella")
        if not (answer := page.get(f"/ui/results?q={words}&order=name").json())["tiles"]
    )
    assert answer["message"]["title"] == "よく合う画像は見つかりませんでした"
    assert "一致度順" in answer["message"]["hint"]
    assert page.get("/ui/results?not=zebra&order=name").json()["tiles"]  # nothing is asked for that could be missing


def test_database_that_is_away_is_503_in_words() -> None:
    client = open_addresses(Searcher(AwayStore(), FakeEncoder()))
    for address in ("/ui/results", "/ui/images/1", "/ui/facets"):
        answer = client.get(address)
        assert answer.status_code == 503
        assert "データベースに接続できません" in answer.json()["title"]


def test_words_for_an_image_only_model_are_answered_with_a_sentence(store: ImageStore) -> None:
    client = open_addresses(Searcher(store, FakeEncoder(supports_text=False)))
    assert "画像だけ" in client.get("/ui/results?q=red").json()["title"]


def test_facets_are_counted_under_the_other_conditions(client: TestClient, searcher: Searcher) -> None:
    register_one(searcher, text=ImageText(camera="X100", generation_prompt="a"))
    facets = client.get("/ui/facets?camera=other&prompt=no").json()
    assert facets["camera"] == []
    assert client.get("/ui/facets?camera=other").json()["camera"] == [{"value": "X100", "label": "X100", "count": 1}]
    assert client.get("/ui/facets").json()["prompt"][0] == {"value": "yes", "label": "あり", "count": 1}
    assert client.get("/ui/facets").json()["kind"][0] == {"value": "image", "label": "画像", "count": 1}


def test_stars_are_counted_as_at_least_and_folders_with_those_below(searcher: Searcher) -> None:
    model_id = searcher.get_model().model_id
    for number, path in enumerate(("/p/a/1.png", "/p/a/2.png", "/p/b/c/3.png")):
        image = make_image(f"{number}.png", data=draw_image_bytes(COLOURS[number]), file_path=path)
        found = searcher.store.add_images(model_id, [image], searcher.encoder.encode_images([draw_image()]))
        searcher.store.set_edits(found[0], Edits(rating=number + 3))
    facets = open_addresses(searcher).get("/ui/facets").json()
    assert [(facet["value"], facet["count"]) for facet in facets["rating"]][:4] == [
        ("5", 1),
        ("4", 2),
        ("3", 3),
        ("2", 3),
    ]
    assert [(facet["value"], facet["count"]) for facet in facets["folder"]] == [("/p", 3), ("/p/a", 2), ("/p/b/c", 1)]


def test_date_that_is_none_is_named_in_the_answer(client: TestClient) -> None:
    assert client.get("/ui/results?from=someday&to=2024年5月").json()["ignored"] == ["from"]


# --- one image --------------------------------------------------------------------------------------------------------


def test_names_and_texts_of_files_never_become_markup(client: TestClient, searcher: Searcher) -> None:
    text = ImageText(
        generation_prompt=f"{NASTY} prompt", description=f"{NASTY} caption", keywords=(NASTY,), camera=NASTY
    )
    html = client.get(f"/ui/images/{register_one(searcher, NASTY, text)}").json()["html"]
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 4


def test_facts_show_name_prompt_caption_and_a_place_for_the_distance(client: TestClient, searcher: Searcher) -> None:
    text = ImageText(generation_prompt="a red fox", description="狐の写真", generation_model="XL.safetensors", seed="7")
    html = client.get(f"/ui/images/{register_one(searcher, 'fox.png', text)}").json()["html"]
    for words in ("fox.png", "ベクトル距離（-1 × 内積）", "a red fox", "狐の写真", "元の画像を開く", ">XL</a>", "?q=7"):
        assert words in html


def test_edits_are_kept_beside_what_the_file_says(client: TestClient, searcher: Searcher) -> None:
    image_id = register_one(searcher, text=ImageText(description="狐", keywords=("a, b", "雪")))
    edits = f"/ui/images/{image_id}/edits"
    said = client.post(edits, json={"description": " 夕焼け ", "rating": 4}).json()
    assert said == {
        "description": "夕焼け",
        "keywords": ["a, b", "雪"],
        "rating": 4,
        "edited": ["description", "rating"],
    }
    client.post(edits, json={"add_keywords": [" 海 ", "海", " "], "remove_keywords": ["雪", "月"]})
    image = searcher.store.get_image(image_id)
    assert image.edits == Edits("夕焼け", ("a, b", "海"), 4)
    assert image.text.description == "狐"
    assert list_names(client.get("/ui/results?q=夕焼け").json()) == ["a.png"]
    assert client.post(edits, json={"revert": ["description", "keywords", "rating"]}).json()["description"] == "狐"
    assert searcher.store.get_image(image_id).edits.is_empty


def test_saying_what_the_file_says_is_no_edit(client: TestClient, searcher: Searcher) -> None:
    image_id = register_one(searcher, text=ImageText(description="狐", keywords=("雪",)))
    said = {"description": "狐\n", "add_keywords": ["雪"], "rating": 0}
    assert client.post(f"/ui/images/{image_id}/edits", json=said).json()["edited"] == []


@pytest.mark.parametrize("said", [{"rating": 6}, {"rating": -1}, {"owner": "x"}, {"add_keywords": "a"}])
def test_edit_that_is_none_changes_nothing(client: TestClient, searcher: Searcher, said: dict[str, Any]) -> None:
    image_id = register_one(searcher)
    assert client.post(f"/ui/images/{image_id}/edits", json=said).status_code == 422
    assert searcher.store.get_image(image_id).edits.is_empty


def test_image_in_the_trash_comes_back_with_everything(client: TestClient, searcher: Searcher) -> None:
    ids = register_colours(searcher)
    assert client.post("/ui/trash", json={"ids": ids[:2]}).json() == {"count": 2, "ids": ids[:2]}
    assert client.get("/ui/results").json()["total"] == len(ids) - 2
    assert client.post("/ui/restore", json={"ids": ids[:2]}).json() == {"count": 2}
    assert list_names(client.get("/ui/results?q=red").json())[0] == "red.png"


def test_image_deleted_meanwhile_is_said_so(client: TestClient) -> None:
    assert client.get("/ui/images/99").status_code == 404
    assert "削除されています" in client.get("/ui/images/99").json()["title"]
    assert client.post("/ui/images/99/edits", json={"rating": 1}).status_code == 404


# --- preparation ------------------------------------------------------------------------------------------------------


def test_preparation_loads_the_model_completes_the_library_and_embeds_the_tags(searcher: Searcher) -> None:
    def complete(report: ReportProgress, _: threading.Event) -> None:
        register_colours(searcher)
        report(10, 10)

    preparation = Warmup(searcher, complete)
    assert preparation.progress.phase == "loading"
    preparation.start()
    preparation.wait(10)
    assert preparation.progress == Progress("ready", 10, 10)
    assert searcher.store.count_images() == len(COLOURS)
    assert searcher.tagger.is_ready


def test_stopped_preparation_is_silent_on_a_closed_store(searcher: Searcher, caplog: pytest.LogCaptureFixture) -> None:
    begun = threading.Event()

    def complete(_: ReportProgress, stop: threading.Event) -> None:
        begun.set()
        stop.wait(10)
        raise StoreError("library.db was closed by this program.")

    preparation = Warmup(searcher, complete)
    preparation.start()
    assert begun.wait(10)
    preparation.stop(10)
    assert not preparation.progress.is_over and not caplog.records


def test_model_that_cannot_be_loaded_is_shown_with_its_remedy(store: ImageStore) -> None:
    class Gated(FakeEncoder):
        def encode_images(self, images: object) -> object:
            raise ModelUnavailable("Accept the licence at the model's page and set HF_TOKEN.")

    searcher = Searcher(store, Gated())
    preparation = Warmup(searcher)
    preparation.start()
    preparation.wait(10)
    said = PageSearch(searcher, preparation, QueryImages(10**6)).describe_progress("en")
    assert "The model cannot be used" in said["title"]
    assert "set HF_TOKEN" in said["hint"]
    assert said["is_over"]


# --- below a path -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", ["/pics", pytest.param("", marks=pytest.mark.slow)])
def test_page_is_served_below_a_path_whether_the_proxy_hands_it_on_or_not(searcher: Searcher, sent: str) -> None:
    [image_id] = register_colours(searcher, 1)
    settings = Settings(app_root_path="/pics", app_password="sesame")
    client = TestClient(build_application(settings, searcher, Warmup(searcher)), base_url="http://127.0.0.1:8899")
    redirect = client.get(f"{sent}/?q=red", headers={"Accept": "text/html"}, follow_redirects=False)
    assert redirect.headers["location"] == "login?next=%2Fpics%2F%3Fq%3Dred"
    form = {"password": "sesame", "next": "/pics/?q=red"}
    entry = client.post(f"{sent}/login", data=form, headers={"Accept": "text/html"}, follow_redirects=False)
    assert entry.headers["location"] == "/pics/?q=red"
    page = client.get(f"{sent}/").text
    assert f'src="/pics/{get_static_root()}/app.js"' in page
    assert re.search(r'"root":\s*"http://127.0.0.1:8899/pics"', page)
    for address in (
        "/ui/results", f"/ui/images/{image_id}", f"/images/{image_id}/preview", "/api/openapi.json", "/config",
        f"/{get_static_root()}/app.js", "/gradio_api/info",
    ):  # fmt: skip
        assert client.get(f"{sent}{address}").status_code == 200, address
    assert client.post(f"{sent}/api/search", json={}).status_code == 200


def test_path_without_its_slash_leads_to_the_page(searcher: Searcher) -> None:
    client = TestClient(build_application(Settings(app_root_path="/pics"), searcher, Warmup(searcher)))
    answer = client.get("/pics", headers={"Host": "127.0.0.1"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (308, "/pics/")


# --- addresses --------------------------------------------------------------------------------------------------------


def test_preview_with_its_version_is_kept_by_browsers_for_good(client: TestClient, searcher: Searcher) -> None:
    [image_id] = register_colours(searcher, 1)
    version = get_version(searcher.store.get_image(image_id))
    answer = client.get(f"/images/{image_id}/preview?v={version}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/webp"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.content == searcher.store.read_preview(image_id)
    again = client.get(f"/images/{image_id}/preview?v={version}", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


def test_grid_asks_for_small_previews_and_on_dense_displays_for_whole_ones(
    client: TestClient, searcher: Searcher
) -> None:
    decoded = decode_image(draw_image_bytes("red", (1600, 1200)), "large.png")
    image = replace(make_image("large.png"), preview=make_preview(decoded))
    [image_id] = searcher.store.add_images(
        searcher.get_model().model_id, [image], searcher.encoder.encode_images([decoded.image])
    )
    whole = f"/images/{image_id}/preview?v={get_version(searcher.store.get_image(image_id))}"
    small = f"{whole}&small=1"
    assert Image.open(io.BytesIO(client.get(small).content)).size == (384, 288)
    assert Image.open(io.BytesIO(client.get(whole).content)).size == (768, 576)
    assert client.get(small).headers["content-type"] == "image/webp"
    assert "immutable" in client.get(small).headers["cache-control"]


def test_preview_without_or_with_a_wrong_version_is_asked_for_again(client: TestClient, searcher: Searcher) -> None:
    [image_id] = register_colours(searcher, 1)
    for address in (f"/images/{image_id}/preview", f"/images/{image_id}/preview?v=old"):
        answer = client.get(address)
        assert "no-cache" in answer.headers["cache-control"]
        assert client.get(address, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


def test_original_comes_byte_for_byte_under_its_name(client: TestClient, searcher: Searcher) -> None:
    image = make_image("夕焼け 1.png", data=draw_image_bytes("red"))
    [image_id] = searcher.store.add_images(
        searcher.get_model().model_id, [image], searcher.encoder.encode_images([draw_image()])
    )
    answer = client.get(f"/images/{image_id}/original")
    assert answer.content == image.data
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"].startswith("inline; filename*=UTF-8''%E5%A4%95")


def test_original_that_browsers_cannot_draw_is_a_download(client: TestClient, searcher: Searcher) -> None:
    image = make_image("a.svg", data=b"<svg onload='alert(1)'/>", file_type="image/svg+xml")
    [image_id] = searcher.store.add_images(
        searcher.get_model().model_id, [image], searcher.encoder.encode_images([draw_image()])
    )
    answer = client.get(f"/images/{image_id}/original")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("address", ["/images/99/preview", "/images/99/original"])
def test_unknown_image_is_404(client: TestClient, address: str) -> None:
    assert client.get(address).status_code == 404


@pytest.mark.parametrize("address", ["/images/x/preview", "/images/1/../../etc/passwd", "/images/-1/original"])
def test_image_addresses_lead_to_images_only(page: TestClient, address: str) -> None:
    assert page.get(address).status_code in (404, 422)


def test_image_of_a_database_that_is_away_is_503(searcher: Searcher) -> None:
    client = open_addresses(Searcher(AwayStore(), FakeEncoder()), Warmup(searcher))
    assert client.get("/images/1/preview").status_code == 503


def test_page_is_built_and_served_without_the_database_or_the_model() -> None:
    away = Searcher(AwayStore(), FakeEncoder())
    client = TestClient(build_app(away, Warmup(away), READER))
    answer = client.get("/")
    assert answer.status_code == 200
    assert "https://fonts.g" not in answer.text
    assert away.encoder.calls == []
