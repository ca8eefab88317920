"""How a waiting job reaches a worker: by polling the database, or by a broker.

The job's row is the truth either way, and the claim with its fence decides who works on
it; a message of the broker only says which job to claim. Without ``METIA_BROKER_URL``
nothing of Celery is loaded. ``source`` is the only module that workers need, ``notice``
the only one the web needs.
"""
