"""Outlines made elsewhere, taken over as results: RTSTRUCT and foreign SEG."""
