"""A folder on any file system that pyarrow knows, in which nothing half-written is ever readable as whole.

Every write goes to a hidden name first and is moved into place when all bytes are there. On a local disk
the move is one rename; on an object store it is a server-side copy of a whole object, which appears at
once or not at all. So a reader sees the old file, the new file or none.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from cluster.errors import UnreadableError, UnwritableError, UsageError, WordloomError

REASON = 240  # characters of what a file system says went wrong
GCS_PATIENCE = 60  # seconds of trying again; left alone it waits for credentials for a quarter of an hour
PARTIAL = ".partial-"  # leads the name of every file that is still being written
LOST = "lost+found"  # what ext4 keeps for itself, unreadable, at the top of a disk or volume


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a file was when it was written: its size in bytes and the sha256 of its content (hex)."""

    bytes: int
    sha256: str


class HashingWriter:
    """A binary file that is being written: counts and hashes what passes through."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self._bytes = 0
        self.closed = False

    def write(self, data: bytes | memoryview | pa.Buffer) -> int:
        view = memoryview(data)
        self._hash.update(view)
        self._stream.write(view)
        self._bytes += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self._bytes

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        """Left to `Folder.writer`: libraries that close their sink must not publish it."""

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    @property
    def record(self) -> FileRecord:
        return FileRecord(self._bytes, self._hash.hexdigest())


class Folder:
    """A folder: a local path (``file:///...`` too), ``s3://...`` or ``gs://...``. Picklable, so that workers
    can be handed it.

    Names are relative, with ``/`` between their parts. Folders come into being with their first file. All
    that looks or reads raises UnreadableError where it may not.
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        text = os.fspath(location)
        if text.startswith("file:///"):
            text = unquote(text.removeprefix("file://"))
        if not text:  # mostly of a variable that is not set; what lies below it would lie below /
            raise UsageError("The name of a folder is empty; name one, '.' for the working directory.")
        if "://" not in text:
            text = os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111 (no symlinks resolved)
        scheme, mark, path = text.rpartition("://")
        self.location = scheme + mark + path.rstrip("/") or "/"
        try:
            self.location.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"The name {self.location!r} is no UTF-8; name another place.") from error
        self._fs, self._path = filesystem_of(self.location)

    def __reduce__(self) -> tuple[type[Folder], tuple[str]]:
        return Folder, (self.location,)

    def __repr__(self) -> str:
        return f"Folder({self.location!r})"

    def __str__(self) -> str:
        return self.location

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folder) and other.location == self.location

    def __hash__(self) -> int:
        return hash(self.location)

    @property
    def is_local(self) -> bool:
        return "://" not in self.location

    def child(self, name: str) -> Folder:
        return Folder(f"{self.location}/{name}")

    def exists(self, name: str = "") -> bool:
        return bool(self._looked_at(self._full(name)).type != pafs.FileType.NotFound)

    def names(self) -> list[str]:
        """All whole files below, as sorted relative names; what is still being written is left out. Raises
        WordloomError where this is a file, or where a name is no UTF-8."""
        selector = pafs.FileSelector(self._path, allow_not_found=True, recursive=True)
        start = len(self._path.rstrip("/")) + 1
        try:
            return sorted(
                info.path[start:]
                for info in self._looked_at(selector)
                if info.type == pafs.FileType.File and not info.path.rpartition("/")[2].startswith(PARTIAL)
            )
        except UnicodeDecodeError as error:
            raise WordloomError(
                f"The name of the file {error.object!r} in {self.location!r} is no UTF-8; rename it."
            ) from error

    def folders(self) -> list[str]:
        """The names of the folders directly below, sorted; without `LOST` and those that are no UTF-8, which
        are none of ours. Raises WordloomError where this is a file."""
        selector = pafs.FileSelector(self._path, allow_not_found=True, recursive=False)
        found = []
        for info in self._looked_at(selector):
            with suppress(UnicodeDecodeError):
                if info.type == pafs.FileType.Directory and info.base_name != LOST:
                    found.append(info.base_name)
        return sorted(found)

    def size(self, name: str) -> int:
        """Bytes of the file `name`; raises FileNotFoundError where there is none."""
        info = self._looked_at(self._full(name))
        if info.type != pafs.FileType.File:
            raise FileNotFoundError(errno.ENOENT, "no such file", self._full(name))
        return int(info.size)

    # reading

    def open(self, name: str) -> pa.NativeFile:
        """The file for reading, seekable."""
        try:
            return self._fs.open_input_file(self._full(name))
        except PermissionError as error:
            raise UnreadableError(_unreadable(error, f"{self.location}/{name}")) from error

    def read(self, name: str) -> bytes:
        with self.open(name) as stream:
            return bytes(stream.readall())

    def read_json(self, name: str) -> Any:
        return json.loads(self.read(name))

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        with self.open(name) as stream:
            return pq.read_table(stream, columns=columns)

    def local(self, name: str, record: FileRecord) -> Path:
        """A local path with the file's content; a remote file is copied once into a cache of this user's.

        Copies are found by the sha256 in `record`, so what was made anew at the same place is copied anew.
        Raises WordloomError where the content is not what `record` says.
        """
        if self.is_local:
            return Path(self._full(name))
        cache = Folder(_cache())
        if not cache.exists(record.sha256):
            with self.open(name) as source, cache.writer(record.sha256) as sink:
                while chunk := source.read(1 << 22):
                    sink.write(chunk)
                if sink.record != record:
                    raise WordloomError(
                        f"{self.location}/{name} is damaged: its {sink.record.bytes} bytes are not the "
                        f"{record.bytes} written; delete the folder and run the command again."
                    )
        return Path(cache.location) / record.sha256

    # writing

    @contextmanager
    def writer(self, name: str) -> Iterator[HashingWriter]:
        """A new file, in place under `name` once the block ends well; nothing is left of it otherwise.

        Raises WordloomError where the disk is full, UnwritableError where it may not be written.
        """
        final = self._full(name)
        parent, _, base = final.rpartition("/")
        partial = f"{parent}/{PARTIAL}{uuid.uuid4().hex[:12]}-{base}"
        try:
            if self.is_local:
                self._fs.create_dir(parent, recursive=True)
            with self._fs.open_output_stream(partial, compression=None) as stream:
                writer = HashingWriter(stream)
                yield writer
                writer.closed = True
            if self.is_local:
                settle(partial)
            self._fs.move(partial, final)
        except BaseException as error:
            self._forget(partial)
            if isinstance(error, OSError) and (mended := _mend(error, f"{self.location}/{name}")):
                raise mended from error
            if isinstance(error, OSError) and not self.is_local:
                raise WordloomError(
                    f"Cannot write {f'{self.location}/{name}'!r}: {reason(error)}; check its name and your "
                    "credentials, then run the same command again."
                ) from error
            raise

    def write(self, name: str, data: bytes) -> FileRecord:
        with self.writer(name) as stream:
            stream.write(data)
        return stream.record

    def write_json(self, name: str, value: Any) -> FileRecord:
        text = json.dumps(value, indent=1, ensure_ascii=False, sort_keys=False)
        return self.write(name, text.encode() + b"\n")

    def write_table(self, name: str, table: pa.Table, **options: Any) -> FileRecord:
        """Parquet; `options` go to pyarrow.parquet.write_table (zstd unless they say otherwise)."""
        with self.writer(name) as stream:
            pq.write_table(table, pa.PythonFile(stream, mode="w"), **{"compression": "zstd", **options})
        return stream.record

    def delete(self, name: str = "") -> None:
        """Removes the file or the sub-folder `name`; one that is missing is fine."""
        full = self._full(name)
        kind = self._looked_at(full).type
        try:
            if kind == pafs.FileType.Directory:
                self._fs.delete_dir(full)
            elif kind == pafs.FileType.File:
                self._fs.delete_file(full)
        except PermissionError as error:
            raise WordloomError(
                f"May not delete {f'{self.location}/{name}'.rstrip('/')!r}; change its rights, and run the "
                "same command again."
            ) from error

    def sweep(self) -> None:
        """Removes the half-written files that killed writers left; for when nobody writes here any more."""
        selector = pafs.FileSelector(self._path, allow_not_found=True, recursive=True)
        for info in self._fs.get_file_info(selector):
            if info.type == pafs.FileType.File and info.base_name.startswith(PARTIAL):
                self._forget(info.path)

    def _full(self, name: str) -> str:
        return f"{self._path}/{name}" if name else self._path

    def _looked_at(self, what: str | pafs.FileSelector) -> Any:
        """pyarrow's FileInfo. Raises WordloomError where a store or a disk cannot be reached."""
        try:
            return self._fs.get_file_info(what)
        except PermissionError as error:
            raise UnreadableError(_unreadable(error, self.location)) from error
        except NotADirectoryError as error:
            raise WordloomError(f"{self.location!r} is a file and no folder; name a folder.") from error
        except OSError as error:
            if self.is_local:
                raise WordloomError(
                    f"Cannot read {self.location!r}: {reason(error)}; name another place."
                ) from error
            raise WordloomError(
                f"Cannot reach {self.location!r}: {reason(error)}; check its name and your credentials."
            ) from error

    def _forget(self, partial: str) -> None:
        try:
            if self._fs.get_file_info(partial).type != pafs.FileType.NotFound:
                self._fs.delete_file(partial)
        except OSError:
            pass  # the first error matters more; a hidden name is never read as whole


