"""Which files steps may see."""

import os
import sys
from pathlib import Path

from sandbox.mounts import VisibleFolders, find_folders


def test_only_python_and_three_packages_are_visible() -> None:
    folders = find_folders()
    assert folders.packages.keys() == {"mpmath", "numpy", "sympy"}
    assert str(Path(os.__file__).parent) in folders.standard
    pieces = set(folders.readable())
    here = str(Path(__file__).resolve())
    packages = [path for path in sys.path if path.endswith("site-packages")]
    assert not any(here.startswith(piece + "/") for piece in pieces)
    assert not pieces & set(packages)


def test_packages_in_hidden_folders_stay_visible(tmp_path: Path) -> None:
    library = tmp_path / "python"
    package = library / "site-packages" / "sympy"
    package.mkdir(parents=True)
    (library / "site-packages" / "secret").mkdir()
    (library / "json").mkdir()
    folders = VisibleFolders(standard=(str(library),), packages={"sympy": str(package)}, others=())
    assert folders.paths() == [str(library), str(package)]
    assert folders.hidden() == [str(library / "site-packages")]
    assert folders.readable() == [str(library / "json"), str(package)]


def test_a_path_through_a_link_is_an_alias(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    folders = VisibleFolders(standard=(str(tmp_path / "link"),), packages={}, others=())
    assert folders.paths() == [str((tmp_path / "real").resolve())]
    assert folders.aliases() == [str(tmp_path / "link")]
