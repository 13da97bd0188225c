"""What ingest.dump_site promises: a name stands for the finished parts that the site's status file tells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.errors import UsageError, WordloomError
from ingest.download import Part
from ingest.dump_site import Release, named, resolve
from tests.server import Server, serving

SHA1 = hashlib.sha1(b"").hexdigest()


@pytest.fixture
def site() -> Iterator[Server]:
    with serving() as made:
        yield made


def files(*names: str, wiki: str = "xwiki", date: str = "20261101") -> dict[str, Any]:
    return {
        name: {"size": 10 + at, "url": f"/{wiki}/{date}/{name}", "md5": "0", "sha1": SHA1}
        for at, name in enumerate(names)
    }


def job(status: str, *names: str, date: str = "20261101") -> dict[str, Any]:
    return {"status": status, "updated": "2026-11-03 04:05:06", "files": files(*names, date=date)}


def publish(site: Server, dates: dict[str, Any], wiki: str = "xwiki") -> None:
    """A dump site as it is: a listing, and a status file in the folder of each date."""
    links = "".join(f'<a href="{date}/">{date}/</a>  01-Nov-2026 00:00  -\n' for date in ["latest", *dates])
    site.files[f"/{wiki}/"] = f'<html><a href="../">../</a>\n{links}</html>'.encode()
    for date, jobs in dates.items():
        content = None if jobs is None else json.dumps({"version": "0.8", "jobs": jobs}).encode()
        site.files[f"/{wiki}/{date}/dumpstatus.json"] = content


DONE = job("done", "x-articles10.xml-p9p12.bz2", "x-articles2.xml-p3p8.bz2", "x-articles1.xml-p1p2.bz2")


def test_a_name_is_a_wiki_and_perhaps_a_date() -> None:
    assert named("enwiki") == ("enwiki", "latest")
    assert named("simplewiki:latest") == ("simplewiki", "latest")
    assert named("zh_min_nanwiki:20261101") == ("zh_min_nanwiki", "20261101")
    assert named("enwiktionary") == ("enwiktionary", "latest")
    assert named("mirrored:20261101") == ("mirrored", "20261101")
    for other in ("dump.xml.bz2", "dumps/enwiki", "s3://enwiki", "gs://b/enwiki", "*.bz2", "C:stuff", "data"):
        assert named(other) is None
    for wrong in ("enwiki:2026", "enwiki:20261301", "enwiki:newest", "enwiki:", "enwiki:2026-11-01"):
        with pytest.raises(UsageError, match=r"give one such as enwiki:20261101, or enwiki:latest"):
            named(wrong)


def test_the_parts_of_a_date_are_those_of_the_status_file_in_the_order_of_their_numbers(site: Server) -> None:
    publish(site, {"20261101": {"articlesdump": DONE, "metacurrentdump": job("done", "meta.bz2")}})
    release = resolve("xwiki", "20261101", site.site)
    assert (release.wiki, release.date, release.job) == ("xwiki", "20261101", "articlesdump")
    assert release.parts == (
        Part(f"{site.site}/xwiki/20261101/x-articles1.xml-p1p2.bz2", 12, SHA1),
        Part(f"{site.site}/xwiki/20261101/x-articles2.xml-p3p8.bz2", 11, SHA1),
        Part(f"{site.site}/xwiki/20261101/x-articles10.xml-p9p12.bz2", 10, SHA1),
    )
    assert site.paths == ["/xwiki/20261101/dumpstatus.json"]


def test_the_newest_dump_is_the_newest_whose_articles_are_done(site: Server) -> None:
    early = {"articlesdump": job("done", "a.bz2", date="20261001"), "articlesmultistreamdump": job("done")}
    still = {"articlesdump": job("in-progress", "a1.bz2"), "metacurrentdump": job("done", "b.bz2")}
    publish(site, {"20260901": early, "20261001": early, "20261101": still, "20261120": None})
    assert resolve("xwiki", "latest", site.site).date == "20261001"
    assert site.paths == [
        f"/xwiki/{each}" for each in ("", *(f"{d}/dumpstatus.json" for d in (20261120, 20261101, 20261001)))
    ]


def test_another_job_stands_in_only_where_the_first_will_never_be_done(site: Server) -> None:
    many = job(
        "done", "m-multistream.xml.bz2", "m-multistream-index.txt.bz2", "m-multistream-index12.txt-p1p2"
    )
    jobs = {"articlesdump": job("failed"), "articlesmultistreamdump": many}
    publish(site, {"20261101": jobs, "20261102": {"metacurrentdump": job("done", "meta.bz2")}})
    release = resolve("xwiki", "20261101", site.site)
    assert release.job == "articlesmultistreamdump"
    assert [part.url.rpartition("/")[2] for part in release.parts] == ["m-multistream.xml.bz2"]
    assert resolve("xwiki", "20261102", site.site).job == "metacurrentdump"
    publish(site, {"20261101": {**jobs, "articlesdump": job("waiting")}})
    with pytest.raises(WordloomError, match="'articlesdump' is 'waiting'"):
        resolve("xwiki", "20261101", site.site)


def test_an_unfinished_or_unknown_date_is_one_sentence_that_names_what_there_is(site: Server) -> None:
    publish(
        site, {"20261001": {}, "20261020": {}, "20261101": {"articlesdump": job("in-progress", "a1.bz2")}}
    )
    with pytest.raises(WordloomError) as caught:
        resolve("xwiki", "20261101", site.site)
    assert str(caught.value) == (
        "The dump of xwiki of 20261101 is not finished: 'articlesdump' is 'in-progress'; there are 20261020, "
        "20261001; give an earlier date, or xwiki:latest for the newest that is."
    )
    with pytest.raises(WordloomError) as caught:
        resolve("xwiki", "20261020", site.site)
    assert "it has none of articlesdump, articlesmultistreamdump, metacurrentdump" in str(caught.value)
    site.files["/xwiki/20251101/dumpstatus.json"] = None
    with pytest.raises(WordloomError) as caught:
        resolve("xwiki", "20251101", site.site)
    assert str(caught.value) == (
        "The dump site has no dump of xwiki of 20251101; there are 20261101, 20261020, 20261001; check "
        "--source, or give xwiki:latest."
    )
    with pytest.raises(
        WordloomError, match=r"no finished dump of the articles of xwiki; there are 20261101, "
    ):
        resolve("xwiki", "latest", site.site)
    site.files["/ywiki/"] = None
    with pytest.raises(WordloomError, match=r"the dump site has no wiki named 'ywiki'; check --source and"):
        resolve("ywiki", "latest", site.site)


@pytest.mark.parametrize("missing", ["sha1", "size", "url"])
def test_a_part_whose_sum_or_size_is_still_to_come_is_not_finished(site: Server, missing: str) -> None:
    told = files("a1.bz2", "a2.bz2")
    del told["a2.bz2"][missing]
    publish(site, {"20261101": {"articlesdump": {"status": "done", "files": told}}})
    with pytest.raises(
        WordloomError, match="not finished: the checksums of 'articlesdump' are not there yet"
    ):
        resolve("xwiki", "20261101", site.site)


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"jobs": 3}', b"{}", b"[" * 100_000, b"\xff"])
def test_a_page_that_is_no_status_file_is_one_sentence(site: Server, content: bytes) -> None:
    site.files["/xwiki/20261101/dumpstatus.json"] = content
    with pytest.raises(WordloomError, match="is no status file of a dump, it begins with"):
        resolve("xwiki", "20261101", site.site)


def test_a_busy_site_is_given_the_time_it_asks_for_and_a_cut_page_is_asked_for_again(site: Server) -> None:
    publish(site, {"20261101": {"articlesdump": DONE}})
    waits: list[float] = []
    site.script = [site.status(503), site.status(429, Retry_After="30"), site.cut(20)]
    assert isinstance(resolve("xwiki", "20261101", site.site, pause=waits.append), Release)
    assert waits == [1.0, 30.0, 4.0]
    site.script = [site.status(403)]
    with pytest.raises(WordloomError, match=r"the server answers 403 Forbidden; check --source and --site\."):
        resolve("xwiki", "20261101", site.site)
    with pytest.raises(UsageError, match=r"The dump site is 'ftp://x'; give an http\(s\) address"):
        resolve("xwiki", "20261101", "ftp://x")


def test_a_mirror_below_a_path_hands_out_its_own_files(site: Server) -> None:
    publish(site, {"20261101": {"articlesdump": DONE}})
    mirrored = f"{site.site}/mirror/of/dumps/"
    site.files["/mirror/of/dumps/xwiki/20261101/dumpstatus.json"] = site.files[
        "/xwiki/20261101/dumpstatus.json"
    ]
    (first, *_) = resolve("xwiki", "20261101", mirrored).parts
    assert first.url == f"{mirrored}xwiki/20261101/x-articles1.xml-p1p2.bz2"