def filesystem_of(location: str) -> tuple[pafs.FileSystem, str]:
    """pyarrow's file system for a location and the path inside it.

    A query says how to reach it, ``s3://bucket/home?endpoint_override=127.0.0.1:9000&scheme=http``; names
    may stand behind the query as behind any folder. `AWS_ENDPOINT_URL` (the SDK's own), or
    `WORDLOOM_S3_ENDPOINT`, names an S3 server of one's own for all locations without one.
    """
    if "://" not in location:
        return pafs.LocalFileSystem(), location
    refuse_password(location)
    scheme, _, path = location.partition("://")
    before, query, behind = _parted(path)
    if scheme in ("s3", "gs") and not before.partition("/")[0]:
        raise UsageError(f"{location!r} names no bucket; write {scheme}://BUCKET/FOLDER.")
    path = f"{before.rstrip('/')}{behind}" if behind else before
    if scheme == "s3" and not query and (endpoint := os.environ.get("WORDLOOM_S3_ENDPOINT")):
        return pafs.S3FileSystem(endpoint_override=endpoint), path
    try:
        if scheme not in ("s3", "gs"):
            filesystem, path = pafs.FileSystem.from_uri(location)
            return filesystem, path
        # Names and globs hold what a URI may not: only the bucket goes through it.
        bucket, slash, name = path.partition("/")
        if scheme == "gs" and "retry_limit_seconds=" not in query:
            query += f"{'&' if query else '?'}retry_limit_seconds={GCS_PATIENCE}"
        filesystem, bucket = pafs.FileSystem.from_uri(f"{scheme}://{bucket}{query}")
        return filesystem, f"{bucket}{slash}{name}"
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise WordloomError(
            f"Cannot read or write {location!r}: {scheme}:// is no file system that pyarrow knows; "
            "use a local path, s3:// or gs://."
        ) from error
    except OSError as error:
        raise WordloomError(
            f"Cannot reach {location!r}: {reason(error)}; check its name and your credentials."
        ) from error


