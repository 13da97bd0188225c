"""What an object store keeps of our promises: a dump is read from it, and a home lies in it, as on a disk.

The store is moto's, an S3 server over HTTP on loopback.
"""

from __future__ import annotations

import bz2
import gzip
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from cluster import doctor, folder
from cluster.artefact import Artefact, Draft
from cluster.doctor import Finding
from cluster.errors import WordloomError
from cluster.folder import PARTIAL, FileRecord, Folder, filesystem_of, inside
from cluster.store import Store
from ingest import files, texts
from ingest.corpus import Corpus
from ingest.dump import Dump, locate, plan, read
from ingest.pages import PageReader
from ingest.settings import IngestSettings, VocabularySettings
from ingest.vocabulary import Vocabulary, cut_vocabulary
from ingest.wikipedia import OUTPUT_VERSION
from tests.dumps import export, page
from tests.test_texts import by_hand as texts_by_hand
from tests.test_wikipedia import by_hand, digests
from trainers import formats
from trainers.vectors import WordVectors

PAGES = [page(number, f"Page {number}", f"Words of page {number}. " * 40) for number in range(1, 200)]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


@pytest.fixture
def bucket(endpoint: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket; the server's address comes from the environment, as with the SDKs."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{endpoint}",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"b{abs(hash(request.node.name)):x}"
    filesystem_of(f"s3://{name}?allow_bucket_creation=true")[0].create_dir(name)
    return name


def put(location: str, content: bytes) -> str:
    filesystem, path = filesystem_of(location)
    with filesystem.open_output_stream(path, compression=None) as stream:
        stream.write(content)
    return location


def titles(found: Dump, split_bytes: int) -> list[str]:
    return [page.title for split in plan(found, split_bytes) for page in PageReader(read(split))]


def test_parts_in_a_bucket_are_one_dump_the_same_as_on_a_disk(bucket: str, tmp_path: Path) -> None:
    for number, pages in ((10, PAGES[120:]), (9, PAGES[:120])):
        content = bz2.compress(export(pages), 1)
        put(f"s3://{bucket}/dumps/x-p{number}.xml.bz2", content)
        (tmp_path / f"x-p{number}.xml.bz2").write_bytes(content)
    put(f"s3://{bucket}/dumps/x-multistream-index.txt.bz2", b"no part")
    found = locate(f"s3://{bucket}/dumps/x-*.bz2", tmp_path)
    assert [each.location for each in found.files] == [
        f"s3://{bucket}/dumps/x-p{number}.xml.bz2" for number in (9, 10)
    ]
    assert found.identity == locate(str(tmp_path / "x-p*.bz2"), tmp_path).identity
    assert titles(found, 500) == [f"Page {number}" for number in range(1, 200)]


def test_a_location_may_say_itself_how_its_store_is_reached(
    bucket: str, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    query = f"?endpoint_override={endpoint}&scheme=http"
    source = put(f"s3://{bucket}/dumps/a b%20ü[1].xml.bz2{query}", bz2.compress(export(PAGES)))
    assert titles(locate(source, tmp_path), 1 << 20)[-1] == "Page 199"
    (file,) = locate(f"s3://{bucket}/dumps/*.bz2{query}", tmp_path).files
    assert file.location == source
    home = Folder(f"s3://{bucket}/home{query}")
    home.child("kind/one").write("deep/a", b"content")
    assert home.read("kind/one/deep/a") == b"content" and home.names() == ["kind/one/deep/a"]
    assert home.folders() == ["kind"] and home.child("kind").folders() == ["one"]
    assert filesystem_of(f"{home.location}/kind/one/deep/a")[1] == f"{bucket}/home/kind/one/deep/a"
    assert inside(source, "b/c") == f"s3://b/c{query}"


def test_a_corpus_and_a_vocabulary_in_a_bucket_are_those_on_a_disk(bucket: str, tmp_path: Path) -> None:
    source = put(f"s3://{bucket}/x.xml.bz2", bz2.compress(export(PAGES), 1))
    found = locate(source, tmp_path)
    settings = IngestSettings(split_bytes=2000)
    remote, local = f"s3://{bucket}/home/corpus/1", tmp_path / "home/corpus/1"
    made = []
    for place in (remote, local):
        by_hand(found, place, settings)
        vocabulary = cut_vocabulary(Corpus.open(place), f"{place}/words", VocabularySettings())
        vocabulary.verify()
        artefact = Artefact.open(str(place))
        artefact.verify()
        made.append((artefact.identity, artefact.counts, artefact.manifest.files, vocabulary.manifest.files))
    assert made[0] == made[1]
    assert len(Corpus.open(remote).shards) > 1
    assert Vocabulary.open(f"{remote}/words").tokens == Vocabulary.open(local / "words").tokens
    names = Folder(remote).names()
    assert not [name for name in names if name.startswith("making/") or PARTIAL in name]
    assert [each.kind for each in Store(f"s3://{bucket}/home").artefacts()] == ["corpus"]
    again = Draft(
        remote,
        kind="corpus",
        output_version=OUTPUT_VERSION,
        inputs={"dump": found.as_input()},
        settings=settings,
    )
    assert again.published is not None


def test_texts_in_a_bucket_are_the_corpus_of_those_on_a_disk(bucket: str, tmp_path: Path) -> None:
    rows = b"".join(b'{"id": %d, "text": "Words of row %d."}\n' % (each, each) for each in range(400))
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(rows))
    sources = (
        str(tmp_path / "rows.jsonl.gz"),
        put(f"s3://{bucket}/texts/rows.jsonl.gz", gzip.compress(rows)),
    )
    for number, source in enumerate(sources):
        texts_by_hand(texts.locate(source, tmp_path), tmp_path / f"corpus-{number}")
    assert digests(tmp_path / "corpus-0") == digests(tmp_path / "corpus-1")
    assert Corpus.open(tmp_path / "corpus-1").pages == 400


def test_an_object_that_nobody_stores_is_known_by_its_tag_and_may_not_change(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = put(f"s3://{bucket}/x.xml.bz2", bz2.compress(export(PAGES), 1))

    def never(*_: object) -> str:
        raise AssertionError("the object was read to its end")

    monkeypatch.setattr(files.Checksums, "sha256", never)
    found = locate(source, tmp_path, download=False)
    assert found == locate(source, tmp_path, download=False) and len(titles(found, 2000)) == 199
    put(source, bz2.compress(export(PAGES), 2)[:-4] + b"\0\0\0\0")
    with pytest.raises(WordloomError, match=r"has changed since it was looked at \(ETag .* run the"):
        titles(found, 2000)
    assert locate(source, tmp_path, download=False).identity != found.identity


def test_what_a_bucket_lacks_is_one_sentence(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(WordloomError, match=r"nothing.bz2': no such file; check --source"):
        locate(f"s3://{bucket}/nothing.bz2", tmp_path)
    with pytest.raises(WordloomError, match=r"no file matches; check --source"):
        locate(f"s3://{bucket}/x/*.bz2", tmp_path)
    with pytest.raises(WordloomError, match=r"check --source"):
        locate("s3://no-such-bucket/*.bz2", tmp_path)
    with pytest.raises(WordloomError, match=r"Cannot write 's3://no-such-bucket/home/a'.*does not exist"):
        Folder("s3://no-such-bucket/home").write("a", b"")
    with pytest.raises(WordloomError, match="is a folder; name a file"):
        put(f"s3://{bucket}/folder/a", b"x")
        locate(f"s3://{bucket}/folder", tmp_path)


def test_vectors_made_anew_at_the_same_place_are_those_that_are_read(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    place = f"s3://{bucket}/vectors"
    for table in ([[1.0, 0.0]], [[0.0, 1.0]]):
        formats.write(WordVectors(["king"], table), tmp_path / "king.txt")
        formats.imported(tmp_path / "king.txt", place)
        assert WordVectors.open(place)["king"].tolist() == table[0]
        Folder(place).delete()


def test_a_copy_of_a_remote_file_is_the_users_own_and_what_the_manifest_says(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    remote = Folder(f"s3://{bucket}/home")
    record = remote.write("a", b"content")
    copy = remote.local("a", record)
    assert copy.read_bytes() == b"content" and copy.parent.stat().st_mode & 0o777 == 0o700
    remote.delete("a")
    assert remote.local("a", record) == copy  # copied once
    put(f"s3://{bucket}/home/b", b"another")
    with pytest.raises(WordloomError, match="home/b is damaged: its 7 bytes are not the 6 written"):
        remote.local("b", FileRecord(6, "0" * 64))
    assert [each.name for each in copy.parent.iterdir()] == [record.sha256]
    copy.parent.chmod(0o777)
    with pytest.raises(WordloomError, match="is no folder of yours alone"):
        remote.local("a", record)
    copy.unlink()
    copy.parent.rmdir()
    copy.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WordloomError, match="is no folder of yours alone"):
        remote.local("a", record)


def test_doctor_says_what_it_could_see_of_a_home_in_a_bucket(bucket: str) -> None:
    home = f"s3://{bucket}/home"
    well = Finding("home", "ok", f"{home} can be listed; whether it may be written was not tried.")
    assert doctor.reachable(home) == well  # a bucket of ours with nothing in it
    Folder(home).write("corpus/one/manifest.json", b"{}")
    assert doctor.reachable(home) == well
    assert Folder(home).names() == ["corpus/one/manifest.json"]
    assert doctor.reachable("s3://no-such-bucket/a/b") == Finding(
        "home", "failed", "There is no bucket s3://no-such-bucket; make it, or choose another --home."
    )


@pytest.mark.slow  # the SDKs try again for some seconds before they give up
def test_a_store_that_cannot_be_reached_is_one_sentence(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "?endpoint_override=127.0.0.1:9&scheme=http"
    with pytest.raises(WordloomError, match=r"Cannot reach 's3://b/home.*name and your credentials\."):
        Folder(f"s3://b/home{query}").names()
    found = doctor.reachable(f"s3://b/home{query}")
    assert found.state == "failed" and found.sentence.startswith("Cannot reach 's3://b/home")
    with pytest.raises(WordloomError, match=r"Cannot read 's3://b/x.*check --source and your credentials\."):
        locate(f"s3://b/x.bz2{query}", tmp_path)
    # Nothing of Google's answers on this machine, and nobody waits for a quarter of an hour.
    monkeypatch.setattr(folder, "GCS_PATIENCE", 1)
    monkeypatch.setenv("GCE_METADATA_ROOT", "127.0.0.1:9")
    with pytest.raises(WordloomError, match=r"Cannot read 'gs://b/x.*check --source and your credentials\."):
        locate("gs://b/x.xml.bz2", tmp_path)
    assert filesystem_of("gs://b/deep/x y*")[1] == "b/deep/x y*"
