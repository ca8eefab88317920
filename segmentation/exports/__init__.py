"""What leaves as files: tables, FHIR, PDF, NIfTI, and the routes that give them."""
