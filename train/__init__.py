"""Shrike's training floor: from ASVspoof protocols to model.pt."""
