"""Every word shown to a person, in Japanese and in English."""

from __future__ import annotations

import re
from typing import Literal

from image_search.errors import (
    ImageNotFound,
    ImageSearchError,
    ModelUnavailable,
    StoreUnavailable,
    TextNotSupported,
    UnreadableImage,
)

Language = Literal["ja", "en"]

MESSAGES: dict[str, tuple[str, str]] = {
    # key: (Japanese, English)
    "title": ("類似画像検索", "Image Search"),
    "connection_lost": (
        "プログラムとの接続が切れました。つながり次第、再開します。",
        "The connection to the program is lost. The page goes on as soon as it is back.",
    ),
    "tagline": ("言葉でも画像でも、近い画像が見つかります。", "Find the nearest pictures, by words or by a picture."),
    "demo_model": (
        "デモモデルは見本のような描かれた場面だけを知っています。写真には .env の EMBEDDING_MODEL を変えてください。",
        "The demo model knows drawn scenes like the samples only. For photographs change EMBEDDING_MODEL in .env.",
    ),
    "text_label": ("検索テキスト", "Words"),
    "text_placeholder": ("例：夕焼けの海", "e.g. sunset over the sea"),
    "image_label": ("検索画像", "Picture"),
    "search": ("検索", "Search"),
    "clear": ("クリア", "Clear"),
    "more": ("もっと見る", "Show more"),
    "latest": ("新着画像", "Newest pictures"),
    "results": ("検索結果", "Results"),
    "library": ("{total}枚", "{total} pictures"),
    "timing": (
        "{total}枚から {ms} ms（符号化 {encode}、検索 {search}）",
        "from {total} pictures in {ms} ms (encoding {encode}, search {search})",
    ),
    "distance": ("ベクトル距離（-1 × 内積）", "Vector distance (-1 × inner product)"),
    "distance_short": ("距離", "distance"),
    "file_name": ("ファイル名", "File name"),
    "prompt": ("画像生成プロンプト", "Generation prompt"),
    "caption": ("キャプション", "Caption"),
    "negative_prompt": ("ネガティブプロンプト", "Negative prompt"),
    "generation": ("生成設定", "Generation settings"),
    "whole_prompt": ("元のテキスト", "Original text"),
    "copy": ("コピー", "Copy"),
    "found_by": ("見つかり方", "Found by"),
    "keywords": ("キーワード", "Keywords"),
    "keywords_placeholder": ("1行に1つ（例：旅行）", "one a line, e.g. travel"),
    "save": ("保存", "Save"),
    "saved": ("保存しました", "Saved"),
    "camera": ("カメラ", "Camera"),
    "delete": ("削除…", "Delete…"),
    "delete_question": (
        "この画像をごみ箱に移します。フォルダーにある元のファイルは残ります。",
        "This moves the picture to the trash. The file in its folder stays.",
    ),
    "delete_now": ("削除する", "Delete it"),
    "deleted": ("{name} を削除しました", "{name} was deleted"),
    "upkeep": ("画像の追加・整理", "Add and tidy up"),
    "add_pictures": ("画像を追加（複数可・貼り付け可）", "Add pictures (several at once; paste works, too)"),
    "refused_count": ("{count}件のファイルは登録できませんでした", "{count} files could not be registered"),
    "registered_count": (
        "{registered}枚を登録しました（登録済み {known}枚）",
        "Registered {registered}, already known {known}",
    ),
    "find_duplicates": ("重複している画像を探す", "Find duplicate pictures"),
    "comparing": ("画像を比べています（{done} / {count}）", "Comparing pictures ({done} of {count})"),
    "duplicates": ("重複の候補", "Possible duplicates"),
    "duplicate_groups": ("{count}組", "{count} groups"),
    "no_duplicates": ("重複している画像はありません", "No duplicates were found"),
    "kept_pixels": ("残す理由：画素数が多い", "kept: it has more pixels"),
    "kept_lossless": ("残す理由：劣化のない形式", "kept: its format loses nothing"),
    "kept_text": ("残す理由：説明やキーワードがある", "kept: it has texts"),
    "kept_older": ("残す理由：ファイルが古い", "kept: its file is older"),
    "kept_first": ("残す理由：先に登録された", "kept: it was registered first"),
    "keep_all": ("すべて残す", "Keep all"),
    "mark_for_deletion": ("削除する", "delete"),
    "delete_marked": ("チェックした画像を削除…", "Delete what is checked…"),
    "tags": ("タグ", "Tags"),
    "relevance": ("関連度", "Relevance"),
    "line": (
        "ここから先は関連が低い可能性があります",
        "Pictures from here on may be less relevant",
    ),
    "no_match": ("良い一致は見つかりませんでした", "No good match was found"),
    "no_match_hint": ("近い順に表示しています。", "These are the nearest pictures."),
    "size": ("サイズ", "Size"),
    "registered_at": ("登録日時", "Registered"),
    "taken_at": ("撮影日時", "Taken"),
    "details": ("詳細・絞り込み", "Details and filters"),
    "similar": ("似ている画像", "Similar pictures"),
    "show_similar": ("似た画像を探す", "Find similar"),
    "filtered": ("絞り込み中", "filtered"),
    "found_by_meaning": ("意味", "meaning"),
    "found_by_words": ("語句", "words"),
    "found_by_both": ("両方", "both"),
    "excluded_label": ("除外する言葉", "Leave out"),
    "excluded_picture": ("除外する画像", "Picture to leave out"),
    "excluded_placeholder": ("例：人物", "e.g. people"),
    "weight_label": ("言葉と画像の重み", "Words or picture"),
    "weight_info": ("0：言葉だけ　1：画像だけ", "0: words only, 1: picture only"),
    "anything": ("すべて", "Any"),
    "date_of": ("日付", "Date"),
    "since": ("開始日", "From"),
    "until": ("終了日", "To"),
    "orientation": ("向き", "Shape"),
    "landscape": ("横長", "Landscape"),
    "portrait": ("縦長", "Portrait"),
    "square": ("正方形", "Square"),
    "min_pixels": ("大きさ（以上）", "Size at least"),
    "file_type": ("ファイルの種類", "File type"),
    "generator": ("生成ツール", "Generator"),
    "generation_model": ("生成モデル", "Generation model"),
    "has_prompt": ("あり", "With"),
    "has_no_prompt": ("なし", "Without"),
    "keyword": ("キーワード", "Keyword"),
    "folder": ("フォルダー", "Folder"),
    "none": ("なし", "None"),
    "original": ("元の画像を開く", "Open the original"),
    "previous": ("前の画像", "Previous picture"),
    "next": ("次の画像", "Next picture"),
    "close": ("閉じる", "Close"),
    "gallery": ("画像一覧", "Pictures"),
    "empty_library": ("まだ画像が登録されていません", "No pictures are registered yet"),
    "library_in_preparation": (
        "画像を準備しています。まもなく表示されます。",
        "The pictures are being prepared and will appear here.",
    ),
    "empty_library_hint": (
        "フォルダーを登録してください： python register_images.py フォルダー",
        "Register a folder: python register_images.py FOLDER",
    ),
    "not_embedded": ("このモデルで検索できる画像がまだありません", "No picture has been embedded with this model yet"),
    "not_embedded_hint": (
        "次を実行してください： python register_images.py --model モデル",
        "Run: python register_images.py --model MODEL",
    ),
    "no_hit": ("条件に合う画像はありません", "No picture meets these conditions"),
    "no_hit_hint": ('絞り込みや "引用符" を減らしてください。', 'Try fewer filters or "quotes".'),
    "model_loading": (
        "モデルを読み込んでいます。最初の検索は少し待ちます。",
        "The model is loading; the first search waits for it.",
    ),
    "registering": ("画像を登録しています（{done} / {count}）", "Registering pictures ({done} of {count})"),
    "registration_failed": ("画像を登録できませんでした", "The pictures could not be registered"),
    "store_away": (
        "データベースに接続できません。復旧すると自動的に再表示します。",
        "The database is away. The page comes back by itself when it is back.",
    ),
    "model_unavailable": ("モデルを利用できません", "The model cannot be used"),
    "text_not_supported": (
        "このモデルは画像だけを検索できます。画像を選んで検索してください。",
        "This model searches by picture only. Choose a picture instead of words.",
    ),
    "unreadable": ("この画像は読み込めません", "This picture cannot be read"),
    "image_gone": ("この画像は削除されています", "This picture has been deleted"),
    "error": ("検索できませんでした", "The search did not work"),
}

