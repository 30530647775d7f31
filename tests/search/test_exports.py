"""The public names of the package."""

import search


def test_every_exported_name_exists_once() -> None:
    assert all(hasattr(search, name) for name in search.__all__)
    assert len(set(search.__all__)) == len(search.__all__)
