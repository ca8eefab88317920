"""Engines: ways to compute one UNETR, behind one interface.

``selection`` picks one, ``torch_engine`` and ``openvino_engine`` load a network. Only
those two import their library, and only when they are used.
"""
