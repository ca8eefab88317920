"""The login page: a plain form, in English and French."""
