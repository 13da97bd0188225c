"""Pages without an XML parser, where they are written as MediaWiki writes them.

An export's pages are one form filled in: the same elements in the same order, no comments, no CDATA, no
references beyond a handful. What has that form exactly is read here, in a fifth of a parser's time; whatever
differs in one byte is refused and left to the parser, which judges it. So both must agree on all that is
read here, which tests hold them to: the form is narrow on purpose and holds nothing that is not well-formed.
"""

from __future__ import annotations

import re

from ingest.page import Page

LONGEST_FORM = 1 << 16  # bytes of a page beside its text
LONGEST_TEXT = 9_000_000  # bytes; libxml2 refuses those beyond 10 million

# The references that MediaWiki writes, and an apostrophe's; `ingest.character_data` knows the same.
_REFERENCES = (
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&quot;", '"'),
    ("&#039;", "'"),
    ("&#39;", "'"),
    ("&#x27;", "'"),
    ("&amp;", "&"),  # the last: what it gives begins no other
)
# What stands between tags and in attributes.
_REFERENCE = rb"&(?:%b)" % "|".join(reference[1:] for reference, _ in _REFERENCES).encode()
_CONTENT = rb"[^<>&\x00-\x08\x0b-\x1f]*+(?:%b[^<>&\x00-\x08\x0b-\x1f]*+)*+" % _REFERENCE
_VALUE = rb'[^<>&"\x00-\x1f]*+(?:%b[^<>&"\x00-\x1f]*+)*+' % _REFERENCE


def _form(*lines: bytes) -> re.Pattern[bytes]:
    """The lines one after the other, with white space between; C is content, V an attribute's value."""
    written = b"".join(rb"[ \n\t]*+" + line for line in lines)
    return re.compile(written.replace(b"=C=", _CONTENT).replace(b"=V=", _VALUE))


_HEAD = _form(
    rb"(?P<page><page>)",
    rb"<title>(?P<title>=C=)</title>",
    rb"<ns>(?P<ns>-?[0-9]{1,9})</ns>",
    rb"<id>(?P<id>[0-9]{1,18})</id>",
    rb'(?:<redirect title="(?P<redirect>(?!")=V=)" ?/>)?+',
    rb"(?:<restrictions>=C=</restrictions>)?+",
    rb"<revision>",
    rb"<id>(?P<revision>[0-9]{1,18})</id>",
    rb"(?:<parentid>[0-9]++</parentid>)?+",
    rb"<timestamp>=C=</timestamp>",
    rb'(?:<contributor deleted="deleted" ?/>|<contributor>',
    rb"(?:<ip>=C=</ip>|<username>=C=</username>",
    rb"<id>=C=</id>)",
    rb"</contributor>)",
    rb"(?:<minor ?/>)?+",
    rb'(?:<comment>=C=</comment>|<comment deleted="deleted" ?/>)?+',
    rb"(?:<origin>-?[0-9]++</origin>)?+",
    rb"(?:<model>(?P<model>=C=)</model>)?+",
    rb"(?:<format>=C=</format>)?+",
    rb'<text(?P<space> xml:space="preserve")?+(?: bytes="-?[0-9]++")?+(?: sha1="[0-9a-z]*+")?+'
    rb'(?P<deleted> deleted="deleted")?+(?(space)|(?: xml:space="preserve")?+)(?P<none> ?/)?+>',
)
_TAIL = _form(
    rb"(?:<sha1>[0-9a-z]*+</sha1>|<sha1 ?/>)?+",
    rb"(?:<model>(?P<model>=C=)</model>)?+",
    rb"(?:<format>=C=</format>)?+",
    rb"</revision>",
    rb"</page>",
)
_END = b"</text>"


class FormReader:
    """Reads the pages that have the form, one after the other; not for several threads."""

    def __init__(self) -> None:
        # numba takes 0.3 s to load, and most that import this module never read a page.
        from ingest.character_data import Characters

        self._content = Characters()

    def read(self, xml: bytes, begin: int) -> tuple[Page, int] | None:
        """The page that begins at `begin`, or behind white space there, and where it ends; None where the
        next thing is no page of the form. Quick for one `xml` again and again."""
        head = _HEAD.match(xml, begin)
        if head is None:
            return None
        start, at = head.start("page"), head.end()
        text, end = b"", at
        if head["none"] is None:
            content = self._content.read(xml, at)
            if content is None or not xml.startswith(_END, content[1]):
                return None
            text, end = content[0], content[1] + len(_END)
        tail = _TAIL.match(xml, end)
        if tail is None or at - start + tail.end() - end > LONGEST_FORM or end - at > LONGEST_TEXT:
            return None
        for form in (head[0], tail[0]):
            if not form.isascii() and not _valid(form):
                return None
        redirect, model = head["redirect"], tail["model"] if tail["model"] is not None else head["model"]
        page = Page(
            page_id=int(head["id"]),
            revision_id=int(head["revision"]),
            namespace=int(head["ns"]),
            title=_plain(head["title"]),
            utf8=text,
            redirect=None if redirect is None else _plain(redirect),
            model=_plain(model or b"") or "wikitext",
            deleted=head["deleted"] is not None,
            size=tail.end() - start,
        )
        return page, tail.end()


def _valid(data: bytes) -> bool:
    """Whether these are UTF-8 of characters that XML has."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return "\ufffe" not in text and "\uffff" not in text


def _plain(content: bytes) -> str:
    text = content.decode()
    if "&" in text:
        for reference, character in _REFERENCES:
            text = text.replace(reference, character)
    return text
