"""What the front end of the former system calls, and what its database held."""
