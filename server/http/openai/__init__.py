"""The OpenAI API in front of the same searches: chat completions and models."""
