"""Settings' sources: the command line over the environment (`RSTAR_*`) over a TOML file over the defaults.

Read once, at the start. Nothing misspelt or out of range gets past the reading, and no secret gets into a message.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

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
    """Nobody said anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What said a setting's value."""

    source: Source
    spelling: str
    """The setting as the source spells it: `--port`, `RSTAR_PORT`, `rstar.toml: port`."""
    secret_file: Path | None = None
    """Holds the value, where the source only says where to find it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSettings:
    """The settings, and how they came about."""

    settings: Settings
    origins: Mapping[str, Origin]
    """Of all that are not defaults."""
    print_config: bool
    """Whether the command line asks to print them, and nothing else."""


class SettingsRefused(Exception):
    """The settings make no sense; one line per reason."""


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


SECRETS = frozenset(name for name, field in Settings.model_fields.items() if "SecretStr" in repr(field.annotation))
"""Settings that are never shown. Each may also come from a file: `<name>_file` says which."""
ADDRESSES = frozenset({"cors_origins", "otlp_endpoint", "policy_url", "ppm_url"})
"""Settings that must not hold a password, and may by mistake: one that is refused is not quoted."""


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


_FLAGS = ("-h", "--help", "--print-config", "--no-print-config")
_VALUED = tuple(_option(name) for name in CommandLine.model_fields if name != "print_config")
"""Options that take one value each."""

_Values = Mapping[str, Any]

_MISSPELT_CHARS = 2
"""So many beyond the name of a secret's option are a slip of the finger; more may be the secret."""
_NUMBER = re.compile(r"-\d+|-\d*\.\d+")
"""What argparse takes for a value although it begins as an option does."""
_ADDRESS_SIGNS = ("://", "@")
"""What holds one may be an address that went to the wrong setting."""


def load_settings(arguments: Sequence[str] = ()) -> LoadedSettings:
    """Raises `SettingsRefused`; `--help` prints and exits."""
    _refuse_misspelt_options(arguments)
    options = CliSettingsSource[Any](CommandLine, cli_parse_args=list(arguments))()
    refuse_misspelt(os.environ)
    _refuse_empty_secrets(os.environ)
    variables = EnvSettingsSource(CommandLine)()
    named = options.get("config_file") or variables.get("config_file")
    path = None if named is None else Path(named)
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    # The last to speak wins.
    for source, layer in (
        (Source.FILE, {} if path is None else _read_file(path)),
        (Source.ENVIRONMENT, variables),
        (Source.CLI, options),
    ):
        for name in Settings.model_fields:
            origin = _origin(name, layer, source=source, config_file=path)
            if origin is not None:
                origins[name] = origin
                values[name] = layer[name] if origin.secret_file is None else _read_secret(origin.secret_file, origin)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        lines = (_line(detail, origins) for detail in error.errors(include_url=False))
        raise SettingsRefused("\n".join(lines)) from None
    return LoadedSettings(settings=settings, origins=origins, print_config=bool(options.get("print_config")))


def refuse_misspelt(environment: Mapping[str, str]) -> None:
    """Raise `SettingsRefused` for a variable with our prefix that nothing reads."""
    valid = [PREFIX + name.upper() for name in CommandLine.model_fields if name != "print_config"]
    given = [name for name in sorted(environment) if name.upper().startswith(PREFIX)]
    _refuse_unknown(
        {name: name.upper() for name in given},
        valid,
        "{} is set in the environment, but there is no such setting; the nearest is {}",
    )


def _refuse_misspelt_options(arguments: Sequence[str]) -> None:
    """Raise `SettingsRefused` for what argparse would refuse too, but with all that stands there, secrets included."""
    lacking: str | None = None
    for position, argument in enumerate(arguments, start=1):
        name, equals, _ = argument.partition("=")
        if lacking is not None:
            if argument.startswith("-") and not _NUMBER.fullmatch(argument):
                raise SettingsRefused(f"{lacking} lacks its value; one that begins with - is written {lacking}=VALUE")
            lacking = None
        elif name in _VALUED:
            lacking = None if equals else name
        elif argument.startswith("--") and name not in _FLAGS:
            nearest = _nearest(name.lower().replace("_", "-"), [*_VALUED, *_FLAGS])
            raise SettingsRefused(f"there is no option {_shown_option(name)}; the nearest is {nearest}")
        elif argument not in _FLAGS:
            raise SettingsRefused(f"argument {position} of the command line is neither an option nor the value of one")
    if lacking is not None:
        raise SettingsRefused(f"{lacking} lacks its value")


