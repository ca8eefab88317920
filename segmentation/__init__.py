"""One study in, one clinical answer out."""
