"""What one application adds: its data, its loss, its metrics, its pictures."""
