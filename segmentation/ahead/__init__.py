"""Done before anyone asks: automatic jobs, and images pulled ahead of their job."""
