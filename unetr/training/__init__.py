"""Training: synthetic heads, patches, the Lightning module, evaluation and export.

Nothing here is loaded by the service. Importing the package itself loads no torch.
"""
