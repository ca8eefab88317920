"""Who may do what: users, sessions, tokens and roles."""
