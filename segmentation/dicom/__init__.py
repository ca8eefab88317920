"""The DICOM objects we write, one module an object."""