def local_path(path: str | os.PathLike[str]) -> Path:
    """The absolute path of what is to be written, links resolved. Raises UsageError where it is not local."""
    if "://" in os.fspath(path):
        raise UsageError(
            f"{os.fspath(path)!r} is no local path; write to this machine's disk and copy it there."
        )
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError) as error:  # as of a home or of links that lead nowhere
        raise UsageError(f"Cannot write {os.fspath(path)!r} ({error}); check --output.") from error


def refuse_password(location: str) -> None:
    """Raises UsageError for a location with a password in it: locations stand in manifests and logs."""
    scheme, mark, rest = location.partition("://")
    account, at, place = rest.partition("/")[0].rpartition("@")
    if mark and at and ":" in account:
        raise UsageError(
            f"The address of {scheme}://{place} has a password in it, and addresses stand in manifests and "
            "logs; take it out and give it in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or, "
            "for http, in ~/.netrc."
        )


def reason(error: OSError) -> str:
    """What a file system says went wrong, on one line of a decent length."""
    said = str(error).strip().splitlines() or [type(error).__name__]
    return said[0].rstrip(".") if len(said[0]) <= REASON else f"{said[0][:REASON]}..."


def _cache() -> Path:
    """The folder for copies of remote files. It lies where everybody may write, and what is in it is read
    unseen: so it must be this user's, and nobody else's to write to."""
    path = Path(tempfile.gettempdir()) / f"wordloom-cache-{os.getuid()}"
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise WordloomError(
            f"{str(path)!r}, the cache of remote files, is no folder of yours alone; "
            "delete it, or name another place in TMPDIR."
        )
    return path


def inside(location: str, path: str) -> str:
    """The location of a path inside the file system of another location."""
    scheme, _, there = location.partition("://")
    return f"{scheme}://{path}{_parted(there)[1]}"


def _parted(path: str) -> tuple[str, str, str]:
    """What stands before a query (``?name=value``), the query, and the names behind it."""
    match = re.fullmatch(r"(.*?)(\?[a-z_]+=[^/]*)(/.*)?", path, re.DOTALL)
    return (match[1], match[2], match[3] or "") if match else (path, "", "")


def _unreadable(error: PermissionError, location: str) -> str:
    """The sentence for what may not be read: pyarrow names what that is, in quotes, within its own."""
    named = re.search(r"'(/.*?)'\.? ", str(error))
    return f"May not read {named[1] if named else location!r}; change its rights, or name another place."


def settle(path: str | os.PathLike[str]) -> None:
    """Waits until the bytes of a local file are on its disk: a name given to them before that may survive a
    power failure with none of them behind it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that knows no such thing
            raise
    finally:
        os.close(descriptor)


def _mend(error: OSError, location: str) -> WordloomError | None:
    """The sentence of an error of the disk, None where the error is of another kind."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WordloomError(
            f"No space left while writing {location!r}; free some space and run the same command again."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UnwritableError(f"May not write {location!r}; choose a folder that you may write to.")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return WordloomError(
            f"Cannot write {location!r}: a part of its path is a file; choose another folder."
        )
    return None
