"""Queries that may be typed to find a scene: Japanese, English and simple Chinese, from one word to all the facts."""

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from demo import wordings as w
from demo.concepts import Concept, load_concepts
from demo.scenes import Scene

LANGUAGES = ("ja", "en", "zh")


@dataclass(frozen=True)
class Mention:
    """The facts of a scene that a caption speaks of; empty or 0 for what it leaves out."""

    concepts: tuple[str, ...] = ()
    count: int = 0
    place: str = ""
    time: str = ""
    weather: str = ""
    sky: bool = False

    @property
    def facts(self) -> tuple[str, ...]:
        """The names of the facts, as in `list_facts`."""
        named = [f"object:{concept}" for concept in self.concepts]
        named += [f"count:{self.count}"] if self.count > 1 else []
        named += [f"{kind}:{value}" for kind in ("place", "time", "weather") if (value := getattr(self, kind))]
        return tuple(named)


def list_facts(scene: Scene) -> tuple[str, ...]:
    """Everything true of a scene: object:cat, count:2, place:sea, time:night, weather:rain."""
    return Mention(scene.concepts, scene.count, scene.place, scene.time, scene.weather).facts


def is_wording_held_out(concept: str, wording: str) -> bool:
    """A quarter of the pairs of a thing and a phrase around it are never trained on ("の写真" with some things)."""
    return zlib.crc32(f"{concept}|{wording}".encode()) % 4 == 0


def choose_mention(rng: random.Random, scene: Scene) -> Mention:
    """Some of a scene's facts, as many as people tend to type."""
    number = len(scene.concepts)
    if rng.random() < 0.07:
        concepts: tuple[str, ...] = ()
    elif number == 1 or rng.random() < 0.45:
        concepts = (rng.choice(scene.concepts),)
    else:
        concepts = tuple(rng.sample(scene.concepts, rng.randint(2, number)))
    place = scene.place if rng.random() < 0.5 else ""
    time = scene.time if rng.random() < 0.45 else ""
    weather = scene.weather if rng.random() < (0.35 if scene.weather != "clear" else 0.06) else ""
    count = scene.count if scene.count > 1 and concepts and rng.random() < 0.6 else 0
    if not concepts and not place and not time and not weather:
        place = scene.place
    if not concepts and scene.weather == "clear" and rng.random() < 0.15:
        return Mention((), 0, "", scene.time, "clear", sky=True)
    return Mention(concepts, count, place, time, weather)


def write_caption(rng: random.Random, mention: Mention, language: str, held_out: bool = False) -> str:
    """One wording of what is mentioned. `held_out`: only phrases never trained on with this thing."""
    if language == "ja":
        return _write_ja(rng, mention, held_out)
    return _write_en(rng, mention, held_out) if language == "en" else _write_zh(rng, mention)


def _choose_phrase(rng: random.Random, phrases: Sequence[str], mention: Mention, held_out: bool) -> str:
    """A phrase to put around the words, or an empty one."""
    concept = mention.concepts[0] if mention.concepts else ""
    if not held_out and rng.random() < 0.6:
        return ""
    fitting = [p for p in phrases if is_wording_held_out(concept, p) == held_out]
    return rng.choice(fitting) if fitting else ""


def _name_ja(rng: random.Random, concept: Concept, count: int) -> str:
    name = rng.choice(concept.ja)
    if count < 2:
        return name
    counter = rng.choice(w.COUNTERS_JA.get(concept.group, w.OTHER_COUNTERS_JA))
    number = rng.choice(w.NUMBER_JA[count])
    return rng.choice((f"{number}{counter}の{name}", f"{name}{number}{counter}", f"{name}が{number}{counter}"))


