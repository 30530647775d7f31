"""Policy and PPM on vLLM servers elsewhere."""
