"""What every HTTP route shares: JSON in, problems out, headers, logs, metrics."""
