"""Settings as TOML: what `--print-config` prints. Reads back as a config file, and shows no secret."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from server.settings.settings import Settings
from server.settings.sources import SECRETS, LoadedSettings, Origin, Source

_HEAD = "# The settings of this server. Behind each: what says so."


def settings_as_toml(loaded: LoadedSettings) -> str:
    """One line per setting; what cannot be written as a value is a comment."""
    return "\n".join([_HEAD, *(_line(name, loaded.settings, loaded.origins) for name in Settings.model_fields), ""])


def _line(name: str, settings: Settings, origins: Mapping[str, Origin]) -> str:
    origin = origins.get(name)
    source = Source.DEFAULT if origin is None else origin.source
    value: object = getattr(settings, name)
    if value is None:
        return f"# {name} is not set  # {source}"
    if origin is not None and origin.secret_file is not None:
        return f"{name}_file = {_string(str(origin.secret_file))}  # {source}"
    if name in SECRETS:
        return f"# {name} is set, and not shown  # {source}"
    return f"{name} = {_toml(value)}  # {source}"


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str() | Path():
            return _string(str(value))
        case tuple():
            items = cast("tuple[object, ...]", value)
            return f"[{', '.join(_toml(item) for item in items)}]"
        case _:
            raise TypeError(f"no setting is a {type(value).__name__}")


def _string(text: str) -> str:
    """TOML's basic strings are JSON's, but for the delete character and for surrogates."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
