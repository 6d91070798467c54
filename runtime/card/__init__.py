"""Model cards: model.json, its schema, and checksums."""
