"""Pages of a mapped file go, and those that somebody wrote in stay."""

from __future__ import annotations

import mmap
import sys

import pytest

from runtime.machine.mapped_weights import drop_clean_pages, unchanged

PAGES = 64
SMAPS = """\
1000-3000 rw-p 00000000 fe:00 11 /x/decoder.data
Size:                  8 kB
Rss:                   8 kB
Anonymous:             0 kB
VmFlags: rd wr mr mw me ac
3000-4000 rw-p 00000000 fe:00 11 /x/decoder.data
Rss:                   4 kB
Anonymous:             4 kB
4000-5000 rw-p 00000000 fe:00 11 /x/decoder.data
Rss:                   0 kB
Anonymous:             0 kB
5000-6000 rw-p 00000000 fe:00 12 /x/other.data
Rss:                   4 kB
Anonymous:             0 kB
"""


def test_only_resident_unchanged_pages_of_the_file_are_found():
    assert list(unchanged(SMAPS, "/x/decoder.data")) == [(0x1000, 0x3000, 8192)]
    assert list(unchanged(SMAPS, "/x/decoder")) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is done")
@pytest.mark.parametrize("written", [False, True])
def test_pages_go_unless_they_were_written(tmp_path, written):
    path = tmp_path / "decoder.data"
    path.write_bytes(b"a" * PAGES * mmap.PAGESIZE)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        assert mapped[:].count(b"a") == len(mapped)
        if written:
            mapped[5] = ord("b")
        freed = drop_clean_pages(path)
        assert freed == (0 if written else len(mapped))
        assert mapped[5] == ord("b" if written else "a")
        assert mapped[-1] == ord("a")
