"""Keys: states are signed, clients admitted, and secrets are shown to nobody."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from cluster.errors import UsageError
from serving.keys import API_VARIABLE, STATE_VARIABLE, Keys, Secrets

OLD, NEW = "old-key-of-16-characters", "new-key-of-16-characters"


def write(path: Path, text: str) -> Path:
    """A file whose time of change differs from that of every earlier one."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))
    return path


def test_a_key_rotates_with_overlap(tmp_path: Path) -> None:
    path = write(tmp_path / "keys", f"{OLD}\n")
    keys = Keys(Secrets(path=str(path)))
    token = keys.signed(b"state")
    write(path, f"# two for a while\n{NEW}\n{OLD} # goes soon\n")
    assert keys.verified(token) == b"state"
    newer = keys.signed(b"state")
    write(path, f"{NEW}\n")
    assert keys.verified(token) is None
    assert keys.verified(newer) == b"state"


@pytest.mark.parametrize("broken", [b"", b"short", b"\xff" * 20, None])
def test_while_a_key_file_is_broken_or_gone_the_keys_stay_and_the_log_says_so_once(
    tmp_path: Path, broken: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "wordloom.keys")  # whatever a Ray of another test made of pytest's handler
    path = write(tmp_path / "keys", f"{OLD}\n")
    keys = Keys(Secrets((b"x" * 16,)), Secrets(path=str(path)))
    if broken is None:
        path.unlink()
    else:
        path.write_bytes(broken)
    for _ in range(3):
        assert keys.admits(OLD) and not keys.admits(NEW)
    (said,) = caplog.messages
    assert said.startswith("The keys stay as they were: ") and OLD not in said
    write(path, f"{NEW}  # another one\n")
    assert keys.admits(NEW) and not keys.admits(OLD)


def test_a_mark_before_the_first_key_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{OLD}\n", encoding="utf-8-sig")
    assert Secrets(path=str(path)).all() == (OLD.encode(),)


def test_nothing_but_what_was_signed_is_accepted() -> None:
    keys = Keys.find()
    token = keys.signed(b"some state")
    for place in range(len(token)):
        assert keys.verified(token[:place] + bytes([token[place] ^ 1]) + token[place + 1 :]) is None
    for broken in (b"", token[:-1], token + b"x", token[4:]):
        assert keys.verified(broken) is None
    assert Keys.find().verified(token) is None
    assert pickle.loads(pickle.dumps(keys)).verified(token) == b"some state"


def test_a_client_is_admitted_by_any_key_and_by_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Keys.find().admits("")
    monkeypatch.setenv(API_VARIABLE, f"{OLD}, {NEW}")
    keys = Keys.find()
    assert keys.admits(OLD) and keys.admits(NEW)
    assert not any(keys.admits(shown) for shown in ("", OLD[:-1], f"{OLD} ", "\ud800", f"{OLD}, {NEW}"))


def test_a_secret_is_shown_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATE_VARIABLE, OLD)
    monkeypatch.setenv(API_VARIABLE, NEW)
    assert OLD not in repr(Keys.find()) and NEW not in repr(Keys.find())
    path = write(tmp_path / "keys", "short")
    with pytest.raises(UsageError, match="too short") as raised:
        Keys.find(str(path))
    assert "'short'" not in str(raised.value)


@pytest.mark.parametrize("key", ["schlüssel-von-16-zeichen", "key\x00with-a-null-in-it"])
def test_a_key_that_no_client_could_show_is_refused(tmp_path: Path, key: str) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{OLD}\n{key}\n", encoding="utf-8")
    with pytest.raises(UsageError, match="other characters than ASCII's") as raised:
        Keys.find("", str(path))
    assert key not in str(raised.value)


def test_a_file_without_keys_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no key in"):
        Keys.find(str(write(tmp_path / "empty", "# nothing\n")))
    with pytest.raises(UsageError, match="Cannot read the keys"):
        Keys.find(str(tmp_path / "missing"))
