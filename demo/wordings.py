"""The words for places, times, weathers and numbers, and the phrases around them."""

PLACE_JA = {
    "sea": ("海", "海辺", "浜辺", "ビーチ", "砂浜", "うみ"),
    "mountain": ("山", "山々", "山岳", "やま"),
    "forest": ("森", "林", "森林", "森の中", "もり"),
    "city": ("街", "都会", "町", "都市", "ビル街", "まち"),
    "desert": ("砂漠", "砂丘", "さばく"),
    "snowfield": ("雪原", "雪景色", "雪山", "雪の野原"),
    "meadow": ("草原", "野原", "花畑", "原っぱ"),
    "river": ("川", "川辺", "小川", "河原", "かわ"),
    "ricefield": ("田んぼ", "畑", "田園", "水田"),
    "space": ("宇宙", "宇宙空間", "うちゅう"),
    "room": ("部屋", "室内", "部屋の中", "へや"),
    "underwater": ("海の中", "海中", "水中", "海底"),
}
PLACE_EN = {
    "sea": ("sea", "beach", "ocean", "seaside"),
    "mountain": ("mountain", "mountains"),
    "forest": ("forest", "woods"),
    "city": ("city", "town", "street"),
    "desert": ("desert", "sand dunes"),
    "snowfield": ("snowfield", "snowy field", "snowy landscape"),
    "meadow": ("meadow", "grassland", "flower field"),
    "river": ("river", "riverside", "stream"),
    "ricefield": ("rice field", "rice paddy", "farm", "field"),
    "space": ("space", "outer space"),
    "room": ("room", "indoors"),
    "underwater": ("underwater", "undersea"),
}
AT_PLACE_EN = {
    "sea": ("by the sea", "at the beach", "on the beach", "by the ocean", "at sea", "at the seaside", "in the sea"),
    "mountain": ("in the mountains", "on a mountain", "on the mountain", "with mountains"),
    "forest": ("in the forest", "in a forest", "in the woods"),
    "city": ("in the city", "in a city", "in town", "on the street"),
    "desert": ("in the desert", "in a desert", "on sand dunes"),
    "snowfield": ("in a snowfield", "on a snowy field", "in a snowy landscape", "on the snowfield"),
    "meadow": ("in a meadow", "in the meadow", "on the grassland", "in a flower field", "on the grass"),
    "river": ("by the river", "by a river", "at the riverside", "by a stream"),
    "ricefield": ("in a rice field", "in the rice paddy", "on a farm", "in the field"),
    "space": ("in space", "in outer space"),
    "room": ("in a room", "in the room", "indoors", "inside"),
    "underwater": ("underwater", "under the sea", "under water"),
}
PLACE_ZH = {
    "sea": ("海边", "大海", "沙滩"), "mountain": ("山", "山里"), "forest": ("森林", "树林"), "city": ("城市", "街道"),
    "desert": ("沙漠",), "snowfield": ("雪地", "雪原"), "meadow": ("草原", "草地"), "river": ("河边", "河流"),
    "ricefield": ("稻田", "田野"), "space": ("太空", "宇宙"), "room": ("房间", "室内"), "underwater": ("水下", "海底"),
}  # fmt: skip

TIME_JA = {
    "day": ("昼", "昼間", "日中", "ひる"),
    "dusk": ("夕焼け", "夕方", "夕暮れ", "日没", "夕日", "ゆうやけ"),
    "night": ("夜", "夜中", "夜間", "よる", "真夜中"),
}
TIME_EN = {"day": ("day", "daytime"), "dusk": ("sunset", "dusk", "evening"), "night": ("night", "nighttime")}
AT_TIME_EN = {
    "day": ("in the daytime", "by day", "during the day"),
    "dusk": ("at sunset", "at dusk", "in the evening", "in the sunset"),
    "night": ("at night", "by night", "during the night", "in the night"),
}
TIME_ZH = {"day": ("白天",), "dusk": ("黄昏", "傍晚", "夕阳"), "night": ("夜晚", "晚上", "夜里")}

WEATHER_JA = {
    "clear": ("晴れ", "晴天", "晴れた日"),
    "rain": ("雨", "雨の日", "雨降り", "あめ"),
    "snow": ("雪", "雪の日", "雪降り", "ゆき"),
    "fog": ("霧", "霧の日", "もや"),
}
WEATHER_EN = {
    "clear": ("clear", "sunny"),
    "rain": ("rain", "rainy"),
    "snow": ("snow", "snowy"),
    "fog": ("fog", "foggy", "mist"),
}
IN_WEATHER_EN = {
    "clear": ("in clear weather", "under a clear sky"),
    "rain": ("in the rain", "on a rainy day", "when it rains"),
    "snow": ("in the snow", "on a snowy day", "in falling snow"),
    "fog": ("in the fog", "in the mist", "on a foggy day"),
}
WEATHER_ZH = {"clear": ("晴天",), "rain": ("雨天", "下雨"), "snow": ("下雪", "雪天"), "fog": ("雾", "雾天")}

# Objects in a clear sky, by time and weather.
SKY_JA = {
    ("day", "clear"): ("太陽", "青空"),
    ("dusk", "clear"): ("夕日", "夕焼け空"),
    ("night", "clear"): ("月", "星空", "星", "夜空"),
}
SKY_EN = {
    ("day", "clear"): ("sun", "blue sky"),
    ("dusk", "clear"): ("setting sun", "sunset sky"),
    ("night", "clear"): ("moon", "stars", "starry sky", "night sky"),
}

COUNTERS_JA = {
    "animal": ("匹", "頭", "羽"),
    "person": ("人",),
    "face": ("人", "つ", "個"),
    "vehicle": ("台", "隻", "機"),
    "plant": ("本", "つ"),
    "building": ("軒", "つ"),
    "food": ("個", "つ", "本"),
}
OTHER_COUNTERS_JA = ("個", "つ", "本")
NUMBER_JA = {2: ("2", "二", "２"), 3: ("3", "三", "３")}
NUMBER_EN = {2: ("two", "2", "a pair of"), 3: ("three", "3")}
NUMBER_ZH = {2: "两", 3: "三"}

PREFIX_EN = (
    "a photo of", "picture of", "a picture of", "photo of", "an image of", "image of", "drawing of",
    "an illustration of", "pictures of", "photos of",
)  # fmt: skip
SUFFIX_EN = ("photo", "picture", "image", "illustration")
SUFFIX_JA = ("の写真", "の画像", "の絵", "のイラスト", "が写っている写真", "の風景")

IRREGULAR_PLURALS = {
    "mouse": "mice", "sheep": "sheep", "deer": "deer", "fish": "fish", "wolf": "wolves", "child": "children",
    "snowman": "snowmen",
    "person": "people", "tooth": "teeth", "foot": "feet", "knife": "knives", "leaf": "leaves",
    "scarf": "scarves", "squid": "squid", "shrimp": "shrimp", "bison": "bison", "buffalo": "buffaloes",
    "potato": "potatoes", "tomato": "tomatoes", "octopus": "octopuses",
}  # fmt: skip


def make_plural(name: str) -> str:
    """The plural of an English name; good enough for search words ("mice", "cherries", "boxes")."""
    head, _, last = name.rpartition(" ")
    if last in IRREGULAR_PLURALS:
        last = IRREGULAR_PLURALS[last]
    elif last.endswith(("s", "x", "ch", "sh", "z")):
        last = last if last.endswith("s") and not last.endswith("ss") else last + "es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{head} {last}".strip()
