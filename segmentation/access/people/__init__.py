"""Keeping users (administrators) and one's own API tokens."""