def _shown_option(name: str) -> str:
    """Cut off where a secret may follow its option without a space."""
    for option in map(_option, sorted(SECRETS | ADDRESSES)):
        if name.lower().replace("_", "-").startswith(option) and len(name) > len(option) + _MISSPELT_CHARS:
            return f"{option}..."
    return name


def _refuse_empty_secrets(environment: Mapping[str, str]) -> None:
    """A variable that was to hold a secret and is empty: a server without keys is open, and must be so on purpose."""
    names = {PREFIX + name.upper() + suffix for name in SECRETS for suffix in ("", "_FILE")}
    empty = [name for name in sorted(environment) if name.upper() in names and not environment[name]]
    if empty:
        raise SettingsRefused("\n".join(f"{name} is set and empty; unset it, or give it its secret" for name in empty))


def _refuse_unknown(given: Mapping[str, str], valid: Iterable[str], sentence: str) -> None:
    """`given`: names as they were given, and as they are compared."""
    valid = list(valid)
    lines: list[str] = []
    for name, compared in given.items():
        if compared not in valid:
            lines.append(sentence.format(name, _nearest(compared, valid)))
    if lines:
        raise SettingsRefused("\n".join(lines))


def _nearest(name: str, valid: Sequence[str]) -> str:
    (nearest,) = difflib.get_close_matches(name, valid, n=1, cutoff=0.0)
    return nearest


def _read_file(path: Path) -> _Values:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsRefused(f"the config file {path} cannot be read: {_reason(error)}") from None
    except ValueError as error:
        raise SettingsRefused(f"the config file {path} is not TOML: {error}") from None
    valid = [name for name in CommandLine.model_fields if name not in {"config_file", "print_config"}]
    braces_doubled = str(path).replace("{", "{{").replace("}", "}}")
    _refuse_unknown(
        {name: name for name in values}, valid, braces_doubled + ": there is no setting {}; the nearest is {}"
    )
    return values


def _origin(name: str, layer: _Values, *, source: Source, config_file: Path | None) -> Origin | None:
    """None where the layer says nothing of a setting."""

    def spelling(name: str) -> str:
        match source:
            case Source.CLI:
                return _option(name)
            case Source.ENVIRONMENT:
                return PREFIX + name.upper()
            case Source.FILE | Source.DEFAULT:
                return f"{config_file}: {name}"

    file_name = f"{name}_file"
    if name in SECRETS and file_name in layer:
        if name in layer:
            raise SettingsRefused(f"{spelling(name)} and {spelling(file_name)} are both set; set one of them")
        if not isinstance(layer[file_name], str):
            kind = type(layer[file_name]).__name__
            raise SettingsRefused(f"{spelling(file_name)}: must be the path of a file, got a value of type {kind}")
        return Origin(source=source, spelling=spelling(file_name), secret_file=Path(layer[file_name]))
    return Origin(source=source, spelling=spelling(name)) if name in layer else None


def _read_secret(path: Path, origin: Origin) -> str:
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise SettingsRefused(f"{origin.spelling}: {path} cannot be read: {_reason(error)}") from None
    except UnicodeDecodeError:
        raise SettingsRefused(f"{origin.spelling}: {path} is not text in UTF-8") from None
    if not secret:
        raise SettingsRefused(f"{origin.spelling}: {path} is empty")
    return secret


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0)


def _line(detail: ErrorDetails, origins: Mapping[str, Origin]) -> str:
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if not detail["loc"]:
        return message
    name = str(detail["loc"][0])
    return f"{origins[name].spelling}: {message}{_shown_value(name, detail)}"


def _shown_value(name: str, detail: ErrorDetails) -> str:
    if name in ADDRESSES and len(detail["loc"]) > 1:
        return f", see number {int(detail['loc'][1]) + 1}"
    shown = repr(detail["input"])
    is_hidden = name in SECRETS | ADDRESSES or any(sign in shown for sign in _ADDRESS_SIGNS)
    return "" if is_hidden else f", got {shown}"
