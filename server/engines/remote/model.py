"""The model behind a remote server: found, named and compared with the tokenizer at hand, before anything is asked of
it. Reads answers; keeps none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from search.format import SPECIAL_TOKENS, Segment
from server.engines.remote.client import RemoteClient
from server.engines.remote.errors import RemoteMismatch
from server.engines.remote.payloads import objects
from server.engines.rendering import END_OF_TEXT, StepTokenizer

_TELLING_TEXT = "".join((*SPECIAL_TOKENS, END_OF_TEXT)) + "\n# Add 12 and 30\ntotal = 12 + 30\n"
"""Its tokens say the same to two tokenizers only if these share the special tokens, and most likely all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteModel:
    """One of the models that a server serves."""

    name: str
    context_tokens: int
    model_id: str
    """Name and server. Serve changed weights under a new name: nothing here can see what a name stands for."""


async def find_model(client: RemoteClient, name: str | None) -> RemoteModel:
    """The model of that name, or the only one. Raises `RemoteMismatch`, and whatever the client raises."""
    cards = objects(await client.get("/v1/models"), "data", where=f"{client.url}/v1/models")
    by_name = {str(card.get("id")): card for card in cards}
    # Adapters are listed beside the model that they adapt; asked for by no name, the model itself is meant.
    own = [served for served, card in by_name.items() if card.get("parent") is None]
    if name is None and len(own) != 1:
        raise RemoteMismatch(f"{client.url} serves {', '.join(own) or 'no model'}; say by name which one to use")
    chosen = own[0] if name is None else name
    if chosen not in by_name:
        raise RemoteMismatch(f"{client.url} serves {', '.join(by_name) or 'no model'}, not {chosen}")
    context_tokens = by_name[chosen].get("max_model_len")
    if not isinstance(context_tokens, int):
        raise RemoteMismatch(f"{client.url} does not tell the context length of {chosen}; is it a vLLM server?")
    return RemoteModel(
        name=chosen, context_tokens=context_tokens, model_id=f"{chosen}@{urlsplit(client.url).netloc or client.url}"
    )


def telling_tokens(tokenizer: StepTokenizer) -> Mapping[str, Sequence[int]]:
    """Tokens that tell tokenizers of the step format apart, and what they say."""
    ids = tokenizer.encode(Segment(_TELLING_TEXT, is_trusted=True))
    return {tokenizer.decode_step(ids): ids}


async def check_tokens(client: RemoteClient, model: RemoteModel, telling: Mapping[str, Sequence[int]]) -> None:
    """Raise `RemoteMismatch` unless the tokens say to the server what they say here.

    The other way round proves less: transformers may cut a text into tokens otherwise than `tokenizer.json` does, and
    nothing is ever sent as text.
    """
    for text, ids in telling.items():
        found = (await client.post("/detokenize", {"model": model.name, "tokens": list(ids)})).get("prompt")
        if found != text:
            raise RemoteMismatch(
                f"{client.url} reads tokens as {found!r} that say {text!r} here; give as RSTAR_POLICY_MODEL and "
                f"RSTAR_PPM_MODEL the folders of the models served ({model.name} here)"
            )
