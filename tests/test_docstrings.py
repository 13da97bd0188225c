"""Docstrings of installed packages, read without importing them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cluster.errors import UsageError
from ingest import docstrings
from ingest.docstrings import Described, Source, documentation


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "loomdemo"
    files = {
        "__init__.py": "raise SystemExit('imported')",
        "b/__init__.py": "",
        "b/c.py": "",
        "a.py": "",
        "tests/test_a.py": "",
        "a_test.py": "",
        "_vendor/other.py": "",
        "not-a-name.py": "",
        "data.txt": "",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "broken.py").symlink_to(root / "nowhere.py")
    monkeypatch.syspath_prepend(tmp_path)
    return root


def read(code: str | bytes) -> docstrings.ModuleDocumentation | None:
    return documentation(Source("p", "p.m", Path("m.py")), code.encode() if isinstance(code, str) else code)


def test_modules_are_found_by_name_and_nothing_is_imported(package: Path) -> None:
    found = [source.title for source in docstrings.sources("loomdemo")]
    assert found == ["loomdemo", "loomdemo.a", "loomdemo.b", "loomdemo.b.c", "loomdemo.broken"]
    assert "loomdemo" not in sys.modules


def test_a_file_that_cannot_be_read_is_empty(package: Path) -> None:
    assert docstrings.read_source(Source("loomdemo", "loomdemo.broken", package / "broken.py")) == b""


def test_the_standard_library_is_a_package_without_the_installed_ones() -> None:
    found = {source.title for source in docstrings.sources("python")}
    assert {"json", "json.decoder", "email.message"} <= found
    assert not any("site-packages" in title or title.startswith("test") for title in found)
    assert docstrings.version_of("python").startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")


def test_public_docstrings_come_in_the_order_of_the_source() -> None:
    module = read(
        '"""M."""\n'
        "class B:\n    '''B says.'''\n    def __init__(self):\n        '''Makes.'''\n"
        "    async def run(self):\n        '''Runs.'''\n        def inner():\n            '''Not public.'''\n"
        "    def silent(self): pass\n    def _own(self):\n        '''Own.'''\n"
        "if True:\n    def a():\n        '''A says.'''\n"
        "def number():\n    42\n"
    )
    assert module is not None
    assert module.docstring == "M." and module.silent == 2 and module.lines == 18
    assert module.described == (
        Described("B", "class", "B says."),
        Described("B.__init__", "function", "Makes."),
        Described("B.run", "function", "Runs."),
        Described("a", "function", "A says."),
    )


@pytest.mark.parametrize(
    "code", ["print 'python 2'", b"\xff\xfe\x00", b"# -*- coding: no-such -*-\n'x'", b"a\x00b", "(" * 5000]
)
def test_odd_files_are_passed_over(code: str | bytes) -> None:
    assert read(code) is None


def test_half_a_surrogate_pair_is_dropped() -> None:
    module = read(r'"""a \ud800 b"""')
    assert module is not None and module.docstring == "a  b"


def test_files_with_little_documentation_are_not_parsed() -> None:
    assert not docstrings.worth_parsing(b'"""short"""')
    assert docstrings.worth_parsing(b'"""' + b"long " * 300 + b'"""\nx = 1\n')
    assert not docstrings.worth_parsing(b'"""' + b"long " * 300 + b'"""\n' + b"x = 1\n" * 5000)


def test_a_package_that_is_not_installed_is_one_sentence() -> None:
    for ask in (docstrings.version_of, docstrings.folder_of):
        with pytest.raises(UsageError, match="nosuchpackage"):
            ask("nosuchpackage")