_ERROR_KEYS: tuple[tuple[type[ImageSearchError], str], ...] = (
    (StoreUnavailable, "store_away"),
    (ModelUnavailable, "model_unavailable"),
    (TextNotSupported, "text_not_supported"),
    (UnreadableImage, "unreadable"),
    (ImageNotFound, "image_gone"),
    (ImageSearchError, "error"),
)


def translate(language: Language, key: str, **values: object) -> str:
    """The words of a key, with values filled in; numbers get thousands separators."""
    text = MESSAGES[key][0 if language == "ja" else 1]
    return text.format(**{name: f"{value:,}" if isinstance(value, int) else value for name, value in values.items()})


def error_key(error: ImageSearchError) -> str:
    """The key of the words that introduce an error; str(error) says the rest."""
    return next(key for kind, key in _ERROR_KEYS if isinstance(error, kind))


def negotiate_language(accept_language: str) -> Language:
    """The language a browser prefers of the two: Japanese when it ranks before English, otherwise English."""
    ranked = []
    for position, item in enumerate(accept_language.split(",")):
        match = re.fullmatch(r"\s*([a-zA-Z]+)[\w-]*\s*(?:;\s*q=([\d.]+))?\s*", item)
        if match and match[1].lower() in ("ja", "en"):
            try:
                quality = float(match[2] or 1)
            except ValueError:
                continue
            ranked.append((-quality, position, match[1].lower()))
    return "ja" if ranked and min(ranked)[2] == "ja" else "en"


def collect_translations() -> dict[str, dict[str, str]]:
    """All words by language, in the shape gr.I18n takes."""
    return {
        "ja": {key: japanese for key, (japanese, _) in MESSAGES.items()},
        "en": {key: english for key, (_, english) in MESSAGES.items()},
    }
