"""Routes about the service itself: health, metrics, the API's description."""
