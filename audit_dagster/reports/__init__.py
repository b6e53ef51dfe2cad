"""Rows become documents: pure functions, no connection and no file."""
