"""Between containers and generators: the found texts as one mapping of keys to values, whatever carried them.

The same settings are a PNG chunk "prompt" in one file, "prompt:{...}" in the EXIF tag Make of another, and a key of a
JSON object in UserComment of a third. Here they all become the key "prompt".
"""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from itertools import product
from typing import Any

# How much is read of what a file offers, and how bytes become clean text, in bounded time and memory.

MAX_TEXT_BYTES = 4 << 20  # of one text chunk, decompressed; the largest ComfyUI graphs seen are below 2 MiB
MAX_TOTAL_BYTES = 16 << 20  # of all text chunks of one file
MAX_CHUNKS = 256  # text chunks of one file
MAX_KEPT_CHARACTERS = 256 << 10  # of one text kept beside the image; a longer one is cut with a note
MAX_DESCRIPTION_CHARACTERS = 64 << 10
MAX_BLOCK_BYTES = 4 << 20  # of one EXIF, XMP, IPTC or C2PA block

_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")
_ISO_2022_JP = re.compile(rb"\x1b\$[@B]")
_CONTROLS = re.compile("[\x01-\x08\x0e-\x1a\x1c-\x1f\x7f]")


def clean_text(text: str) -> str:
    """Remove NULs, control characters and halves of surrogate pairs; make line ends \\n. Blanks at the ends stay."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNWANTED.sub("", text)


# Encodings by language: a reading is right where its characters are those that the language uses.

_SAMPLE = 2000  # characters that are looked at
_KANA = re.compile("[ぁ-んァ-ヶー]")
_PLAIN = re.compile("[\t\r\n -~]")
_SIGNS = re.compile("[　-〗！-～･・]")
_NARROW_RUN = re.compile("[｡-ﾟ]+")
_NARROW_WORD = re.compile("(?:[｡-･]|(?:[ｳｶ-ﾄﾊ-ﾎ]ﾞ|[ﾊ-ﾎ]ﾟ|[ｦｱ-ﾝ])[ｧ-ｰ]*)+")
_JAPANESE = (
    "日一国人年大本中長出三時行見月後前生五間上東四今金九入学高円子外八六下来気小七山話女北午百書先名川千水半男西電校語"
    "土木聞食車何南万毎白天母火右読友左休父雨写真画像家族旅京都阪猫犬花海空雪春夏秋冬朝夕夜桜葉祭寺神社公園駅町湖島森草鳥"
    "魚馬赤青黒色街道橋店料理城富士庭港窓光影屋根和地方自動部屋新古会員物手目口足心音楽祝誕結婚式卒業運初紅清焼緑桃湯"
)
_SIMPLIFIED = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事"
    "成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此"
    "已工使情明性知全三又关点正业外将两高间由问很最重并物手应向头文体美相见被利什二等新身果加西月话合回特代内信表化老给世"
    "位次度门先海通教儿原东声提立及比员水名真走各入几口平气活打女变四神电安少才目太再市山金北京猫狗花雪景夜片照拍春夏秋冬"
    "湖岛树鸟鱼马红绿蓝黑白色街桥店城节婚睡觉沙滩边图像旅游"
)
_TRADITIONAL = (
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然家種事"
    "成方多經麼去法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日者意無力它與長把機十民第公此已"
    "工使情明性知全三又關點正業外將兩高間由問很最重並物手應向頭文體美相見被利什二等新身果加西月話合回特代內信表化老給世位"
    "次度門先海通教兒原東聲提立及比員水名真走各入幾口平氣活打女變四神電安少才目太再市山金北台臺灣貓狗花雪景夜片照拍春夏秋"
    "冬湖島樹鳥魚馬紅綠藍黑白色街橋店城節婚睡覺沙灘邊圖像旅遊香港"
)
_KOREAN = "이가은는을를의에서고다한하지도로나기사시자리어아라인있니들만그대해수일여보부제정주서울밤고양"
# Common characters by language: a codec with the first bytes that it gives them, and the most frequent ones.
_LANGUAGES = {
    "ja": ("cp932", 0x88, 0x98, frozenset(_JAPANESE)),
    "zh-Hans": ("gb2312", 0xB0, 0xD7, frozenset(_SIMPLIFIED)),
    "zh-Hant": ("big5", 0xA4, 0xC6, frozenset(_TRADITIONAL)),
    "ko": ("euc_kr", 0xB0, 0xC8, frozenset(_KOREAN)),
}
_ENCODINGS = {"cp932": "ja", "euc_jp": "ja", "gb18030": "zh-Hans", "big5": "zh-Hant", "cp949": "ko"}
_WIDE = ("utf-16-le", "utf-16-be")


def decode_text(data: bytes) -> str:
    """Bytes of unstated encoding: by a byte order mark, UTF-16 or UTF-8 where they can be it, else by the language.

    Japanese, Chinese and Korean share their bytes; the reading wins that has most of the characters which its language
    uses. Bytes that read as none of them are Western European.
    """
    return clean_text(_read_text(data[:MAX_TEXT_BYTES]))


def decode_text_file(data: bytes) -> str:
    """The same of a whole file; "" where its control characters say that it is no text."""
    text = _read_text(data[:MAX_TEXT_BYTES])
    head = text[:4096]
    return "" if len(_CONTROLS.findall(head)) * 20 > len(head) else clean_text(text)


def _read_text(data: bytes) -> str:
    if data[:4] in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return data.decode("utf-32", "replace")
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return data.decode("utf-16", "replace")
    if _ISO_2022_JP.search(data) and (text := _decode(data, "iso2022_jp")) is not None:
        return text
    wide = _find_wide(data)
    if not wide and (text := _decode_utf8(data)) is not None:
        return text
    readings = {wide: 1.0} if wide else {name: _rate(data, name) for name in (*_ENCODINGS, *_WIDE)}
    best = max(readings, key=lambda name: readings[name])
    if readings[best] <= 0:
        damaged = data.decode("utf-8", "replace")  # a few bytes that are wrong do not make it another encoding
        if damaged.count("\ufffd") * 20 < sum(not char.isascii() for char in damaged):
            return damaged
        if (text := _decode(data, "cp932")) and _is_narrow_kana(text):
            return text
    text = _decode(data, best if readings[best] > 0 else "cp1252")
    return data.decode("latin-1") if text is None else text


def _decode(data: bytes, encoding: str) -> str | None:
    """The text, None where the bytes are not of this encoding; the last character may be cut."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(data, final=len(data) < MAX_TEXT_BYTES)
    except (UnicodeDecodeError, ValueError):
        return None


