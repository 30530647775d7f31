"""The embedded engines: policy and PPM on torch, in the server's own process."""
