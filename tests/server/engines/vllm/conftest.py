"""The stand-in for vLLM, for tests that ask for it."""

from tests.server.engines.vllm.fake_llm import stand_in_for_vllm

__all__ = ["stand_in_for_vllm"]
