"""Measurements of speed, memory and quality. Run as ``python -m benchmarks NAME [--quick]``."""
