"""The network and everything that needs torch; knows no web, archive or database."""
