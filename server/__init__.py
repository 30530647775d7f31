"""An inference server for mathematics: runs PPM-guided searches on models and a sandbox, and serves them over HTTP."""
