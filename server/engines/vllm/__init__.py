"""Policy and PPM as two vLLM engines beside the server."""
