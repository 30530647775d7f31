"""Fixture of the stand-in for vLLM."""

from tests.server.engines.vllm.fake_llm import stand_in_for_vllm

__all__ = ["stand_in_for_vllm"]
