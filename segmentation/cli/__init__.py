"""The command line, a thin layer over the same code as the service."""
