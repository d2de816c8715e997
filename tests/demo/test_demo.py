"""The demo model finds what the sample images show; scenes, captions and samples are what they say."""

import io
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from demo import wordings
from demo.backgrounds import PLACES, TIMES, WEATHERS
from demo.captions import Mention, choose_mention, list_facts, write_caption
from demo.concepts import load_concepts
from demo.evaluate import compose_gallery, find_first_right
from demo.finish import finish_image
from demo.places import PAINTERS, draw_place
from demo.samples import Sample, compose_sample, list_samples, write_sample
from demo.scenes import compose_scene, draw_scene, is_held_out
from demo.text_samples import TEXT_SAMPLES, write_text_sample
from image_search.encoders import LazyEncoder, open_encoder
from image_search.images import open_image
from image_search.recognition import TextRecognizer, join_lines, open_recognizer
from image_search.settings import Settings

ROOT = Path(__file__).parents[2]
SAMPLES = list(list_samples())

ONE_THING = {
    "猫": "cat", "ねこ": "cat", "りんご": "apple", "象": "elephant", "ロケットの写真": "rocket", "鳥居": "torii",
    "elephant": "elephant", "picture of a penguin": "penguin", "Sushi": "sushi", "a photo of a bicycle": "bicycle",
    "PANDA": "panda", "花火": "fireworks", "雪だるま": "snowman", "sunflowers": "sunflower",
}  # fmt: skip
SEVERAL_FACTS = {
    "夜の海と猫": ("cat", "sea", "night"),
    "夕焼けの象": ("elephant", "meadow", "dusk"),
    "rocket at night": ("rocket", "sea", "night"),
    "砂漠の夜のサボテン": ("cactus", "desert", "night"),
    "a steam locomotive in the snow": ("steam_locomotive", "snowfield", "day"),
    "two zebras by the river": ("zebra", "river", "dusk"),
}


@pytest.fixture(scope="module")
def encoder() -> LazyEncoder:
    return open_encoder(Settings(embedding_model=str(ROOT / "demo/model"), device="cpu"))


@pytest.fixture(scope="module")
def recognizer() -> TextRecognizer:
    return open_recognizer()


@pytest.fixture(scope="module")
def gallery(encoder: LazyEncoder) -> np.ndarray:
    return encoder.encode_images([open_image(ROOT / "images" / sample.file_name) for sample in SAMPLES])


def find_first(encoder: LazyEncoder, gallery: np.ndarray, query: str) -> Sample:
    return SAMPLES[int((gallery @ encoder.encode_texts([query])[0]).argmax())]


@pytest.mark.parametrize(("query", "concept"), ONE_THING.items())
def test_word_finds_a_sample_that_shows_the_thing(encoder, gallery, query, concept):
    assert concept in find_first(encoder, gallery, query).concepts


@pytest.mark.parametrize(("query", "facts"), SEVERAL_FACTS.items())
def test_all_the_words_of_a_query_count(encoder, gallery, query, facts):
    first = find_first(encoder, gallery, query)
    assert (first.concepts[0], first.place, first.time) == facts


def test_sample_finds_itself_under_other_light_and_crop(encoder, gallery):
    chosen = range(0, len(SAMPLES), 8)
    again = []
    for index in chosen:
        image = open_image(ROOT / "images" / SAMPLES[index].file_name)
        again.append(finish_image(image, random.Random(index)))
    first = (encoder.encode_images(again) @ gallery.T).argmax(axis=1)
    assert np.mean(first == np.array(chosen)) >= 0.9


def test_model_folder_is_small_enough_to_live_in_the_repository():
    assert sum(file.stat().st_size for file in (ROOT / "demo/model").iterdir()) <= 15_000_000


def test_scene_drawn_again_has_the_same_bytes():
    scene = compose_scene(random.Random(11), "cat", others=("dog",))
    assert scene == compose_scene(random.Random(11), "cat", others=("dog",))
    first, second = (draw_scene(scene, (160, 120)).tobytes() for _ in range(2))
    assert first == second


