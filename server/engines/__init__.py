"""Policy and PPM behind search's Protocols."""
