"""Where settings come from: the command line over the environment (`RSTAR_*`) over a TOML file over the defaults.

pydantic-settings reads command line and environment. This module adds four things: a misspelt name is refused with the
nearest right one, every value has an origin for `--print-config`, a secret may come from a file, and no message shows a
secret. Everything is read once, at the start.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import CliImplicitFlag, CliSettingsSource, EnvSettingsSource

from server.settings.settings import PREFIX, Settings


class Source(StrEnum):
    """Where a value comes from."""

    CLI = "cli"
    """An option on the command line."""
    ENVIRONMENT = "environment"
    """A variable."""
    FILE = "file"
    """The TOML file."""
    DEFAULT = "default"
    """The declaration in `Settings`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the value of one setting was found."""

    source: Source
    name: str
    """The setting's name in that source: `--port`, `RSTAR_PORT`, `rstar.toml: port`."""
    secret_file: Path | None = None
    """The file that holds the value, where the source names a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSettings:
    """The settings, and where they were found."""

    settings: Settings
    origins: Mapping[str, Origin]
    """By setting; defaults have none."""
    print_config: bool
    """Whether the command line asks to print the settings and exit."""


class SettingsRefused(Exception):
    """The settings are not valid; one line per reason."""


class CommandLine(Settings):
    __doc__ = Settings.__doc__

    config_file: Path | None = None
    """TOML file of settings."""
    print_config: CliImplicitFlag[bool] = False
    """Print the settings as such a file, each with where it comes from and secrets left out, and exit."""
    policy_api_key_file: Path | None = None
    """File that holds policy_api_key."""
    ppm_api_key_file: Path | None = None
    """File that holds ppm_api_key."""
    api_keys_file: Path | None = None
    """File that holds api_keys."""
    redis_url_file: Path | None = None
    """File that holds redis_url."""


SECRETS = frozenset(name for name, field in Settings.model_fields.items() if "SecretStr" in repr(field.annotation))
"""Settings that are never shown. They have no option, since other users of the machine can read a command line."""
ADDRESSES = frozenset({"cors_origins", "otlp_endpoint", "policy_url", "ppm_url", "redis_url"})
"""Settings that may hold a password, most of them by mistake: a refused value is not quoted."""


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


_FLAGS = ("-h", "--help", "--print-config", "--no-print-config")
_OPTIONS = tuple(_option(name) for name in CommandLine.model_fields if name not in {"print_config", *SECRETS})
"""Options that take one value each."""
_VARIABLES = tuple(PREFIX + name.upper() for name in CommandLine.model_fields if name != "print_config")
_KEYS = tuple(name for name in CommandLine.model_fields if name not in {"config_file", "print_config"})
"""Names that a TOML file may set."""

_NUMBER = re.compile(r"-\d+|-\d*\.\d+")
"""Arguments that argparse takes for a value although they begin as an option does."""
_ADDRESS_SIGNS = ("://", "@")
"""Signs of an address that was given to the wrong setting."""


def load_settings(arguments: Sequence[str] = ()) -> LoadedSettings:
    """Read all sources. `--help` prints and exits. Raises `SettingsRefused`."""
    _check_options(arguments)
    options = CliSettingsSource[Any](CommandLine, cli_parse_args=list(arguments))()
    check_variables(os.environ)
    variables = EnvSettingsSource(CommandLine)()
    named = options.get("config_file") or variables.get("config_file")
    path = None if named is None else Path(named)
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    # Later sources replace the values of earlier ones.
    for source, found in (
        (Source.FILE, {} if path is None else _read_toml(path)),
        (Source.ENVIRONMENT, variables),
        (Source.CLI, options),
    ):
        for name in Settings.model_fields:
            origin = _origin(name, found, source=source, config_file=path)
            if origin is not None:
                origins[name] = origin
                values[name] = found[name] if origin.secret_file is None else _read_secret(origin.secret_file, origin)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        lines = (_reason(detail, origins) for detail in error.errors(include_url=False))
        raise SettingsRefused("\n".join(lines)) from None
    return LoadedSettings(settings=settings, origins=origins, print_config=bool(options.get("print_config")))


def settings_as_toml(loaded: LoadedSettings) -> str:
    """The settings as `--print-config` prints them, one per line. Reads back as a config file; shows no secret."""
    lines = ["# The settings of this server, each with where it comes from."]
    for name in Settings.model_fields:
        origin = loaded.origins.get(name)
        value: object = getattr(loaded.settings, name)
        if value is None:
            line = f"# {name} is not set"
        elif origin is not None and origin.secret_file is not None:
            line = f"{name}_file = {_toml(origin.secret_file)}"
        elif name in SECRETS:
            line = f"# {name} is set, and not shown"
        else:
            line = f"{name} = {_toml(value)}"
        lines.append(f"{line}  # {Source.DEFAULT if origin is None else origin.source}")
    return "\n".join([*lines, ""])


def check_variables(environment: Mapping[str, str]) -> None:
    """Raise `SettingsRefused` for a variable with our prefix that is misspelt, or empty where a secret belongs."""
    given = [name for name in sorted(environment) if name.upper().startswith(PREFIX)]
    lines = [
        f"{name} is set in the environment, but there is no such setting; the nearest is "
        f"{_nearest(name.upper(), _VARIABLES)}"
        for name in given
        if name.upper() not in _VARIABLES
    ]
    # A server without keys is open to everybody: that must not happen through an empty variable.
    secrets = {PREFIX + name.upper() + suffix for name in SECRETS for suffix in ("", "_FILE")}
    lines += [
        f"{name} is set and empty; unset it, or give it its secret"
        for name in given
        if name.upper() in secrets and not environment[name]
    ]
    if lines:
        raise SettingsRefused("\n".join(lines))


def _check_options(arguments: Sequence[str]) -> None:
    """Raise `SettingsRefused` for what argparse would refuse too, but would quote, secrets included."""
    lacking: str | None = None
    for position, argument in enumerate(arguments, start=1):
        name, equals, _ = argument.partition("=")
        if lacking is not None:
            if argument.startswith("-") and not _NUMBER.fullmatch(argument):
                raise SettingsRefused(f"{lacking} lacks its value; one that begins with - is written {lacking}=VALUE")
            lacking = None
        elif name in _OPTIONS:
            lacking = None if equals else name
        elif argument.startswith("--") and name not in _FLAGS:
            raise SettingsRefused(_unknown_option(name))
        elif argument not in _FLAGS:
            raise SettingsRefused(f"argument {position} of the command line is neither an option nor the value of one")
    if lacking is not None:
        raise SettingsRefused(f"{lacking} lacks its value")


def _unknown_option(name: str) -> str:
    """Why the option is refused. Does not quote a value that follows its option without a space."""
    spelt = name.lower().replace("_", "-")
    for setting in sorted(SECRETS):
        if spelt.startswith(_option(setting)):
            return (
                f"{_option(setting)} is no option, because others can read a command line; set "
                f"{PREFIX}{setting.upper()}, or {_option(setting)}-file to the path of a file that holds the secret"
            )
    shown = next((f"{option}..." for option in map(_option, ADDRESSES) if spelt.startswith(option)), name)
    return f"there is no option {shown}; the nearest is {_nearest(spelt, [*_OPTIONS, *_FLAGS])}"


def _nearest(name: str, valid: Sequence[str]) -> str:
    (nearest,) = difflib.get_close_matches(name, valid, n=1, cutoff=0.0)
    return nearest


def _read_toml(path: Path) -> Mapping[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsRefused(f"the config file {path} cannot be read: {os.strerror(error.errno or 0)}") from None
    except ValueError as error:
        raise SettingsRefused(f"the config file {path} is not TOML: {error}") from None
    unknown = [name for name in values if name not in _KEYS]
    if unknown:
        lines = (f"{path}: there is no setting {name}; the nearest is {_nearest(name, _KEYS)}" for name in unknown)
        raise SettingsRefused("\n".join(lines))
    return values


def _origin(name: str, found: Mapping[str, Any], *, source: Source, config_file: Path | None) -> Origin | None:
    """None where the source does not set it."""

    def in_source(name: str) -> str:
        spellings = {Source.CLI: _option(name), Source.ENVIRONMENT: PREFIX + name.upper()}
        return spellings.get(source, f"{config_file}: {name}")

    file_name = f"{name}_file"
    if name not in SECRETS or file_name not in found:
        return Origin(source=source, name=in_source(name)) if name in found else None
    if name in found:
        raise SettingsRefused(f"{in_source(name)} and {in_source(file_name)} are both set; set one of them")
    if not isinstance(found[file_name], str):
        kind = type(found[file_name]).__name__
        raise SettingsRefused(f"{in_source(file_name)}: must be the path of a file, got a value of type {kind}")
    return Origin(source=source, name=in_source(file_name), secret_file=Path(found[file_name]))


def _read_secret(path: Path, origin: Origin) -> str:
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise SettingsRefused(f"{origin.name}: {path} cannot be read: {os.strerror(error.errno or 0)}") from None
    except UnicodeDecodeError:
        raise SettingsRefused(f"{origin.name}: {path} is not text in UTF-8") from None
    if not secret:
        raise SettingsRefused(f"{origin.name}: {path} is empty")
    return secret


def _reason(detail: ErrorDetails, origins: Mapping[str, Origin]) -> str:
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if not detail["loc"]:
        return message
    name = str(detail["loc"][0])
    if name in ADDRESSES and len(detail["loc"]) > 1:
        return f"{origins[name].name}: {message}, see number {int(detail['loc'][1]) + 1}"
    given = repr(detail["input"])
    is_hidden = name in SECRETS | ADDRESSES or any(sign in given for sign in _ADDRESS_SIGNS)
    return f"{origins[name].name}: {message}" + ("" if is_hidden else f", got {given}")


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str() | Path():
            # TOML's basic strings are JSON's, except for the delete character.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
        case tuple():
            return f"[{', '.join(_toml(item) for item in cast('tuple[object, ...]', value))}]"
        case _:
            raise TypeError(f"no setting is a {type(value).__name__}")
