"""All of a file, or what was there before."""

from __future__ import annotations

import pytest

from runtime.atomically import atomically


def test_it_takes_its_name_at_the_end(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomically(path) as part:
        part.write_text("new")
        assert part.parent == tmp_path
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail_half_way():
        with atomically(path) as part:
            part.write_text("half of")
            raise error

    with pytest.raises(type(error)):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_can_not_be_taken_leaves_nothing(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"), atomically(tmp_path / "folder") as part:
        part.write_text("a file over a folder")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]
