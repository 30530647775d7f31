# pyright: basic
"""The chat frame: a model's own chat template around the few-shot prompt.

The problem itself never goes through the template: it is put in afterwards, as untrusted text.
"""

from pathlib import Path as FilePath

import jinja2
from transformers import AutoTokenizer

from search.format import CODE, LEAD_IN
from server.engines.errors import CheckpointError
from server.engines.fewshot.prompt import Frame, conversation, plain_frame

_PLACEHOLDER = "THE-PROBLEM-STANDS-HERE"


def frame_of(folder: FilePath) -> Frame:
    """By the template in the model's folder, or the plain one where there is none. Raises `CheckpointError`."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder}: transformers cannot read the tokenizer ({error})") from error
    if not tokenizer.chat_template:
        return plain_frame()
    messages = [
        {"role": "user" if turn.is_user else "assistant", "content": turn.text} for turn in conversation(_PLACEHOLDER)
    ]
    try:
        # A model that thinks first would use up its tokens before the first step; other templates ignore the switch.
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
    except jinja2.TemplateError as error:
        raise CheckpointError(
            f"{folder}: the chat template refuses a conversation of user and model ({error})"
        ) from error
    before, found, after = str(text).partition(_PLACEHOLDER)
    if not found or _PLACEHOLDER in after:
        raise CheckpointError(f"{folder}: the chat template does not show the problem exactly once")
    return Frame(before=before, after=f"{after}{LEAD_IN}{CODE}")
