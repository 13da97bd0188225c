"""A folder never shows a file that is not whole."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from cluster import folder as folder_module
from cluster.errors import UnreadableError, UsageError, WordloomError
from cluster.folder import Folder
from tests.closed import close


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


def test_a_file_has_its_name_only_when_its_bytes_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power failure leaves the name of a whole file with nothing behind it."""
    synced = []

    def fsync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, (tmp_path / "a").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    Folder(tmp_path).write("a", b"12345")
    assert synced == [(5, False)]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO])
def test_a_file_system_that_cannot_wait_is_fine_and_one_that_fails_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    if code == errno.EINVAL:
        Folder(tmp_path).write("a", b"12345")
    else:
        with pytest.raises(OSError, match="error"):
            Folder(tmp_path).write("a", b"12345")
    assert (tmp_path / "a").exists() == (code == errno.EINVAL)


def test_a_folder_may_be_called_as_what_is_being_written(tmp_path: Path) -> None:
    folder = Folder(tmp_path / f"corpus{folder_module.PARTIAL}run")
    folder.write(f"a{folder_module.PARTIAL}b", b"x")
    assert folder.names() == [f"a{folder_module.PARTIAL}b"]


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


def test_the_url_of_a_local_folder_is_its_path(tmp_path: Path) -> None:
    folder = Folder(f"file://{tmp_path}/with%20space/deep")
    folder.write("a", b"x")
    assert folder.is_local and folder == Folder(tmp_path / "with space" / "deep")


def test_deleting_what_is_missing_is_fine(tmp_path: Path) -> None:
    Folder(tmp_path).delete("nothing")
    assert folder_module.PARTIAL.startswith(".")


def test_a_name_never_changes_the_bytes(tmp_path: Path) -> None:
    Folder(tmp_path).write("x.bz2", b"plain")  # pyarrow would compress by the name
    assert (tmp_path / "x.bz2").read_bytes() == b"plain"


@pytest.mark.parametrize(
    ("looks", "what"),
    [
        (lambda folder: folder.exists("shut/a"), "shut/a"),
        (lambda folder: folder.size("shut/a"), "shut/a"),
        (lambda folder: folder.read("shut/a"), "shut/a"),
        (lambda folder: folder.delete("shut/a"), "shut/a"),
        (lambda folder: folder.child("shut").names(), "shut"),
        (lambda folder: folder.child("shut").folders(), "shut"),
    ],
)
def test_what_may_not_be_read_is_one_sentence(
    looks: Callable[[Folder], object], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Folder(tmp_path).write("shut/a", b"x")
    close(tmp_path / "shut", monkeypatch)
    folder = Folder(tmp_path)
    assert folder.folders() == ["shut"] and folder.exists("shut")
    with pytest.raises(UnreadableError) as raised:
        looks(folder)
    assert str(raised.value) == f"May not read '{tmp_path}/{what}'; change its rights, or name another place."


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    folder = Folder(tmp_path / "file")
    for looks in (folder.names, folder.folders):
        with pytest.raises(WordloomError, match="is a file and no folder"):
            looks()


def test_names_that_are_no_utf8_are_said_and_no_folders_of_ours(tmp_path: Path) -> None:
    latin = "caf\udce9"  # as Python spells a name in Latin-1
    (tmp_path / latin).mkdir()
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "corpus").mkdir()
    assert Folder(tmp_path).folders() == ["corpus"]
    with pytest.raises(UsageError, match=r"'.*caf.udce9' is no UTF-8"):
        Folder(tmp_path / latin)
    (tmp_path / "corpus" / latin).write_bytes(b"mine")
    with pytest.raises(WordloomError, match=r"corpus/caf.xe9' in .* is no UTF-8; rename it"):
        Folder(tmp_path).names()


@pytest.mark.parametrize("location", ["s3://", "gs://", "s3:///home"])
def test_an_address_without_a_bucket_is_refused(location: str) -> None:
    with pytest.raises(UsageError, match="names no bucket"):
        Folder(location)
