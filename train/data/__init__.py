"""Corpora, protocols, feature caches and datasets."""