def _write_ja(rng: random.Random, mention: Mention, held_out: bool) -> str:
    if mention.sky:
        return rng.choice(w.SKY_JA[(mention.time, "clear")]) + _choose_phrase(rng, w.SUFFIX_JA, mention, held_out)
    table = load_concepts()
    things = [_name_ja(rng, table[c], mention.count) for c in mention.concepts]
    joined = rng.choice(("と", "と", "、", " ", "や")).join(things)
    around = []
    if mention.weather:
        around.append(rng.choice(w.WEATHER_JA[mention.weather]))
    if mention.time:
        around.append(rng.choice(w.TIME_JA[mention.time]))
    rng.shuffle(around)
    if mention.place:
        around.insert(len(around) if rng.random() < 0.75 else 0, rng.choice(w.PLACE_JA[mention.place]))
    suffix = _choose_phrase(rng, w.SUFFIX_JA, mention, held_out)
    if not around:
        return joined + suffix
    where = rng.choice(("の", "の", "の", " ")).join(around)
    if not joined:
        return where + suffix
    alive = table[mention.concepts[0]].group in ("animal", "person")
    living = "いる" if alive else "ある"
    return rng.choice((
        f"{where}の{joined}", f"{where}の{joined}", f"{where}と{joined}", f"{joined}と{where}", f"{where} {joined}",
        f"{joined} {where}", f"{where}に{living}{joined}", f"{where}で{joined}", f"{where}、{joined}",
    )) + suffix if rng.random() < 0.9 else f"{where}に{joined}が{living}"  # fmt: skip


def _name_en(rng: random.Random, concept: Concept, count: int) -> str:
    name = rng.choice(concept.en)
    if count >= 2:
        return f"{rng.choice(w.NUMBER_EN[count])} {w.make_plural(name)}"
    article = "an" if name[0] in "aeiou" else "a"
    return rng.choice((name, name, f"{article} {name}", f"{article} {name}", f"the {name}", w.make_plural(name)))


def _write_en(rng: random.Random, mention: Mention, held_out: bool) -> str:
    if mention.sky:
        words = rng.choice(w.SKY_EN[(mention.time, "clear")])
        return f"{_choose_phrase(rng, w.PREFIX_EN, mention, held_out)} {words}".strip()
    table = load_concepts()
    things = [_name_en(rng, table[c], mention.count) for c in mention.concepts]
    joined = rng.choice((" and ", " and ", ", ", " ", " with ")).join(things)
    if rng.random() < 0.6 and joined:
        around = [rng.choice(w.AT_PLACE_EN[mention.place])] if mention.place else []
        around += [rng.choice(w.AT_TIME_EN[mention.time])] if mention.time else []
        around += [rng.choice(w.IN_WEATHER_EN[mention.weather])] if mention.weather else []
        rng.shuffle(around)
        text = " ".join([joined, *around] if rng.random() < 0.85 else [*around, joined])
    else:
        words = [rng.choice(w.TIME_EN[mention.time])] if mention.time else []
        words += [rng.choice(w.WEATHER_EN[mention.weather])] if mention.weather else []
        words += [rng.choice(w.PLACE_EN[mention.place])] if mention.place else []
        rng.shuffle(words)
        text = " ".join(([*words, joined] if rng.random() < 0.5 else [joined, *words]) if joined else words)
    if not held_out and rng.random() < 0.06:
        return f"{text} {rng.choice(w.SUFFIX_EN)}"
    return f"{_choose_phrase(rng, w.PREFIX_EN, mention, held_out)} {text}".strip()


def _write_zh(rng: random.Random, mention: Mention) -> str:
    table = load_concepts()
    things = [rng.choice(table[c].zh or table[c].ja) for c in mention.concepts]
    if mention.count > 1:
        things = [f"{w.NUMBER_ZH[mention.count]}{rng.choice('只个')}{thing}" for thing in things]
    around = [rng.choice(w.TIME_ZH[mention.time])] if mention.time else []
    around += [rng.choice(w.WEATHER_ZH[mention.weather])] if mention.weather else []
    around += [rng.choice(w.PLACE_ZH[mention.place])] if mention.place else []
    words = "的".join([*around, "和".join(things)] if things else around)
    return words + rng.choice(("", "", "", "的照片", "的图片"))
