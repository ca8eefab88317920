"""The model host: manifest, registry and one adapter a kind of model."""
