"""The parts that a search calls: policy, PPM, sandbox and answer checker, opened, watched and restarted."""
