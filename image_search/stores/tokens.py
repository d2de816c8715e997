"""Words as they are looked up: texts and terms in one spelling, and the tokens made of them.

Characters that are alike are compared as one. Dropped: what shows nothing, marks above and below letters, vowel points,
tones of skin. The rest is Unicode's NFKC with case folding (UAX #15, UAX #31), and the tables below. Not alike:
hiragana and katakana, large and small kana, the long vowel and a dash, simplified and traditional Chinese.

A change of what normalise_text gives is a change of TOKEN_RULE, which libraries keep.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from unicodedata import combining, normalize

from image_search.errors import SchemaError

# Joiners, variation selectors, soft hyphen, marks of direction (default ignorable), and the five tones of skin.
_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U0001f3fb-\U0001f3ff"
    "\U000e0000-\U000e0fff]"
)
# Combining marks of Latin, Greek and Cyrillic letters and of symbols; points and tatweel of Hebrew and Arabic. Not the
# stroke of ≠ (U+0338), nor what makes another letter of one: kana, Indic and Thai marks.
_MARKS = re.compile(
    "[\u0300-\u0337\u0339-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f"
    "\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u08d3-\u08e1\u08e3-\u08ff\u1ab0-\u1aff\u1dc0-\u1dff"
    "\u20d0-\u20ff\ufe20-\ufe2f]"
)
# Longer runs of marks than any text has (UAX #15, Stream-Safe Text): normalize sorts them, in quadratic time.
_LONG_RUN = re.compile("(?:[^\\w\\s\x00-\x7f]|[\uff9e\uff9f]){31,}")
_ESCAPE = re.compile(r"(?<!\\)\\++(?=[()\[\]{}:<>])")  # prompts write \( for a bracket that is no weight

# Of these NFKC would make a blank with a mark, two primes, or letters that belong to the word before.
_BEFORE = str.maketrans(
    {"´": "'", "˜": "~", "˚": "°", "″": '"', "゛": "\u3099", "゜": "\u309a", "™": "", "℠": "", "®": ""}
)

# One character, and those that people write for it. Letters as in the Unicode CLDR's Latin-ASCII, and for Arabic as in
# Apache Lucene's ArabicNormalizer and PersianNormalizer.
_ALIKE = {
    " ": "_",
    "'": "‘’‚‛′ʹʻʼʽ`׳",
    '"': "“”„‟〝〞〟״",
    "-": "‐‒–—―−⁃─━֊־",
    "~": "〜∼⁓",
    "・": "·‧•∙⋅",
    "/": "⁄∕",
    "=": "゠",
    "〇": "○◯",
    "ケ": "ヶ",
    "カ": "ヵ",
    "け": "ゖ",
    "か": "ゕ",
    "ae": "æ",
    "d": "đð",
    "h": "ħ",
    "i": "ı",
    "l": "ł",
    "n": "ŋ",
    "o": "ø",
    "oe": "œ",
    "t": "ŧ",
    "th": "þ",
    "ا": "ٱ",
    "ي": "ىی",
    "ك": "ک",
    "ه": "ة",
}

# The old form of a kanji, which stands for no other word, and the one of today.
_KANJI = (
    # Old forms in the list of kanji for general use (常用漢字表, Cabinet Notice 2 of 2010), and more of the kind from
    # OpenCC's JPVariants.txt.
    "乘乗亂乱亙亘亞亜佛仏來来假仮傳伝僞偽價価儉倹兒児內内兩両剩剰劍剣劑剤勞労勳勲勵励勸勧區区卷巻卻却參参咒呪啞唖"
    "單単噓嘘嚙噛嚴厳囑嘱圈圏國国圍囲圓円圖図團団增増墮堕壓圧壘塁壞壊壤壌壯壮壹壱壽寿奧奥奬奨孃嬢學学寢寝實実寫写"
    "寬寛寶宝將将專専對対屆届屬属峯峰峽峡嶽岳巖巌巢巣帶帯廁厠廢廃廣広廳庁彈弾彌弥彎弯彥彦徑径從従徵徴德徳恆恒悅悦"
    "惠恵惡悪惱悩慘惨應応懷懐戀恋戰戦戲戯戶戸戾戻拂払拔抜拜拝挾挟插挿揭掲搔掻搖揺搜捜摑掴擇択擊撃擔担據拠擴拡攝摂"
    "攪撹收収效効敕勅敘叙數数斷断晚晩晝昼曆暦曉暁曾曽會会條条棧桟榮栄樂楽樓楼樞枢樣様橫横檢検櫻桜權権歐欧歡歓步歩"
    "歲歳歷歴歸帰殘残殼殻毆殴每毎氣気污汚沒没涉渉淚涙淨浄淺浅渴渇溪渓溫温溼湿滯滞滿満潛潜澀渋澤沢濟済濱浜瀧滝瀨瀬"
    "灣湾燈灯燒焼營営爐炉爭争爲為牀床犧犠狀状狹狭獨独獵猟獸獣獻献瓣弁產産畫画當当疊畳痹痺瘦痩癡痴發発盜盗盡尽碎砕"
    "祕秘祿禄禪禅禮礼禱祷稅税稱称稻稲穗穂穩穏穰穣竊窃粹粋絕絶絲糸經経綠緑緖緒緣縁縣県縱縦總総繡繍繩縄繪絵繼継續続"
    "纖繊缺欠罐缶羣群聰聡聲声聽聴肅粛脫脱腦脳腳脚膽胆臟臓臺台與与舉挙舊旧莊荘莖茎萬万蔣蒋蔥葱薰薫藏蔵藝芸藥薬蘆芦"
    "處処虛虚號号螢蛍蟲虫蠟蝋蠶蚕蠻蛮裝装覺覚覽覧觀観觸触說説謠謡證証譯訳譽誉讀読變変讓譲豐豊豫予貓猫貳弐賣売賴頼"
    "贊賛贗贋踐践輕軽轉転辨弁辭辞辯弁遞逓遲遅邊辺鄉郷醉酔醫医醬醤釀醸釋釈錄録錢銭鍊錬鐵鉄鑄鋳鑛鉱閱閲關関陷陥隨随"
    "險険隱隠雙双雜雑雞鶏霸覇靈霊靜静顏顔顯顕餘余騷騒驅駆驗験驛駅髓髄體体髮髪鬥闘鷗鴎鹼鹸鹽塩麥麦麴麹黃黄黑黒默黙"
    "點点黨党齊斉齋斎齒歯齡齢龍竜龜亀粵粤鄰隣舍舎敍叙竝並靑青淸清眞真卽即旣既槪概隸隷鷄鶏濕湿飮飲餠餅敎教强強尙尚"
    "姬姫剝剥塡填頰頬麵麺俠侠繫繋蟬蝉壻婿鄕郷愼慎鎭鎮鬪闘澁渋衞衛硏研倂併甁瓶屛屏郞郎"
    # The list of kanji for given names (戸籍法施行規則, table 2), and variants that family names are registered with.
    "嶋島冨富埜野薗園駈駆盃杯凉涼飜翻槇槙堯尭遙遥瑤瑶凜凛晄晃檜桧禰祢萠萌髙高﨑崎嵜崎𠮷吉邉辺濵浜嶌島舘館桒桑栁柳"
    # Radicals, which PDF files have for the kanji (Unicode's EquivalentUnifiedIdeograph.txt).
    "⺠民⻁虎⻄西⻑長⻘青⻝食⻤鬼⻨麦⻩黄⻫斉⻭歯⻯竜⻲亀⻣骨⺩王"
)

_ZEROS = "\u0660\u06f0\u07c0\u0966\u09e6\u0a66\u0ae6\u0b66\u0be6\u0c66\u0ce6\u0d66\u0e50\u0ed0\u0f20\u1040\u17e0\u1810"
_FOLDED = str.maketrans(
    {variant: letter for letter, variants in _ALIKE.items() for variant in variants}
    | dict(zip(_KANJI[::2], _KANJI[1::2], strict=True))
    | {chr(ord(zero) + digit): str(digit) for zero in _ZEROS for digit in range(10)}
)
_FOLDED_ASCII = str.maketrans("_`", " '")


def normalise_text(text: str) -> str:
    """A text as it is compared. Doing it twice is doing it once."""
    if text.isascii():
        folded = text.lower().translate(_FOLDED_ASCII)
    else:
        visible = _LONG_RUN.sub(_drop_marks, _IGNORABLE.sub("", text).translate(_BEFORE))
        letters = _MARKS.sub("", normalize("NFKD", visible))
        folded = normalize("NFKC", letters.casefold().translate(_FOLDED))
    return _ESCAPE.sub("", folded)


def _drop_marks(run: re.Match[str]) -> str:
    return "".join(character for character in run.group() if not combining(normalize("NFKD", character)[0]))


# Tokens: one rule for all engines, for stored texts and for queries.
#
# Japanese is written without spaces, and word indexes of databases either cut it by dictionary (and then miss what the
# dictionary does not know) or by three characters (and then miss 猫). Here every character of such a script becomes one
# token: itself and the character after it. A term of n characters is then found as a phrase of its n-1 pairs, wherever
# it occurs, and a single character as the beginning of a pair. Letters and digits make one token for each run. A term
# that is one run of two or more letters or digits is found as the beginning of a run: cat in cats and cat01.png, not
# in education. In a longer term every run is whole: "black cat" does not find black cats. Everything else that is not
# blank is a token by itself.
#
# Tokens hold letters, digits and characters above 127 only: no query language gives them a meaning.

# The version of this rule, to be raised with every change of what make_index_tokens, tokenize_document or split_text
# gives. A library keeps that of its tokens as the setting TOKEN_SETTING; an older one is brought up to date when it is
# opened.
TOKEN_RULE = 2
TOKEN_SETTING = "token_rule"
BEGUN = f"{TOKEN_RULE} begun"  # until all tokens are of this rule, on engines that write them batch by batch

# Scripts written without spaces: Thai, Lao, Myanmar, Khmer; Chinese, Japanese and Korean with their punctuation.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fff\u3001-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_STARTS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_PIECES = re.compile(rf"[{_UNSPACED}]+|[^\W\d_{_UNSPACED}]+|\d+|\S")
_BOUNDARY = "\ue0ff"  # private use: between fields, so that no phrase reaches from one into the next
_SYMBOLS = 0xE000  # ASCII symbols move here, out of reach of query languages
_PRIVATE = 0x100000  # and by so much what stands there already


def has_old_tokens(kept: str | None, location: str) -> bool:
    """Whether tokens of a library are of an older rule. kept: its TOKEN_SETTING.

    Raises SchemaError for a newer rule.
    """
    rule, _, is_begun = (kept or "1").partition(" ")
    if int(rule) > TOKEN_RULE:
        raise SchemaError(
            f"The words of {location} are indexed by rule {rule}; this program knows up to {TOKEN_RULE}. "
            "Update the program."
        )
    return int(rule) < TOKEN_RULE or bool(is_begun)


def make_index_tokens(fields: Iterable[str | None]) -> str:
    """The tokens of all fields of an image, separated by blanks."""
    return f" {_BOUNDARY} ".join(" ".join(_cut(field)) for field in fields if field)


@lru_cache(maxsize=1024)  # a search asks twice for each of its words
def make_query_tokens(word: str) -> tuple[tuple[str, ...], bool]:
    """The tokens that must follow one another where this word occurs, and whether the last is only a beginning.

    () for a word without any visible character.
    """
    tokens = tuple(_cut(word))
    if not tokens:
        return (), False
    if not is_unspaced(tokens[-1]):
        return tokens, len(tokens) == 1 and is_beginning(tokens[0])
    # The last character of a Japanese word: its pair reaches beyond the word. The pair before already contains it.
    if len(tokens) > 1 and len(tokens[-2]) == 2 and is_unspaced(tokens[-2]):
        return tokens[:-1], False
    return tokens, True


def is_beginning(piece: str) -> bool:
    """Whether a term that is this piece alone is found as the beginning of a run: letters or digits, two or more."""
    return len(piece) > 1 and piece.isalnum() and not is_unspaced(piece)


def make_phrases(terms: Iterable[str]) -> list[str]:
    """The terms as contains_phrase looks for them, made once for all texts."""
    asked = map(make_query_tokens, terms)
    return [" ".join(("", *tokens)) + ("" if is_start else " ") for tokens, is_start in asked if tokens]


def contains_phrase(text: str, phrases: Collection[str]) -> bool:
    """Whether a term that one of the phrases was made of occurs in recognised text, as the engines look it up."""
    tokens = f" {' '.join(_cut(join_recognized(text)))} "
    return any(phrase in tokens for phrase in phrases)


def join_recognized(text: str) -> str:
    """Recognised text as it is searched: a Japanese word goes on over the end of a line, and blanks in it are none."""
    one_line = " ".join(text.split())
    return re.sub(rf"(?<=[{_UNSPACED}]) (?=[{_UNSPACED}])", "", one_line)


def split_text(text: str) -> list[str]:
    """The pieces of a text, normalised: runs of an unspaced script, runs of letters, runs of digits, single symbols."""
    return _PIECES.findall(normalise_text(text))


def is_unspaced(piece: str) -> bool:
    """Whether a piece belongs to a script that is written without spaces."""
    return bool(_STARTS_UNSPACED.match(piece))


def _cut(text: str) -> list[str]:
    tokens: list[str] = []
    for piece in split_text(text):
        if is_unspaced(piece):
            tokens += [piece[i : i + 2] for i in range(len(piece))]
        elif "\ue000" <= piece <= _BOUNDARY:  # of a text, such as an emoji of old telephones
            tokens.append(chr(_PRIVATE + ord(piece)))
        elif piece.isalnum() or ord(piece[0]) > 127:
            tokens.append(piece)
        else:
            tokens.append(chr(_SYMBOLS + ord(piece)))
    return tokens


# Words for indexes that know nothing of languages: every text becomes a row of plain tokens, every word a phrase.
#
# Each character of a script written without spaces is a token by itself, so that a Japanese word is found wherever it
# occurs, down to one character, by the phrase search that every text index has. Runs of letters and of digits are one
# token, every other character is one, too.
#
# A token holds a-z and 0-9 only. No analyser cuts or changes it, and no query language gives it a meaning.

_GAP = " "  # between two runs of an unspaced script, which would else be one
_FIELD_BOUNDARY = "f0"  # between fields, so that no phrase reaches from one into the next
_MAX_TOKEN = 250  # characters; Elasticsearch's tokenizer cuts at 255


def tokenize_document(fields: Iterable[str | None]) -> str:
    """The tokens of all fields of an image, separated by blanks."""
    return f" {_FIELD_BOUNDARY} ".join(tokenize_query(field) for field in fields if field)


def tokenize_query(word: str) -> str:
    """The tokens that follow one another where this word occurs; "" for a word without any visible character.

    Where is_beginning_query(word), the one token is found as the beginning of another.
    """
    pieces: list[str] = []
    is_gap = False
    for piece in split_text(word):
        if not is_unspaced(piece):
            pieces.append(piece)
        else:
            pieces += [*([_GAP] if is_gap else []), *piece]
        is_gap = is_unspaced(piece)
    return " ".join(map(_spell, pieces))


def is_beginning_query(word: str) -> bool:
    """Whether this word is one run of letters or digits, which is found at the beginning of longer runs, too."""
    pieces = split_text(word)
    return len(pieces) == 1 and is_beginning(pieces[0])


def _spell(piece: str) -> str:
    # Runs are letters only or digits only, so that what has both can stand for everything else. The beginning of a run
    # of letters is spelt as the beginning of the run.
    if piece.isascii() and piece.isalnum():
        spelt = piece
    elif len(piece) == 1:
        spelt = f"c0{ord(piece):x}"
    elif piece.isalpha():
        spelt = ("" if piece[0].isascii() else "u4") + "".join(map(_spell_letter, piece))
    else:
        spelt = f"w0{piece.encode().hex()}"
    if len(spelt) <= _MAX_TOKEN:
        return spelt
    return spelt[: _MAX_TOKEN - 16] + hashlib.sha256(spelt.encode()).hexdigest()[:16]  # still found by its beginning


def _spell_letter(letter: str) -> str:
    number = ord(letter)
    if number < 0x80:
        return letter
    if number < 0x1000:
        return f"1{number:03x}"
    return f"2{number:04x}" if number < 0x10000 else f"3{number:06x}"
