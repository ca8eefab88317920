"""Following a patient over visits: the response criteria, and what leads to them."""