def _decode_utf8(data: bytes) -> str | None:
    with suppress(UnicodeDecodeError):
        return data.decode("utf-8-sig")
    with suppress(UnicodeDecodeError):  # a field of fixed length may end inside a character
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(data)
        return None if text.isascii() else text
    return None


def _find_wide(data: bytes) -> str:
    """UTF-16 without a mark, by its zeros in every other byte or by its kana; "" for what is something else."""
    if len(data) < 4 or len(data) % 2:
        return ""
    zeros = data[:4096].count(0)
    if not zeros and data[:4096].count(0x30) * 4 < len(data[:4096]):
        return ""  # kana have 30 in one of their bytes
    for name in _WIDE:
        text = _decode(data[: 2 * _SAMPLE], name)
        if text is None or "\0" in text:
            continue
        kana, plain = len(_KANA.findall(text)), len(_PLAIN.findall(text))
        common = sum(_is_common(char, language) for char in set(text) for language in _LANGUAGES) if zeros else 0
        if zeros * 8 >= len(data[:4096]) and plain and plain + kana + common >= 0.6 * len(text):
            return name
        if len(text) >= 3 and 2 * kana >= len(text) and (kana + plain + len(_SIGNS.findall(text))) * 2 > len(text):
            return name
    return ""


def _is_narrow_kana(text: str) -> bool:
    """Whether a reading is Japanese in kana of half width, which are letters with accents in Western Europe.

    No kana of theirs begins with a mark or a small letter, and marks stand behind what can be voiced.
    """
    runs = _NARROW_RUN.findall(text)
    others = (char for char in text if not char.isascii() and not _NARROW_RUN.match(char))
    is_spelt = all(_NARROW_WORD.fullmatch(run) for run in runs)
    return is_spelt and max(map(len, runs), default=0) > 2 and all(_is_common(char, "ja") for char in others)


def _rate(data: bytes, encoding: str) -> float:
    """How well a reading fits the language of the encoding, 0 (not at all) to 1."""
    text = _decode(data, encoding)
    if text is None:
        return 0.0
    sample = text[:_SAMPLE]
    wide = [char for char in sample if not char.isascii()]
    letters = sum(char.isascii() and char.isalpha() for char in sample)
    languages = _LANGUAGES if encoding in _WIDE else (_ENCODINGS[encoding],)
    best = 0.0
    for language in languages:
        common = sum(_is_common(char, language) for char in wide)
        frequent = sum(_is_frequent(char, language) for char in wide)
        # A sign of Western Europe makes one character of two letters; it takes more to be a language.
        if (
            4 * frequent >= len(wide) > 0
            and common >= 0.8 * len(wide)
            and (3 * len(wide) >= letters or _KANA.search(sample))
        ):
            best = max(best, (common + frequent) / (2 * len(wide)))
    return best


