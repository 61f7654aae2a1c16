"""A folder's pictures are found, and what is left out is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lookalike import InputError
from lookalike._folders import MAX_PICTURE_BYTES, scan, scan_csv

WritePicture = Callable[..., Path]


def reasons(listing: object) -> dict[str, str]:
    return {each.id: each.reason for each in listing.left_out}  # type: ignore[attr-defined]


def test_ids_are_paths_with_slashes_and_labels_first_level_folders(tmp_path: Path, write_picture: WritePicture) -> None:
    for name in ("shoeB/1.jpg", "shoeA/1.jpg", "shoeA/side/2.png", "loose.png"):
        write_picture(tmp_path / name)
    found = {picture.id: picture.label for picture in scan(tmp_path).pictures}
    assert found == {"loose.png": "", "shoeA/1.jpg": "shoeA", "shoeA/side/2.png": "shoeA", "shoeB/1.jpg": "shoeB"}
    assert list(found) == sorted(found, key=str.encode)


def test_hidden_and_system_files_are_skipped_and_counted(tmp_path: Path, write_picture: WritePicture) -> None:
    write_picture(tmp_path / "a/1.png")
    for name in (".DS_Store", "a/Thumbs.db", "a/.hidden.png", "a/desktop.ini", "__MACOSX/a/1.png", ".git/x.png"):
        write_picture(tmp_path / name)
    listing = scan(tmp_path)
    assert [picture.id for picture in listing.pictures] == ["a/1.png"]
    assert listing.hidden_count == 6
    assert listing.left_out == ()


def test_files_that_are_no_pictures_are_listed_with_their_reason(tmp_path: Path, write_picture: WritePicture) -> None:
    write_picture(tmp_path / "a/1.png")
    (tmp_path / "a/notes.txt").write_text("hello")
    (tmp_path / "a/lies.jpg").write_text("hello, I am no picture")
    (tmp_path / "a/empty.png").touch()
    large = write_picture(tmp_path / "a/large.png")
    with large.open("ab") as file:
        file.truncate(MAX_PICTURE_BYTES + 1)
    expected = {"a/notes.txt": "NOT_A_PICTURE", "a/lies.jpg": "NOT_A_PICTURE", "a/empty.png": "EMPTY", "a/large.png": "TOO_MANY_BYTES"}
    assert reasons(scan(tmp_path)) == expected


def test_picture_is_told_by_content_and_not_by_name(tmp_path: Path, write_picture: WritePicture) -> None:
    write_picture(tmp_path / "a/picture.without.known.suffix")
    assert len(scan(tmp_path).pictures) == 1


def test_links_that_lead_out_are_refused(tmp_path: Path, write_picture: WritePicture) -> None:
    outside = write_picture(tmp_path / "secret/1.png")
    root = tmp_path / "root"
    write_picture(root / "a/1.png")
    (root / "a/inside.png").symlink_to(root / "a/1.png")
    (root / "a/outside.png").symlink_to(outside)
    (root / "a/broken.png").symlink_to(root / "a/nothing.png")
    (root / "b").symlink_to(tmp_path / "secret")
    listing = scan(root)
    assert [picture.id for picture in listing.pictures] == ["a/1.png", "a/inside.png"]
    assert reasons(listing) == {"a/outside.png": "LEADS_OUT", "a/broken.png": "NOT_A_FILE", "b": "LINKED_FOLDER"}


def test_name_that_is_no_utf8_or_too_long_is_left_out(tmp_path: Path, write_picture: WritePicture) -> None:
    write_picture(tmp_path / "a/1.png")
    write_picture(tmp_path / "a/bad\udcff.png")
    write_picture(tmp_path / ("x" * 200) / ("y" * 200) / ("z" * 200) / "1.png")
    assert sorted(reasons(scan(tmp_path)).values()) == ["BAD_NAME", "BAD_NAME"]


def test_empty_folder_missing_folder_and_file_are_errors(tmp_path: Path, write_picture: WritePicture) -> None:
    with pytest.raises(InputError, match="holds no picture"):
        scan(tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        scan(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is no folder"):
        scan(write_picture(tmp_path / "1.png"))


def test_one_class_or_none_is_an_error_where_classes_are_needed(tmp_path: Path, write_picture: WritePicture) -> None:
    write_picture(tmp_path / "loose.png")
    with pytest.raises(InputError, match="no class folders"):
        scan(tmp_path).labelled()
    write_picture(tmp_path / "a/1.png")
    with pytest.raises(InputError, match="one class only, 'a'"):
        scan(tmp_path).labelled()
    write_picture(tmp_path / "b/1.png")
    labelled = scan(tmp_path).labelled()
    assert labelled.labels == {"a": 1, "b": 1}
    assert reasons(labelled) == {"loose.png": "NO_LABEL"}


def test_csv_gives_labels_with_and_without_header(tmp_path: Path, write_picture: WritePicture) -> None:
    write_picture(tmp_path / "x/1.png")
    write_picture(tmp_path / "2.png")
    for head in ("path,label\n", "", "\ufeffpath,label\r\n"):
        (tmp_path / "labels.csv").write_text(f'{head}x/1.png,"red, old"\n./2.png,blue\n', encoding="utf-8")
        found = {picture.id: picture.label for picture in scan_csv(tmp_path / "labels.csv").pictures}
        assert found == {"2.png": "blue", "x/1.png": "red, old"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../x.png,a", "line 2: ../x.png leads out"),
        ("/etc/passwd,a", "line 2: /etc/passwd leads out"),
        ("1.png", "line 2: '1.png' is not of the form path,label"),
        ("1.png,", "line 2: '1.png,' is not of the form"),
        ("none.png,a", "line 2: there is no file none.png"),
        ("1.png,b", "line 2: 1.png stands in line 1 already"),
    ],
)
def test_wrong_line_of_a_csv_is_named(tmp_path: Path, write_picture: WritePicture, line: str, message: str) -> None:
    write_picture(tmp_path / "1.png")
    (tmp_path / "labels.csv").write_text(f"1.png,a\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        scan_csv(tmp_path / "labels.csv")
