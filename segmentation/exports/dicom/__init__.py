"""DICOM objects of a result by HTTP."""