def test_finished_image_has_the_same_bytes_again_and_its_size_hardly_changes():
    scene = draw_scene(compose_scene(random.Random(5)), (160, 120))
    first, second = (finish_image(scene, random.Random(9)) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert first.width >= 0.85 * scene.width


@pytest.mark.parametrize("place", PLACES)
def test_every_place_looks_different_by_night(place):
    day, night = (np.asarray(draw_place(place, time, "clear", 1, (48, 48))).astype(int) for time in ("day", "night"))
    brighter = day.mean() > night.mean() + 20
    assert brighter == (place not in ("space", "underwater"))


def test_every_place_time_and_weather_has_a_painter_and_words_in_three_languages():
    assert set(PAINTERS) == set(PLACES)
    for words in (wordings.PLACE_JA, wordings.PLACE_EN, wordings.AT_PLACE_EN, wordings.PLACE_ZH):
        assert set(words) == set(PLACES)
    for words in (wordings.TIME_JA, wordings.TIME_EN, wordings.AT_TIME_EN, wordings.TIME_ZH):
        assert set(words) == set(TIMES)
    for words in (wordings.WEATHER_JA, wordings.WEATHER_EN, wordings.IN_WEATHER_EN, wordings.WEATHER_ZH):
        assert set(words) == set(WEATHERS)


def test_concepts_are_at_least_400_and_no_name_means_two_things():
    concepts = load_concepts().values()
    assert len(concepts) >= 400
    for language in ("en", "ja"):
        names = Counter(name for concept in concepts for name in set(getattr(concept, language)))
        assert [name for name, number in names.items() if number > 1] == []


def test_captions_say_the_facts_they_mention_and_only_true_ones():
    rng, table = random.Random(2), load_concepts()
    for _ in range(300):
        scene = compose_scene(rng)
        mention = choose_mention(rng, scene)
        assert set(mention.facts) <= set(list_facts(scene))
        japanese = write_caption(rng, mention, "ja")
        assert all(any(name in japanese for name in table[concept].ja) for concept in mention.concepts)
        english = write_caption(rng, mention, "en")
        for concept in mention.concepts:
            words = {form for name in table[concept].en for form in (name, wordings.make_plural(name))}
            assert any(word in english for word in words)


@pytest.mark.parametrize(
    ("one", "many"),
    [("cat", "cats"), ("box", "boxes"), ("strawberry", "strawberries"),
     ("glasses", "glasses"), ("monkey", "monkeys"), ("sheep", "sheep"), ("dish", "dishes")],
)  # fmt: skip
def test_plurals_read_like_english(one, many):
    assert wordings.make_plural(one) == many


def test_counted_captions_hold_the_number():
    rng = random.Random(4)
    for language, number in (("ja", "[2二２]"), ("en", "two|2|pair"), ("zh", "两")):
        caption = write_caption(rng, Mention(("dog",), 2), language)
        assert re.search(number, caption)


def test_training_scenes_never_hold_what_the_evaluation_asks():
    rng = random.Random(8)
    for _ in range(300):
        scene = compose_scene(rng)
        assert not any(is_held_out(concept, scene.place, scene.time) for concept in scene.concepts)
    for scene in compose_gallery(100):
        assert is_held_out(scene.items[0].concept, scene.place, scene.time)


def test_rank_of_a_query_is_that_of_its_best_right_hit():
    scores = np.array([0.1, 0.9, 0.5, 0.4], dtype=np.float32)
    assert find_first_right(scores, np.array([True, False, False, True])) == 2


def test_images_holds_the_listed_samples():
    assert {file.name for file in (ROOT / "images").iterdir()} >= {sample.file_name for sample in SAMPLES}
    assert sum((ROOT / "images" / sample.file_name).stat().st_size for sample in SAMPLES) < 6_000_000


WORDS = {
    "IMG_7101.jpg": "ポイ捨て禁止", "IMG_7102.jpg": "NO PARKING", "IMG_7103.jpg": "立入禁止", "IMG_7104.jpg": "領収書",
    "IMG_7105.jpg": "INV-2024-0815", "screenshot-1.png": "ORA-00923", "slide-1.png": "前年比",
}  # fmt: skip


@pytest.mark.parametrize("name", TEXT_SAMPLES)
def test_sample_with_words_holds_them_and_is_small(name, recognizer):
    path = ROOT / "images" / name
    assert path.stat().st_size < 60_000
    assert WORDS[name] in join_lines(recognizer.recognize(open_image(path)), only_sure=True)


def test_samples_with_words_are_drawn_again_as_they_are(tmp_path):
    for name in TEXT_SAMPLES:
        write_text_sample(name, tmp_path)
        drawn, kept = (Image.open(folder / name).convert("RGB") for folder in (tmp_path, ROOT / "images"))
        assert np.abs(np.asarray(drawn, np.float32) - np.asarray(kept, np.float32)).mean() < 2


def pick(extra: str) -> Sample:
    return next(sample for sample in SAMPLES if sample.extra == extra)


def test_generated_samples_carry_their_prompt(tmp_path):
    for extra, chunk in (("a1111", "parameters"), ("comfyui", "workflow")):
        sample = pick(extra)
        write_sample(sample, tmp_path)
        with Image.open(tmp_path / sample.file_name) as image:
            text = image.text
        assert chunk in text
        names = load_concepts()[sample.concepts[0]].en
        prompt = text.get("prompt", text.get("parameters", ""))
        assert any(name in prompt or wordings.make_plural(name) in prompt for name in names)


def test_sample_with_an_orientation_stands_upright_when_it_is_honoured():
    turned = 0
    for sample in (s for s in SAMPLES if s.extra == "exif"):
        image = Image.open(io.BytesIO((ROOT / "images" / sample.file_name).read_bytes()))
        upright = ImageOps.exif_transpose(image)
        turned += image.getexif().get(0x0112, 1) != 1
        wide, tall = compose_sample(sample).aspect
        assert abs(upright.width / upright.height - wide / tall) < 0.02
        assert image.getexif().get_ifd(0x8769)[0x9003]
    assert turned >= 5
