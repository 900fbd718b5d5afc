"""Experiments as runnable configurations."""
