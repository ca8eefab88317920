"""The database: SQLAlchemy models, engine and one module of queries a subject."""
