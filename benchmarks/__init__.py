"""What is measured, and how. Run as ``python -m benchmarks NAME [--quick]``."""
