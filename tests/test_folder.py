"""A folder never shows a file that is not whole."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pyarrow as pa
import pytest

from cluster import folder as folder_module
from cluster.errors import UsageError, WordloomError
from cluster.folder import Folder


def test_a_write_that_fails_leaves_the_old_file_and_no_trace(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("a", b"old")
    with pytest.raises(ZeroDivisionError), folder.writer("a") as stream:
        stream.write(b"new")
        raise ZeroDivisionError
    assert folder.read("a") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_that_is_being_written_is_not_listed(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with folder.writer("a") as stream:
        stream.write(b"x")
        assert folder.names() == [] and not folder.exists("a")
    assert folder.names() == ["a"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with pytest.raises(WordloomError, match="No space left"), folder.writer("a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_the_record_is_the_content(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    record = folder.write("deep/er/a", b"hello")
    assert (record.bytes, record.sha256) == (5, hashlib.sha256(b"hello").hexdigest())
    table = pa.table({"x": [1, 2, 3]})
    record = folder.write_table("t.parquet", table)
    written = (tmp_path / "t.parquet").read_bytes()
    assert (record.bytes, record.sha256) == (len(written), hashlib.sha256(written).hexdigest())
    assert folder.read_table("t.parquet").equals(table)


def test_an_unknown_scheme_is_one_sentence() -> None:
    with pytest.raises(WordloomError, match="no file system"):
        Folder("gopher://x/y")


@pytest.mark.parametrize(
    "location", ["s3://key:hidden@bucket/home", "gs://a:hidden@b", "s3://key:hidden@b?region=x"]
)
def test_a_password_in_an_address_is_refused_and_not_repeated(location: str) -> None:
    with pytest.raises(UsageError, match="has a password in it") as raised:
        Folder(location)
    assert "hidden" not in str(raised.value) and "key:" not in str(raised.value)


def test_deleting_what_is_missing_is_fine(tmp_path: Path) -> None:
    Folder(tmp_path).delete("nothing")
    assert folder_module.PARTIAL.startswith(".")


def test_a_name_never_changes_the_bytes(tmp_path: Path) -> None:
    Folder(tmp_path).write("x.bz2", b"plain")  # pyarrow would compress by the name
    assert (tmp_path / "x.bz2").read_bytes() == b"plain"
