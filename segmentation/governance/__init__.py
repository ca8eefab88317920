"""Governance: what was done and by whom, how long patients are kept, erasure."""