@lru_cache(maxsize=20_000)
def _is_common(char: str, language: str) -> bool:
    codec, first, last, _ = _LANGUAGES[language]
    if _SIGNS.match(char) or (language == "ja" and _KANA.match(char)):
        return True
    try:
        return not char.isascii() and first <= char.encode(codec)[0] <= last
    except UnicodeEncodeError:
        return False


def _is_frequent(char: str, language: str) -> bool:
    return char in _LANGUAGES[language][3] or (language == "ja" and bool(_KANA.match(char)))


def decompress(data: bytes, window_bits: int = zlib.MAX_WBITS, limit: int = MAX_TEXT_BYTES) -> bytes:
    """The first bytes of a zlib (or, with window_bits 31, gzip) stream; of a broken one, what precedes the damage."""
    stream = zlib.decompressobj(window_bits)
    out = bytearray()
    # In small steps: zlib gives nothing of the step in which it finds the damage.
    for start in range(0, len(data), 1 << 14):
        try:
            out += stream.decompress(data[start : start + (1 << 14)], limit - len(out))
        except zlib.error:
            break
        if stream.eof or len(out) >= limit:
            break
    return bytes(out)


def cut_text(text: str, limit: int = MAX_KEPT_CHARACTERS) -> str:
    """The text, or its beginning with a note that it was cut."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n[cut: {limit} characters of {len(text)}]"


# Places of settings that are text or one JSON object, in the order of trust.
_CARRIERS = re.compile(
    r"(?:parameters|Comment|EXIF:(?:UserComment|ImageDescription|Make|Model|XPComment)|XMP:(?:UserComment|description)"
    r"|JPEG:Comment|GIF:Comment|stealth|sidecar:.*)(?: \(\d+\))?",
    re.DOTALL,
)
_PREFIX = re.compile(r"\s*(prompt|workflow|parameters)\s*:\s*(?=\{)", re.IGNORECASE)
_LOOKS_GENERATED = re.compile(r"negative prompt:|\bsteps:\s*\d+.*\b(?:sampler|seed|cfg scale|size):", re.I | re.S)

Fields = dict[str, Any]


def make_fields(texts: Mapping[str, str]) -> Fields:
    """Keys to values: text, or what JSON gives. PNG chunks keep their keyword; JSON objects are spread out.

    A key found twice keeps its first value: chunks before carriers, carriers in the order of the file. Settings written
    as plain text become the key "parameters". The objects themselves, if there are any, are the value of "objects".
    """
    fields: Fields = {name: text for name, text in texts.items() if ":" not in name}
    objects: list[dict[str, Any]] = []
    fields["objects"] = objects
    for name, text in texts.items():
        if not _CARRIERS.fullmatch(name):
            continue
        if prefix := _PREFIX.match(text):
            fields.setdefault(prefix[1].lower(), text[prefix.end() :])
        elif settings := load_object(text):
            objects.append(settings)
            for key, value in settings.items():
                fields.setdefault(key, value)
        elif name == "stealth" or _LOOKS_GENERATED.search(text[-8192:]):
            fields.setdefault("parameters", text)
    if not objects:
        del fields["objects"]
    if written := next((text for name, text in texts.items() if name.lower() == "parameters"), None):
        fields.setdefault("parameters", written)
    for place in ("XMP:description", "EXIF:ImageDescription", "IPTC:caption"):
        if "Job ID:" in texts.get(place, "")[-8192:]:  # Midjourney's
            fields.setdefault("Description", texts[place])
    for name, place in product(("Software", "CreatorTool", "Make", "Model", "MakerNote"), ("EXIF", "XMP")):
        if f"{place}:{name}" in texts:
            fields.setdefault(name, texts[f"{place}:{name}"])
    return fields


def load_object(value: Any) -> dict[str, Any] | None:
    """A JSON object, given as such or as text; None for anything else. Deep nesting and huge numbers are refused."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, str) or not value.lstrip("\ufeff \n\t").startswith("{"):
        return None
    try:
        loaded = json.loads(value.strip("\ufeff \n\t"))
    except (ValueError, RecursionError):
        return None
    return loaded if isinstance(loaded, dict) else None
