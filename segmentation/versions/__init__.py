"""Versions of a result that readers make: corrections, reviews, restoring."""
