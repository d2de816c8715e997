"""A person's words go into an XMP sidecar and come back as the person's, whatever else is in it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_search.errors import UnreadableImage
from image_search.metadata import read_image_text
from image_search.metadata.containers.blocks import read_xmp
from image_search.metadata.sidecars import find_sidecars, separate_edits, write_sidecar
from image_search.records import Edits, ImageText

DIGIKAM = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <!-- kept -->
  <rdf:Description rdf:about="uuid:1" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" xmp:Rating="2" crs:Notes="one&#10;two&#9;three">
   <dc:description><rdf:Alt><rdf:li xml:lang="x-default">theirs</rdf:li><rdf:li xml:lang="ja">彼らの</rdf:li></rdf:Alt>
   </dc:description>
   <dc:subject><rdf:Bag><rdf:li>old, one</rdf:li></rdf:Bag></dc:subject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""
ALL = Edits("夕焼け & <海>", ("Paris, France", "猫、犬", "a;b"), 4)


def read_back(image: Path) -> tuple[ImageText, Edits]:
    """The file's layer out of the sidecar, and the person's."""
    sidecars, edits = separate_edits(find_sidecars(image))
    return read_image_text(b"", sidecars=sidecars), edits


def read_fields(image: Path) -> dict[str, list[str]]:
    found = read_xmp(image.with_name(image.name + ".xmp").read_bytes())
    return {name: found[name] for name in ("description", "subject", "Rating") if name in found}


def write_theirs(image: Path, packet: str = DIGIKAM) -> bytes:
    path = image.with_name(image.name + ".xmp")
    path.write_bytes(packet.encode())
    return path.read_bytes()


def test_other_programs_read_description_keywords_and_rating(tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    assert write_sidecar(image, ALL)
    assert read_fields(image) == {
        "description": ["夕焼け & <海>"],
        "subject": ["Paris, France", "猫、犬", "a;b"],
        "Rating": ["4"],
    }


def test_edits_come_back_as_the_persons_layer_only(tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    write_sidecar(image, ALL)
    text, edits = read_back(image)
    assert edits == ALL
    assert (text.description, text.keywords, text.rating) == (None, (), None)


def test_writing_again_changes_nothing_and_taking_all_back_removes_our_file(tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    write_sidecar(image, ALL)
    assert not write_sidecar(image, ALL)
    assert write_sidecar(image, Edits(rating=0))
    assert read_fields(image) == {"Rating": ["0"]} and read_back(image)[1] == Edits(rating=0)
    assert write_sidecar(image, Edits())
    assert list(tmp_path.iterdir()) == []


def test_empty_edits_write_nothing(tmp_path: Path) -> None:
    assert not write_sidecar(tmp_path / "a.jpg", Edits())
    before = write_theirs(tmp_path / "b.jpg")
    assert not write_sidecar(tmp_path / "b.jpg", Edits())
    assert (tmp_path / "b.jpg.xmp").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_sidecar_of_another_program_is_added_to_and_keeps_its_own(tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    write_theirs(image)
    write_sidecar(image, Edits(description="mine"))
    content = (tmp_path / "a.jpg.xmp").read_text(encoding="utf-8")
    assert "<!-- kept -->" in content and "彼らの" in content and "<?xpacket" in content
    root = ElementTree.fromstring(content)
    [notes] = [
        value
        for element in root.iter()
        for name, value in element.attrib.items()
        if name == "{http://ns.adobe.com/camera-raw-settings/1.0/}Notes"
    ]
    assert notes == "one\ntwo\tthree"
    assert read_fields(image) == {"description": ["mine"], "subject": ["old, one"], "Rating": ["2"]}
    text, edits = read_back(image)
    assert edits == Edits(description="mine")
    assert (text.description, text.keywords, text.rating) == ("theirs", ("old, one",), 2)


def test_words_of_the_other_program_are_back_when_the_person_takes_the_others_back(tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    write_theirs(image)
    before = read_fields(image)
    write_sidecar(image, ALL)
    write_sidecar(image, Edits())
    assert read_fields(image) == before
    assert read_back(image)[1] == Edits()


def test_words_said_to_be_empty_come_back_as_such(tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    write_theirs(image)
    write_sidecar(image, Edits("", ()))
    assert "subject" not in read_fields(image)
    text, edits = read_back(image)
    assert edits == Edits("", ())
    assert (text.description, text.keywords) == ("theirs", ("old, one",))


def test_later_change_of_another_program_is_the_files(tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    write_sidecar(image, ALL)
    path = tmp_path / "a.jpg.xmp"
    path.write_text(path.read_text(encoding="utf-8").replace(">Paris, France<", ">Lyon<"), encoding="utf-8")
    text, edits = read_back(image)
    assert edits == ALL
    assert (text.keywords, text.description) == (("Lyon", "猫、犬", "a;b"), None)


def test_our_sidecar_does_not_hide_one_of_the_short_name(tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    (tmp_path / "a.xmp").write_text(DIGIKAM, encoding="utf-8")
    write_sidecar(image, ALL)
    text, edits = read_back(image)
    assert edits == ALL
    assert (text.description, text.keywords, text.rating) == ("theirs", ("old, one",), 2)


@pytest.mark.parametrize("content", [b"no xml", b"<a/>", b"<!DOCTYPE x [<!ENTITY y 'z'>]><a>&y;</a>", b"\xff\xfe<"])
def test_sidecar_that_is_no_xmp_is_left_alone_and_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg.xmp"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"a\.jpg\.xmp is no XMP that can be added to, so it was left alone"):
        write_sidecar(tmp_path / "a.jpg", ALL)
    assert path.read_bytes() == content


def test_damaged_marker_is_read_as_any_other_program_would(tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    write_sidecar(image, ALL)
    path = tmp_path / "a.jpg.xmp"
    path.write_text(path.read_text(encoding="utf-8").replace('"person"', '"x"').replace("&quot;person&quot;", "x"))
    text, edits = read_back(image)
    assert edits == Edits() and text.keywords == ALL.keywords


def test_1000_keywords_come_back(tmp_path: Path) -> None:
    edits = Edits(keywords=tuple(f"キーワード、number {number}" for number in range(3000)))
    write_sidecar(tmp_path / "a.jpg", edits)
    assert read_back(tmp_path / "a.jpg")[1] == edits


@given(
    st.builds(
        Edits,
        st.none() | st.text(),
        st.none() | st.lists(st.text(min_size=1), max_size=5, unique=True).map(tuple),
        st.none() | st.integers(0, 5),
    ),
    st.booleans(),
)
@settings(deadline=None)
def test_any_words_come_back_and_other_programs_words_survive(edits: Edits, has_theirs: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "a.jpg"
        if has_theirs:
            write_theirs(image)
        write_sidecar(image, edits)
        text, found = read_back(image)
        assert found == edits
        assert not write_sidecar(image, edits)
        if has_theirs:
            assert (text.description, text.keywords, text.rating) == ("theirs", ("old, one",), 2)
        else:
            assert text == ImageText() or (text.description, text.keywords, text.rating) == (None, (), None)
