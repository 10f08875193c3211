"""Numerical kernels: pure functions from arrays to arrays."""
