"""Figures, text graphics and HTML pages."""
