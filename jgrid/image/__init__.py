"""Pictures: files, the task of fitting one, metrics."""
